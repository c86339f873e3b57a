package late

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/process"
)

// settings are the child's arguments.
type settings struct {
	Tag     string
	Targets []Target
	Shape   Shape
	MaxHold time.Duration
	TTL     time.Duration
}

// request is what the child is asked while it runs; the answer is always Stats.
type request struct {
	Shape *Shape `json:",omitempty"` // a new one
}

const (
	// slack is how much before its time a packet is let go, so that those that are due almost together cost one sleep.
	slack = 50 * time.Microsecond
	// queueLength is how many packets the kernel keeps for us; more pass at once (fail-open).
	queueLength = 1 << 16
	// readBuffer holds the notices of packets that came while the child did not get the processor: about 300 bytes each.
	readBuffer = 16 << 20
	// firstQueue is above those that others use by habit (0, 100, 101), and tries is how many are tried.
	firstQueue, tries = 1000, 16
)

// Run is the child's entry point.
func Run(ctx context.Context, c *child.Conn) error {
	var s settings
	if err := c.Args(&s); err != nil {
		return err
	}
	self, err := process.Of(os.Getpid())
	if err != nil {
		return err
	}
	deadline := time.Now().Add(s.MaxHold)
	var lines []*queue
	defer func() {
		for _, q := range lines {
			q.close()
		}
	}()
	for i, t := range s.Targets {
		q, err := listen(ctx, s, t, uint64(i))
		if err != nil {
			return err
		}
		lines = append(lines, q)
		if err := q.in.Set(q.rules(t.Rules), life(deadline, s.TTL)); err != nil {
			return err
		}
	}
	if err := c.Ready(self); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(refresh(ctx, lines, deadline, s.TTL)) }()
	err = c.Serve(ctx, func(raw json.RawMessage) (any, error) {
		var r request
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("request to one that holds packets back: %w", err)
		}
		var sum Stats
		for _, q := range lines {
			st := q.ask(r.Shape)
			sum.Held, sum.Dropped, sum.Waiting, sum.Lost = sum.Held+st.Held, sum.Dropped+st.Dropped, sum.Waiting+st.Waiting, sum.Lost+st.Lost
		}
		return sum, nil
	})
	if cause := context.Cause(ctx); errors.Is(cause, intake.ErrExpired) {
		err = errors.Join(err, cause)
	}
	// First no new packet enters, then those that wait are let through.
	for _, q := range lines {
		err = errors.Join(err, q.in.Close())
		q.release()
	}
	return err
}

// life is how long rules may live from now, in the kernel.
func life(deadline time.Time, ttl time.Duration) time.Duration {
	return max(min(ttl, time.Until(deadline)), time.Millisecond)
}

// refresh keeps the rules alive. When they have expired it says so, and that is the end.
func refresh(ctx context.Context, lines []*queue, deadline time.Time, ttl time.Duration) error {
	tick := time.NewTicker(ttl / 5)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for _, q := range lines {
				if err := q.in.Refresh(life(deadline, ttl)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					if errors.Is(err, intake.ErrExpired) {
						return err
					}
				}
			}
		}
	}
}

// queue is one netfilter queue, and what waits in it.
type queue struct {
	in     *intake.Intake
	number uint16
	nf     *nfqueue.Nfqueue
	stop   context.CancelFunc

	mu      sync.Mutex
	more    *sync.Cond
	line    *line
	waiting []held // by due
	ended   bool
	stats   Stats
}

type held struct {
	id  uint32
	due int64
}

// listen opens a queue of its own in a namespace.
func listen(ctx context.Context, s settings, t Target, seed uint64) (*queue, error) {
	ns, err := os.Open(t.NetNS)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close() // the sockets stay in the namespace without it
	q := &queue{line: newLine(s.Shape, seed)}
	q.more = sync.NewCond(&q.mu)
	if q.in, err = intake.Open(s.Tag, t.NetNS); err != nil {
		return nil, err
	}
	h := fnv.New32a()
	h.Write([]byte(s.Tag)) // never fails
	for try := range uint32(tries) {
		q.number = uint16(firstQueue + (h.Sum32()+try)%(1<<16-firstQueue))
		if err = q.bind(ctx, int(ns.Fd())); !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EBUSY) { // another listener's
			break
		}
	}
	if err != nil {
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) {
			err = fmt.Errorf("this kernel has no netfilter queue (CONFIG_NETFILTER_NETLINK_QUEUE): %w: %w", errors.ErrUnsupported, err)
		}
		return nil, errors.Join(err, q.in.Close())
	}
	go q.let()
	return q, nil
}

func (q *queue) bind(ctx context.Context, ns int) error {
	var flags uint32 = nfqueue.NfQaCfgFlagFailOpen | nfqueue.NfQaCfgFlagGSO
	nf, err := nfqueue.Open(&nfqueue.Config{
		NetNS: ns, NfQueue: q.number, MaxQueueLen: queueLength, AfFamily: unix.AF_UNSPEC, Flags: flags,
		// The smallest copy with which the kernel tells the length.
		Copymode: nfqueue.NfQnlCopyPacket, MaxPacketLen: 1,
	})
	if err != nil {
		return fmt.Errorf("open a netfilter queue: %w", err)
	}
	if err := nf.Con.SetReadBuffer(readBuffer); err != nil {
		return errors.Join(fmt.Errorf("buffer of a netfilter queue: %w", err), nf.Con.Close())
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	if err := nf.RegisterWithErrorFunc(ctx, q.take, q.missed); err != nil {
		stop()
		return errors.Join(fmt.Errorf("listen to netfilter queue %d: %w", q.number, err), nf.Con.Close())
	}
	q.nf, q.stop = nf, stop
	return nil
}

// rules are the target's, into this queue.
func (q *queue) rules(which []intake.Rule) []intake.Rule {
	var out []intake.Rule
	for _, r := range which {
		r.Queue = q.number
		out = append(out, r)
	}
	return out
}

// take decides about a packet that came.
func (q *queue) take(a nfqueue.Attribute) int {
	if a.PacketID == nil {
		return 0
	}
	size := 0
	switch {
	case a.CapLen != nil:
		size = int(*a.CapLen)
	case a.Payload != nil:
		size = len(*a.Payload)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	become, due := q.line.take(monotonic(), size)
	if q.ended {
		become = now
	}
	switch become {
	case later:
		q.waiting = append(q.waiting, held{*a.PacketID, due})
		if len(q.waiting) == 1 {
			q.more.Signal()
		}
	case now:
		q.verdict(*a.PacketID, nfqueue.NfAccept)
	case never:
		q.stats.Dropped++
		q.verdict(*a.PacketID, nfqueue.NfDrop)
	}
	return 0
}

// missed is told of errors of the socket.
func (q *queue) missed(err error) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return 1
	}
	switch {
	case errors.Is(err, unix.ENOBUFS):
		q.stats.Lost++
		return 0
	case errors.Is(err, unix.ENOENT): // a packet whose interface is gone waits no more
		return 0
	}
	fmt.Fprintf(os.Stderr, "netfilter queue %d: %v\n", q.number, err)
	return 1
}

func (q *queue) verdict(id uint32, v int) {
	if err := q.nf.SetVerdict(id, v); err != nil && !q.ended {
		fmt.Fprintf(os.Stderr, "netfilter queue %d: verdict: %v\n", q.number, err)
	}
}

// let lets packets go when they are due, until the end. It sleeps in a thread of its own: Go's timers have about 1 ms.
func (q *queue) let() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.waiting) == 0 && !q.ended {
			q.more.Wait()
		}
		if q.ended {
			return
		}
		if due := q.waiting[0].due; due-int64(slack) > monotonic() {
			q.mu.Unlock()
			sleepUntil(due - int64(slack)/2)
			q.mu.Lock()
			continue // a signal may have woken it, or the end have come
		}
		limit, n := monotonic()+int64(slack), 0
		for ; n < len(q.waiting) && q.waiting[n].due <= limit; n++ {
			q.verdict(q.waiting[n].id, nfqueue.NfAccept)
			q.stats.Held++
		}
		q.waiting = append(q.waiting[:0], q.waiting[n:]...)
	}
}

// ask gives the figures, and a new shape if there is one.
func (q *queue) ask(s *Shape) Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s != nil {
		q.line.shape = *s
	}
	q.stats.Waiting = len(q.waiting)
	return q.stats
}

// release lets all go that waits, and whatever still comes.
func (q *queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	for _, h := range q.waiting {
		q.verdict(h.id, nfqueue.NfAccept)
	}
	q.waiting = nil
	q.more.Signal()
}

// close ends the queue; the rules end with the process at the latest.
func (q *queue) close() {
	q.release()
	q.stop()
	if err := errors.Join(q.in.Close(), q.nf.Con.Close()); err != nil {
		fmt.Fprintf(os.Stderr, "netfilter queue %d: %v\n", q.number, err)
	}
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Now().UnixNano() // it never fails with this clock
	}
	return ts.Nano()
}

func sleepUntil(t int64) {
	ts := unix.NsecToTimespec(t)
	// Woken early by a signal it is called again; it has no other error with this clock.
	_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &ts, nil)
}
