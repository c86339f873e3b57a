package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// acquaintEvery is how often the DNS is asked where the others are, while some of
// them are not known or do not answer.
const acquaintEvery = 2 * time.Second

// mesh asks the pods on the other nodes for a sign of life, and answers them. A
// datagram is "? ID NODE ADDRESS", where the address is its sender's own, or the
// answer to it, "! ID NODE ADDRESS": whoever hears of a node learns where it is
// now, also when its pod has another address than before. The first time they are
// found by the name of a headless Service.
type mesh struct {
	node   string
	self   netip.AddrPort // where the others reach it
	socket net.PacketConn
	others []string

	mu      sync.Mutex
	where   map[string]netip.AddrPort // by node
	heard   map[string]time.Time      // the last answer of each
	waiting map[uint64]chan string    // by id: takes the node that answered
	next    uint64
}

func newMesh(node string, self netip.AddrPort, socket net.PacketConn, nodes []string) *mesh {
	m := &mesh{
		node: node, self: self, socket: socket,
		where: map[string]netip.AddrPort{}, heard: map[string]time.Time{}, waiting: map[uint64]chan string{},
	}
	for _, n := range nodes {
		if n != node {
			m.others = append(m.others, n)
		}
	}
	return m
}

// targets are a series for each other node, known or not.
func (m *mesh) targets() []target {
	var out []target
	for _, n := range m.others {
		out = append(out, target{kind: "mesh", to: n, once: func(ctx context.Context) error { return m.ask(ctx, n) }})
	}
	return out
}

// serve reads until the socket is closed.
func (m *mesh) serve() {
	b := make([]byte, 512)
	for {
		n, from, err := m.socket.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // what a lost datagram came to is told by who waits for it
		}
		f := strings.Fields(string(b[:n]))
		if len(f) != 4 {
			continue
		}
		id, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			continue
		}
		m.learn(f[2], f[3])
		switch f[0] {
		case "?":
			// An answer that cannot be sent is missed by who asked.
			_, _ = m.socket.WriteTo(m.line("!", id), from)
		case "!":
			m.mu.Lock()
			m.heard[f[2]] = time.Now()
			if c := m.waiting[id]; c != nil {
				delete(m.waiting, id)
				c <- f[2] // has room for one
			}
			m.mu.Unlock()
		}
	}
}

func (m *mesh) line(kind string, id uint64) []byte {
	return fmt.Appendf(nil, "%s %d %s %s", kind, id, m.node, m.self)
}

// learn notes where a node's pod is.
func (m *mesh) learn(node, at string) {
	addr, err := netip.ParseAddrPort(at)
	if err != nil || node == m.node {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.where[node] = addr
}

// ask sends a datagram to a node's pod and waits for the answer.
func (m *mesh) ask(ctx context.Context, node string) error {
	answer := make(chan string, 1)
	m.mu.Lock()
	to, known := m.where[node]
	m.next++
	id := m.next
	m.waiting[id] = answer
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.waiting, id)
		m.mu.Unlock()
	}()
	if !known {
		return errors.New("where its pod is was never heard")
	}
	if err := m.send(to, id); err != nil {
		return err
	}
	select {
	case by := <-answer:
		if by != node {
			return fmt.Errorf("answered by %s", by)
		}
		return nil
	case <-ctx.Done():
		return context.DeadlineExceeded
	}
}

func (m *mesh) send(to netip.AddrPort, id uint64) error {
	_, err := m.socket.WriteTo(m.line("?", id), net.UDPAddrFromAddrPort(to))
	return err
}

// strangers says whether some node is not known, or has not answered lately.
func (m *mesh) strangers() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.others {
		if time.Since(m.heard[n]) > acquaintEvery+probeDeadline {
			return true
		}
	}
	return false
}

// acquaint greets whatever the name stands for, while somebody is missing: who
// answers is known from then on.
func (m *mesh) acquaint(ctx context.Context, name string) {
	resolver := &net.Resolver{PreferGo: true}
	tick := time.NewTicker(acquaintEvery)
	defer tick.Stop()
	for {
		if m.strangers() {
			limited, cancel := context.WithTimeout(ctx, acquaintEvery)
			// If nobody can be found the samples say so.
			found, _ := resolver.LookupNetIP(limited, "ip4", name)
			cancel()
			for _, a := range found {
				if a = a.Unmap(); a != m.self.Addr() {
					_ = m.send(netip.AddrPortFrom(a, m.self.Port()), 0)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
