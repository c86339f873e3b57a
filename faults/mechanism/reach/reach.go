// Package reach says which hosts can be reached from inside a network namespace, within about 20 ms: it is how a partition
// is proven from the victim's side.
//
// It sends ICMP echo requests, which the peer's kernel answers: what runs there, or is paused there, does not matter. A
// peer is said to be silent only if others answered the probes that were sent with its own, so that a slow machine is not
// taken for a cut. There must therefore be a control: an address that is not cut off, as that of the bridge's own host.
package reach

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// interval is the time from one round of probes to the next. More often is of no use: Go's timers have about 1 ms.
const interval = 1500 * time.Microsecond

// receiveBuffer is for some ten thousand answers.
const receiveBuffer = 8 << 20

// ErrNoControl means that no peer answered, so that nothing can be said about any.
var ErrNoControl = errors.New("no peer answered, so nobody can be called silent: the namespace may have lost its link")

// Look probes the IPv4 peers from inside the network namespace with that path (/proc/PID/ns/net; empty: that of this
// process) until each is known to be answering or silent, at most for window. Peers are returned in the given order, also
// with an error. If window ends before something is known about a peer, that one is Unclear, and that is no error.
func Look(ctx context.Context, netns string, peers []netip.Addr, window time.Duration) ([]Peer, error) {
	l, stop, err := begin(netns, peers)
	if err != nil {
		return nil, err
	}
	result, err := l.run(ctx, window)
	return result, errors.Join(err, stop())
}

// begin opens a socket in the namespace and takes answers down until stop.
func begin(netns string, peers []netip.Addr) (l *look, stop func() error, err error) {
	for _, p := range peers {
		if !p.Is4() {
			return nil, nil, fmt.Errorf("peer %s: only IPv4 can be probed", p)
		}
	}
	var sock net.PacketConn
	err = inNetNS(netns, func() (err error) {
		sock, err = listen()
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open an ICMP socket in network namespace %q (root is needed): %w", netns, err)
	}
	var nonce [8]byte
	rand.Read(nonce[:]) // never fails
	l = &look{peers: peers, sock: sock, nonce: binary.BigEndian.Uint64(nonce[:]), history: make([][]probe, len(peers))}
	received := make(chan error, 1)
	go func() { received <- l.receive() }()
	return l, func() error { return errors.Join(sock.Close(), <-received) }, nil
}

// look is one use of Look or Measure.
type look struct {
	peers []netip.Addr
	sock  net.PacketConn
	nonce uint64 // tells our answers from those of others

	mu      sync.Mutex
	history [][]probe // of each peer, by round
}

func (l *look) run(ctx context.Context, window time.Duration) ([]Peer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, window, errWindow)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for round := uint32(0); ; round++ {
		if err := l.send(round); err != nil {
			return nil, err
		}
		select {
		case <-tick.C:
			if peers := l.judge(); decided(peers) {
				return peers, nil
			}
		case <-ctx.Done():
			peers := l.judge()
			if err := context.Cause(ctx); !errors.Is(err, errWindow) {
				return peers, err
			}
			if !slices.ContainsFunc(peers, func(p Peer) bool { return p.Answered > 0 }) {
				return peers, ErrNoControl
			}
			return peers, nil
		}
	}
}

var errWindow = errors.New("the window is over")

func decided(peers []Peer) bool {
	return !slices.ContainsFunc(peers, func(p Peer) bool { return p.State == Unclear })
}

func (l *look) judge() []Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return judge(l.peers, l.history)
}

// send sends one probe to each peer.
func (l *look) send(round uint32) error {
	for i, peer := range l.peers {
		data := binary.BigEndian.AppendUint64(nil, l.nonce)
		data = binary.BigEndian.AppendUint32(data, round)
		data = binary.BigEndian.AppendUint32(data, uint32(i))
		msg := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: int(l.nonce & 0xffff), Seq: int(round & 0xffff), Data: data}}
		packet, err := msg.Marshal(nil)
		if err != nil {
			return fmt.Errorf("make an echo request: %w", err)
		}
		l.mu.Lock()
		l.history[i] = append(l.history[i], probe{sent: time.Now()})
		l.mu.Unlock()
		if _, err := l.sock.WriteTo(packet, &net.IPAddr{IP: peer.AsSlice()}); err != nil {
			l.mu.Lock()
			l.history[i][round].err = err
			l.mu.Unlock()
		}
	}
	return nil
}

// receive takes the answers down until the socket is closed.
func (l *look) receive() error {
	buf := make([]byte, 1500)
	for {
		n, _, err := l.sock.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read echo replies: %w", err)
		}
		now := time.Now()
		round, i, ok := l.parse(buf[:n])
		if !ok {
			continue
		}
		l.mu.Lock()
		if i < len(l.history) && round < len(l.history[i]) && !l.history[i][round].answered() {
			l.history[i][round].back = now
		}
		l.mu.Unlock()
	}
}

// parse finds out which probe a packet answers, if it is one of ours.
func (l *look) parse(packet []byte) (round, peer int, ok bool) {
	msg, err := icmp.ParseMessage(unix.IPPROTO_ICMP, packet)
	if err != nil || msg.Type != ipv4.ICMPTypeEchoReply {
		return 0, 0, false
	}
	echo, isEcho := msg.Body.(*icmp.Echo)
	if !isEcho || len(echo.Data) != 16 || binary.BigEndian.Uint64(echo.Data) != l.nonce {
		return 0, 0, false
	}
	return int(binary.BigEndian.Uint32(echo.Data[8:])), int(binary.BigEndian.Uint32(echo.Data[12:])), true
}

// listen opens a raw socket that is given echo replies only.
func listen() (net.PacketConn, error) {
	sock, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, err
	}
	raw, err := sock.(*net.IPConn).SyscallConn()
	if err == nil {
		var optErr error
		// ICMP_FILTER, icmp(7): a set bit is a type that is kept away.
		err = raw.Control(func(fd uintptr) {
			const solRaw, icmpFilter = 255, 1
			optErr = errors.Join(
				unix.SetsockoptInt(int(fd), solRaw, icmpFilter, ^(1<<0 /* echo reply */)),
				// Answers must not be lost because this process did not get the processor for a while.
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
			)
		})
		err = errors.Join(err, optErr)
	}
	if err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	return sock, nil
}

// inNetNS runs f on a thread inside the namespace. What f opens stays there.
func inNetNS(path string, f func() error) error {
	if path == "" {
		return f()
	}
	target, err := os.Open(path)
	if err != nil {
		return err
	}
	defer target.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = f()
		// A thread that cannot go home ends with this goroutine, because it stays locked to it.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}
