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

// supervise keeps a component running until ctx ends; the kernel ends it with the
// machine. What it prints goes to its file.
func supervise(ctx context.Context, c component) {
	log, err := os.OpenFile(filepath.Join(output, c.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", c.Name, err)
		return
	}
	defer log.Close()
	if err := await(ctx, c.After); err != nil {
		say(log, "%s is not started: %v", c.Name, err)
		return
	}
	var b backOff
	for ctx.Err() == nil {
		began := time.Now()
		say(log, "starts %s", c.Name)
		err := runOnce(c, log)
		wait := b.next(time.Since(began))
		say(log, "%s has ended (%v) after %s; the next start is in %s", c.Name, err, time.Since(began).Round(time.Millisecond), wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func say(to io.Writer, format string, args ...any) {
	fmt.Fprintf(to, "%s machine: "+format+"\n", append([]any{time.Now().UTC().Format(time.RFC3339Nano)}, args...)...)
}

func runOnce(c component, log *os.File) error {
	cmd := exec.Command(filepath.Join(programs, c.Name), c.Args...)
	cmd.Args[0] = c.Name
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, c.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Run()
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
