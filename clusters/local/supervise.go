package local

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// How long a component that ended waits for its next start: as the kubelet has it,
// k8s.io/kubernetes@v1.37.0 pkg/kubelet/kubelet.go (backOffPeriod,
// MaxCrashLoopBackOff) and k8s.io/client-go@v0.37.0 util/flowcontrol/backoff.go (an
// entry is forgotten after twice the longest wait). The first restart comes at once
// there, that is when the kubelet has noticed: its relisting of containers takes a
// second.
const (
	backOffFirst  = time.Second
	backOffSecond = 10 * time.Second
	backOffMost   = 5 * time.Minute
	backOffForget = 2 * backOffMost
)

// backOff is that of one component.
type backOff struct{ last time.Duration }

// next is how long to wait after it ran for so long.
func (b *backOff) next(ran time.Duration) time.Duration {
	switch {
	case b.last == 0 || ran >= backOffForget:
		b.last = backOffFirst
	case b.last == backOffFirst:
		b.last = backOffSecond
	default:
		b.last = min(2*b.last, backOffMost)
	}
	return b.last
}

// awaitEvery is how often an API server is asked whether it is ready.
const awaitEvery = 100 * time.Millisecond

// endsWithin is how long a component that is stopped may take before it is killed: as
// the kubelet does with static pods, k8s.io/kubernetes@v1.37.0
// cmd/kubeadm/app/util/staticpod/utils.go (terminationGracePeriodSeconds, which is left
// at 30 s).
const endsWithin = 30 * time.Second

// supervisor keeps a component running, unless it is told to keep it stopped.
type supervisor struct {
	mu      sync.Mutex
	c       component
	cmd     *exec.Cmd     // the process that runs; nil if none does
	ended   chan struct{} // closed when that has ended
	changed chan struct{} // closed, and made anew, when the component was told something
}

func newSupervisor(c component) *supervisor {
	return &supervisor{c: c, changed: make(chan struct{})}
}

// run keeps it running until ctx ends; the kernel ends it with the machine. What it
// prints goes to its file.
func (s *supervisor) run(ctx context.Context) {
	log, err := os.OpenFile(filepath.Join(output, s.c.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", s.c.Name, err)
		return
	}
	defer log.Close()
	if err := await(ctx, s.c.After); err != nil {
		say(log, "%s is not started: %v", s.c.Name, err)
		return
	}
	var b backOff
	for ctx.Err() == nil {
		began := time.Now()
		changed, err := s.once(log)
		if errors.Is(err, errStopped) {
			b = backOff{} // who starts it by hand does not wait
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		wait := b.next(time.Since(began))
		say(log, "%s has ended (%v) after %s; the next start is in %s", s.c.Name, err, time.Since(began).Round(time.Millisecond), wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// errStopped says that a component is not to run.
var errStopped = errors.New("it is stopped")

// once starts it and waits until it has ended. It gives a channel that is closed when
// something is told after that.
func (s *supervisor) once(log *os.File) (changed chan struct{}, err error) {
	s.mu.Lock()
	if s.c.Stopped {
		defer s.mu.Unlock()
		return s.changed, errStopped
	}
	program := s.c.Program
	if program == "" {
		program = filepath.Join(programs, s.c.Name)
	}
	cmd := exec.Command(program, s.c.Args...)
	cmd.Args[0] = s.c.Name
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, s.c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	say(log, "starts %s of %s", s.c.Name, program)
	if err := cmd.Start(); err != nil {
		defer s.mu.Unlock()
		return s.changed, err
	}
	ended := make(chan struct{})
	s.cmd, s.ended = cmd, ended
	s.mu.Unlock()
	err = cmd.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = nil
	close(ended)
	if s.c.Stopped {
		say(log, "%s was stopped (%v)", s.c.Name, err)
		err = errStopped
	}
	return s.changed, err
}

// tell makes it what it is from now on. If that is stopped it returns when it has
// ended; else what runs goes on, and what does not run is started at once.
func (s *supervisor) tell(c component) error {
	s.mu.Lock()
	s.c = c
	close(s.changed)
	s.changed = make(chan struct{})
	cmd, ended := s.cmd, s.ended
	s.mu.Unlock()
	if cmd == nil || !c.Stopped {
		return nil
	}
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Kill} {
		if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case <-ended:
			return nil
		case <-time.After(endsWithin):
		}
	}
	return fmt.Errorf("%s has not ended %s after it was killed: is it frozen?", c.Name, endsWithin)
}

func say(to io.Writer, format string, args ...any) {
	fmt.Fprintf(to, "%s machine: "+format+"\n", append([]any{time.Now().UTC().Format(time.RFC3339Nano)}, args...)...)
}

// await returns when the API server at an address is ready, or ctx ends.
func await(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	ca, err := os.ReadFile(pkiDir + "/ca.crt")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return errors.New("ca.crt holds no certificate")
	}
	client := &http.Client{Timeout: balanceCheck, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}}
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for askReady(ctx, client, "https://"+address+"/readyz") != nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
