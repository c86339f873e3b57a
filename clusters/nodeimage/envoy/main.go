// Command envoy stands in for Envoy in the load balancer container of a kind
// cluster where Envoy's image cannot be had. It takes the part of Envoy's file
// configuration that kind writes (sigs.k8s.io/kind@v0.33.0
// pkg/cluster/internal/loadbalancer: one TCP listener, one cluster with an HTTP
// health check over TLS), turns it into a configuration of haproxy, runs haproxy
// with it, and reloads it, without dropping connections, when kind changes it.
//
// It is started as kind starts Envoy: envoy -c /home/envoy/envoy.yaml.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// poll is how often the two files are looked at. kind moves them into place, so
// that each is whole or not there.
const poll = 200 * time.Millisecond

// haproxyConfig is the configuration written for haproxy.
const haproxyConfig = "/run/haproxy.cfg"

func main() {
	log.SetFlags(log.LstdFlags | log.Lmicroseconds | log.LUTC)
	log.SetPrefix("envoy(haproxy): ")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Print(err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 2 || args[0] != "-c" {
		return fmt.Errorf("usage: envoy -c FILE (got %q)", args)
	}
	bootstrap, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	cds, lds, err := dynamicFiles(string(bootstrap))
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	var p proxy
	tick := time.NewTicker(poll)
	defer tick.Stop()
	var had string
	for {
		now, err := readBoth(cds, lds)
		if err != nil {
			return err
		}
		if now != had {
			had = now
			if err := p.apply(cds, lds); err != nil {
				// As Envoy: what ran before goes on running.
				log.Printf("keeping the present configuration: %v", err)
			}
		}
		select {
		case <-ctx.Done():
			return p.stop()
		case err := <-p.exited:
			return fmt.Errorf("haproxy ended: %w", err)
		case <-tick.C:
		}
	}
}

var dynamicPath = regexp.MustCompile(`(?m)^\s*path:\s*(\S+/(cds|lds)\.yaml)\s*$`)

// dynamicFiles reads the paths of the two files out of kind's bootstrap file.
func dynamicFiles(bootstrap string) (cds, lds string, err error) {
	for _, m := range dynamicPath.FindAllStringSubmatch(bootstrap, -1) {
		if m[2] == "cds" {
			cds = m[1]
		} else {
			lds = m[1]
		}
	}
	if cds == "" || lds == "" {
		return "", "", errors.New("names no cds.yaml or no lds.yaml")
	}
	return cds, lds, nil
}

// readBoth is the text of both files, to see a change by.
func readBoth(cds, lds string) (string, error) {
	var text string
	for _, f := range []string{cds, lds} {
		data, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		text += f + "\n" + string(data)
	}
	return text, nil
}

// proxy is the running haproxy, if there is one.
type proxy struct {
	cmd    *exec.Cmd
	exited chan error
}

// apply translates the files and starts or reloads haproxy.
func (p *proxy) apply(cds, lds string) error {
	c, err := os.ReadFile(cds)
	if err != nil {
		return err
	}
	l, err := os.ReadFile(lds)
	if err != nil {
		return err
	}
	cfg, ok, err := translate(string(c), string(l))
	if err != nil {
		return err
	}
	if !ok {
		log.Print("no listener and cluster yet")
		return nil
	}
	next := haproxyConfig + ".new"
	if err := os.MkdirAll(filepath.Dir(haproxyConfig), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(next, []byte(cfg), 0o644); err != nil {
		return err
	}
	if out, err := exec.Command("haproxy", "-c", "-f", next).CombinedOutput(); err != nil {
		return fmt.Errorf("haproxy refuses it: %w: %s", err, out)
	}
	if err := os.Rename(next, haproxyConfig); err != nil {
		return err
	}
	if p.cmd != nil {
		log.Print("reloading haproxy")
		return p.cmd.Process.Signal(syscall.SIGUSR2)
	}
	log.Print("starting haproxy")
	// -W: a master that reloads its worker on SIGUSR2. -db: in the foreground.
	p.cmd = exec.Command("haproxy", "-W", "-db", "-f", haproxyConfig)
	p.cmd.Stdout, p.cmd.Stderr = os.Stdout, os.Stderr
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return err
	}
	p.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(p.cmd, p.exited)
	return nil
}

// stop ends haproxy, and waits until it has.
func (p *proxy) stop() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited //nolint:errcheck // it was told to end: how it did says nothing
	return nil
}
