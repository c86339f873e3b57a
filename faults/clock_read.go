package faults

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
)

const (
	// dateEvery is between two questions for the date: half of it is the error.
	dateEvery = 20 * time.Millisecond
	// dateBound bounds them: a date has whole seconds, and one is waited for.
	dateBound = 5 * time.Second
)

// componentClock says by how much the clock of a component differs from ours.
func componentClock(ctx context.Context, c clusters.Cluster, n clusters.Node, component string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, dateBound)
	defer cancel()
	t := &http.Transport{
		// Only the date is read. A server whose clock is wrong may have a
		// certificate that is valid to it alone.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec
	}
	defer t.CloseIdleConnections()
	var url string
	switch component {
	case "etcd": // clusters/kind has it serve its metrics in the clear; any path will do
		url = "http://" + net.JoinHostPort(n.IP().String(), etcdMetrics) + "/livez"
	case "kubelet":
		// Ports: k8s.io/kubernetes@v1.37.0 pkg/cluster/ports/ports.go.
		url = "https://" + net.JoinHostPort(n.IP().String(), "10250") + "/healthz"
	case "kube-apiserver":
		for _, e := range c.Endpoints() {
			if e.Node != nil && e.Node.Name() == n.Name() {
				url = e.Config.Host + "/livez/ping"
			}
		}
		if url == "" {
			return 0, fmt.Errorf("no endpoint leads to the API server on %s", n.Name())
		}
	case "kube-controller-manager", "kube-scheduler":
		// kubeadm has them listen on the node's own loopback:
		// k8s.io/kubernetes@v1.37.0 cmd/kubeadm/app/phases/controlplane/manifests.go.
		port := map[string]string{"kube-controller-manager": "10257", "kube-scheduler": "10259"}[component]
		url = "https://127.0.0.1:" + port + "/healthz"
		l, err := link(ctx, n)
		if err != nil {
			return 0, err
		}
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialFrom(ctx, l.NetNS, network, addr)
		}
	default:
		return 0, fmt.Errorf("%s is not known to tell the time", component)
	}
	off, err := clockOf(ctx, t, url)
	if err != nil {
		return 0, fmt.Errorf("%s: clock of %s: %w", n.Name(), component, err)
	}
	return off, nil
}

// clockOf asks a server for the date until the second changes, and says by how
// much its clock differs from ours.
func clockOf(ctx context.Context, t http.RoundTripper, url string) (time.Duration, error) {
	tick := time.NewTicker(dateEvery)
	defer tick.Stop()
	first, before, err := date(ctx, t, url)
	for err == nil {
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("its second did not change: %w", context.Cause(ctx))
		case <-tick.C:
		}
		var now, at time.Time
		if now, at, err = date(ctx, t, url); err == nil && !now.Equal(first) {
			if step := now.Sub(first); step < 0 || step > dateBound {
				return 0, errors.New("its clock is being changed just now")
			}
			// It was exactly now when it changed, between the two answers.
			return now.Sub(before.Add(at.Sub(before) / 2).Round(0)), nil
		}
		before = at
	}
	return 0, err
}

// date reads one answer's date, and says when that was by our clock.
func date(ctx context.Context, t http.RoundTripper, url string) (theirs, ours time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return theirs, ours, err
	}
	began := time.Now()
	resp, err := t.RoundTrip(req)
	if err != nil {
		return theirs, ours, err
	}
	ours = began.Add(time.Since(began) / 2)
	// Read to its end, so that the connection can be used again. Whether it says
	// yes or no is no matter.
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return theirs, ours, err
	}
	theirs, err = http.ParseTime(resp.Header.Get("Date"))
	return theirs, ours, err
}

// dialFrom opens a connection from inside a network namespace; it stays there.
func dialFrom(ctx context.Context, netns, network, addr string) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		conn, err := func() (net.Conn, error) {
			runtime.LockOSThread()
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return nil, err
			}
			defer home.Close()
			ns, err := os.Open(netns)
			if err != nil {
				return nil, err
			}
			if err := errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close()); err != nil {
				return nil, fmt.Errorf("enter %s (root is needed): %w", netns, err)
			}
			// A literal address: its socket is made on this thread.
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			// A thread that cannot go home ends with this goroutine, because it stays
			// locked to it.
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			return conn, err
		}()
		done <- dialled{conn, err}
	}()
	d := <-done
	return d.conn, d.err
}
