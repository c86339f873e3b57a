package mechanism

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// flow is a numbered datagram each half millisecond (or a little more) from one host to another, which echoes it.
type flow struct {
	out, in net.PacketConn

	mu      sync.Mutex
	packets []packet
	err     error
	stop    chan struct{}
	done    sync.WaitGroup
}

// packet holds times; zero means not yet.
type packet struct{ sent, arrived, echoed time.Time }

func startFlow(from, to *host) *flow {
	GinkgoHelper()
	f := &flow{stop: make(chan struct{})}
	var err error
	listen := func(h *host, conn *net.PacketConn) {
		Expect(h.do(func() error {
			*conn, err = net.ListenPacket("udp4", netip.AddrPortFrom(h.ip, 0).String())
			return err
		})).To(Succeed())
	}
	listen(from, &f.out)
	listen(to, &f.in)
	f.done.Add(3)
	go f.send()
	go f.read(f.in, func(p *packet, now time.Time) { p.arrived = now }, true)
	go f.read(f.out, func(p *packet, now time.Time) { p.echoed = now }, false)
	DeferCleanup(func() {
		close(f.stop)
		Expect(errors.Join(f.out.Close(), f.in.Close())).To(Succeed())
		f.done.Wait()
		Expect(f.err).NotTo(HaveOccurred(), "test traffic")
	})
	return f
}

func (f *flow) send() {
	defer f.done.Done()
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-tick.C:
		}
		f.mu.Lock()
		number := uint32(len(f.packets))
		f.packets = append(f.packets, packet{sent: time.Now()})
		f.mu.Unlock()
		if _, err := f.out.WriteTo(binary.BigEndian.AppendUint32(nil, number), f.in.LocalAddr()); err != nil {
			f.fail(err)
		}
	}
}

func (f *flow) read(conn net.PacketConn, note func(*packet, time.Time), echo bool) {
	defer f.done.Done()
	buf := make([]byte, 4)
	for {
		_, from, err := conn.ReadFrom(buf)
		if err != nil {
			f.fail(err)
			return
		}
		now := time.Now()
		f.mu.Lock()
		note(&f.packets[binary.BigEndian.Uint32(buf)], now)
		f.mu.Unlock()
		if echo {
			if _, err := conn.WriteTo(buf, from); err != nil {
				f.fail(err)
			}
		}
	}
}

// fail keeps an error, which in test traffic is always one: a cut is silent. (Closing at the end is none.)
func (f *flow) fail(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.Join(f.err, err)
}

// counts are about the packets sent in an interval.
type counts struct{ sent, arrived, echoed int }

func (f *flow) between(from, to time.Time) (c counts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.packets {
		if p.sent.Before(from) || p.sent.After(to) {
			continue
		}
		c.sent++
		if !p.arrived.IsZero() {
			c.arrived++
		}
		if !p.echoed.IsZero() {
			c.echoed++
		}
	}
	return c
}

func (f *flow) since(t time.Time) counts { return f.between(t, time.Now()) }

// firstEcho is how long after t the first packet was sent that came back.
func (f *flow) firstEcho(t time.Time) (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.packets {
		if !p.sent.Before(t) && !p.echoed.IsZero() {
			return p.echoed.Sub(t), true
		}
	}
	return 0, false
}

// sends waits until n more packets were sent.
func (f *flow) sends(ctx SpecContext, n int) {
	GinkgoHelper()
	from := time.Now()
	Eventually(ctx, func() int { return f.since(from).sent }).WithPolling(time.Millisecond).WithTimeout(30 * time.Second).Should(BeNumerically(">=", n))
}

// flows waits until n packets in a row came back, and returns how long after t the first of all came back.
func (f *flow) flows(ctx SpecContext, n int, t time.Time) time.Duration {
	GinkgoHelper()
	Eventually(ctx, func() int { return f.since(t).echoed }).WithPolling(time.Millisecond).WithTimeout(30 * time.Second).Should(BeNumerically(">=", n))
	first, _ := f.firstEcho(t)
	return first
}

// connection is an established TCP connection over which a byte goes back and forth, each 2 ms.
type connection struct {
	mu     sync.Mutex
	echoes []time.Time
	err    error
}

func startConnection(from, to *host) *connection {
	GinkgoHelper()
	var server net.Listener
	var client net.Conn
	Expect(to.do(func() (err error) {
		server, err = net.Listen("tcp4", netip.AddrPortFrom(to.ip, 0).String())
		return err
	})).To(Succeed())
	c := &connection{}
	var done sync.WaitGroup
	done.Add(2)
	go func() {
		defer done.Done()
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buf := make([]byte, 1)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	}()
	Expect(from.do(func() (err error) {
		client, err = net.Dial("tcp4", server.Addr().String())
		return err
	})).To(Succeed())
	stop := make(chan struct{})
	go func() {
		defer done.Done()
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		buf := make([]byte, 1)
		for {
			_, err := client.Write(buf)
			if err == nil {
				_, err = client.Read(buf)
			}
			c.mu.Lock()
			if err != nil {
				c.err = err
				c.mu.Unlock()
				return
			}
			c.echoes = append(c.echoes, time.Now())
			c.mu.Unlock()
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	DeferCleanup(func() {
		close(stop)
		Expect(errors.Join(client.Close(), server.Close())).To(Succeed())
		done.Wait()
	})
	return c
}

// after counts the bytes that came back after t, and says how long after t the first did; err is the connection's end.
func (c *connection) after(t time.Time) (n int, first time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.echoes {
		if e.After(t) {
			if n++; n == 1 {
				first = e.Sub(t)
			}
		}
	}
	return n, first, c.err
}
