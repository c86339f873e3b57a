package clusters

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inside opens something on a thread in the network namespace of a node, where it
// stays: a connection as a process of the node has it. Nothing runs on the node. It
// needs root on this machine.
func Inside[T any](ctx context.Context, n Node, open func() (T, error)) (T, error) {
	var none T
	p, ok := n.(Processes)
	if !ok {
		return none, fmt.Errorf("%s does not show its processes (capability %s)", n.Name(), CapProcesses)
	}
	pid, err := p.InitPID(ctx)
	if err != nil {
		return none, err
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return none, fmt.Errorf("%s: its network namespace: %w", n.Name(), err)
	}
	defer ns.Close()
	type result struct {
		opened T
		err    error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("%s: enter its network namespace (needs root): %w", n.Name(), err)}
			return
		}
		opened, err := open()
		done <- result{opened, err}
	}()
	r := <-done
	return r.opened, r.err
}

// DialInside connects as a process of the node does, which reaches its 127.0.0.1.
func DialInside(ctx context.Context, n Node, network, address string) (net.Conn, error) {
	return Inside(ctx, n, func() (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	})
}
