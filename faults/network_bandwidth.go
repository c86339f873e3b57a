package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"gameday/clusters"
	"gameday/faults/mechanism/intake"
	"gameday/faults/mechanism/late"
)

var networkBandwidth = Kind{
	Name: "network.bandwidth",
	Doc:  "Makes the link to the targets slow: what the other nodes send together gets through at a rate, what is too much waits and is dropped.",
	Rehearses: "A link that is full, or was negotiated at a tenth of its speed: images, snapshots of etcd and big lists take minutes, and everything that " +
		"shares the link waits behind them (https://etcd.io/docs/v3.6/op-guide/hardware/#network).",
	Mechanism: "packets from the peers' hardware addresses wait in a netfilter queue of the target's namespace until a link of that rate would have " +
		"sent them, and are dropped beyond 100 ms of it; nftables' own limit begins with a whole second's worth at full speed",
	Undo:        "the kernel: the nftables table goes with the listening process and that with gameday; without a listener packets pass",
	Roles:       machines,
	Needs:       []clusters.Capability{clusters.CapNetwork, clusters.CapProcesses},
	Cost:        Cost{},
	ProveWithin: 30 * time.Second,
	GoneWithin:  time.Minute,
	Trials:      []Trial{{Name: "bandwidth", Target: Target{Pick: PickOne, Role: "worker"}}},
	New:         func() Fault { return &Bandwidth{From: Peers{"nodes"}, Mbit: 10} },
}

const (
	// slowBacklog is how much a slow link keeps, in time.
	slowBacklog = 100 * time.Millisecond
	// transferTime is how long data is sent to see how much gets through. It is sent no
	// faster than transferTimes as much as was asked for.
	transferTime  = 1200 * time.Millisecond
	transferTimes = 4
	// rateTolerance is by what part the rate may be off: TCP fills a link not wholly, and
	// others use it too.
	rateTolerance = 0.25
)

// Bandwidth is the fault network.bandwidth.
type Bandwidth struct {
	// From says whose traffic is meant: what these send, as for network.partition.
	From Peers `yaml:"from" json:"from"`
	// Mbit is the rate in millions of bits a second.
	Mbit float64 `yaml:"mbit" json:"mbit"`

	held holding
}

// Validate implements Validator.
func (f *Bandwidth) Validate() []error {
	errs := f.From.validate()
	// More is hard to send beside a cluster on the same machine, less is hardly a link.
	if !(f.Mbit >= 1 && f.Mbit <= 200) {
		errs = append(errs, fmt.Errorf("mbit: %v is not between 1 and 200", f.Mbit))
	}
	return errs
}

// Describe implements Describer.
func (f *Bandwidth) Describe(targets []string) []string {
	return each(targets, fmt.Sprintf("%%s: nft add rule inet gameday-TAG prerouting ether saddr { %s } queue bypass; verdicts at %g Mbit/s, drop beyond %s",
		strings.Join(f.From, ", "), f.Mbit, slowBacklog))
}

// Inject makes the link slow, or changes its rate.
func (f *Bandwidth) Inject(ctx context.Context, env Env) error {
	s := late.Shape{Rate: uint64(f.Mbit * 1e6 / 8), Backlog: slowBacklog}
	return f.held.hold(ctx, env, s, func(ctx context.Context, _ clusters.Node) ([]intake.Rule, error) {
		return f.From.sent(ctx, env, intake.Rule{})
	})
}

// Heal ends the process that holds packets back.
func (f *Bandwidth) Heal(ctx context.Context, env Env) error { return f.held.heal(ctx, env) }

// Prove sends from inside a peer to the targets, and back, which is not slow.
func (f *Bandwidth) Prove(ctx context.Context, env Env) (Effect, error) {
	peers, err := f.From.nodes(env)
	if err != nil {
		return Effect{}, err
	}
	var fig figure
	e, err := lookAt(ctx, env.Targets, func(ctx context.Context, n clusters.Node) (seen, error) {
		in, err := transferred(ctx, peers[0], n, transferTimes*f.Mbit)
		if err != nil {
			return seen{}, err
		}
		out, err := transferred(ctx, n, peers[0], transferTimes*f.Mbit)
		if err != nil {
			return seen{}, err
		}
		name := clusters.Place(peers[0])
		fig.add(f.Mbit, in, fmt.Sprintf("%.1f Mbit/s from %s to %s", out, clusters.Place(n), name))
		fast := out > 2*f.Mbit
		return seen{
			broken:   fast && abs(in-f.Mbit) <= rateTolerance*f.Mbit,
			whole:    fast && in > 2*f.Mbit,
			evidence: fmt.Sprintf("%.1f Mbit/s from %s, of %.0f that were offered", in, name, transferTimes*f.Mbit),
		}, nil
	})
	return fig.into(e, "Mbit/s"), err
}

// transferred sends by TCP between two nodes, at most so many Mbit/s, and says how many
// were received.
func transferred(ctx context.Context, from, to clusters.Node, most float64) (float64, error) {
	l, err := listenInside(ctx, to)
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }() // what it brings is judged, not how it goes
	within, cancel := context.WithTimeout(ctx, transferTime+3*askTime)
	defer cancel()
	type result struct {
		rate float64
		err  error
	}
	got := make(chan result, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			got <- result{0, err}
			return
		}
		defer conn.Close()
		began := time.Now()
		if err := conn.SetReadDeadline(began.Add(transferTime)); err != nil {
			got <- result{0, err}
			return
		}
		n, err := io.Copy(io.Discard, conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		got <- result{float64(n) * 8 / 1e6 / time.Since(began).Seconds(), err}
	}()
	conn, err := fromInside(from)(within, "tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := pour(within, conn, most*1e6/8); err != nil {
		return 0, err
	}
	select {
	case r := <-got:
		return r.rate, r.err
	case <-within.Done():
		return 0, context.Cause(within)
	}
}

// pour writes bytes at a rate for transferTime.
func pour(ctx context.Context, conn net.Conn, rate float64) error {
	began := time.Now()
	if err := conn.SetWriteDeadline(began.Add(transferTime)); err != nil {
		return err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	chunk := make([]byte, 16<<10)
	for sent := 0; time.Since(began) < transferTime; {
		for due := int(rate * time.Since(began).Seconds()); sent < due; {
			n, err := conn.Write(chunk[:min(len(chunk), due-sent)])
			sent += n
			// The receiver has its own clock, and may end a moment earlier.
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("send to see how much gets through: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}
