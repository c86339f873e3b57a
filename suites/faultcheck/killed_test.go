package faultcheck

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"gameday/clusters"
	"gameday/faults"
	"gameday/faults/mechanism/child"
	"gameday/harness/history"
	"gameday/harness/inject"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// victimEntry is the process that injects a fault and is killed for it.
const victimEntry = "faultcheck-victim"

type victimArgs struct {
	Cluster, Fault, With, Where, ID, Dir string
	// Until is the state that is reported.
	Until string
	Lease time.Duration
}

// victim is a run with one fault.
func victim(ctx context.Context, c *child.Conn) error {
	var args victimArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	cl, err := open(ctx, "kind", args.Cluster)
	if err != nil {
		return err
	}
	k, ok := faults.Lookup(args.Fault)
	if !ok {
		return fmt.Errorf("no fault %s", args.Fault)
	}
	f := k.New()
	if err := yaml.Unmarshal([]byte(args.With), f); err != nil {
		return err
	}
	n, err := nodeAt(cl, args.Where)
	if err != nil {
		return err
	}
	j, err := inject.OpenJournal(filepath.Join(args.Dir, "journal.jsonl"), inject.Header{Run: "faultcheck", Provider: "kind", Cluster: args.Cluster})
	if err != nil {
		return err
	}
	if _, err := inject.StartGuard(ctx, j, args.Lease); err != nil {
		return err
	}
	reached := make(chan struct{}, 1)
	i, err := inject.New(inject.Config{
		ID: args.ID, Kind: k, Fault: f, Journal: j,
		Env: faults.Env{Cluster: cl, Targets: []clusters.Node{n}, Tag: inject.Tag("faultcheck", args.ID), MaxHold: 5 * time.Minute},
		Record: func(h history.Injection, _ time.Time) {
			fmt.Fprintln(os.Stderr, h.State, h.Error)
			if h.State == args.Until {
				reached <- struct{}{}
			}
		},
	})
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		if err := i.Start(ctx); err != nil {
			failed <- err
			return
		}
		i.Watch(ctx)
	}()
	select {
	case <-reached:
	case err := <-failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.Ready(os.Getpid()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// startVictim starts a run with one fault and returns when that has come to a state.
func startVictim(ctx context.Context, c check, until string, lease time.Duration) (p *child.Process, journal string) {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	GinkgoT().Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	log, err := os.Create(filepath.Join(dir, "run.log"))
	Expect(err).NotTo(HaveOccurred())
	defer log.Close()
	DeferCleanup(func() {
		for _, f := range []string{"run.log", "guard.log", "journal.jsonl"} {
			b, err := os.ReadFile(filepath.Join(dir, f))
			say("%s (%v):\n%s", f, err, b)
		}
	})
	with, err := yaml.Marshal(c.with)
	Expect(err).NotTo(HaveOccurred())
	p, err = child.Start(ctx, child.Command{Name: victimEntry, Log: log, Args: victimArgs{
		Cluster: cluster.Name(), Fault: c.kind, With: string(with), Where: clusters.Place(c.target(ctx)), ID: c.name, Dir: dir, Until: until, Lease: lease,
	}})
	Expect(err).NotTo(HaveOccurred())
	return p, filepath.Join(dir, "journal.jsonl")
}

// guardHeals waits until the guard has healed everything.
func guardHeals(ctx context.Context, journal string) {
	GinkgoHelper()
	Eventually(ctx, func() error {
		c, err := inject.ReadJournal(journal)
		if err == nil && len(c.Open()) > 0 {
			err = fmt.Errorf("%s is %s: %s", c.Open()[0].ID, c.Open()[0].State, c.Open()[0].Error)
		}
		if err == nil && c.Holder.As != "guard" {
			err = errors.New("the guard has not come yet")
		}
		return err
	}).WithTimeout(8 * time.Minute).WithPolling(5 * time.Millisecond).Should(Succeed())
}

var _ = Describe("A run that is killed", Serial, Ordered, ContinueOnFailure, func() {
	BeforeEach(func(ctx SpecContext) { eventuallyWhole(ctx) }, NodeTimeout(8*time.Minute))

	for _, when := range []struct {
		until string
		// later is how long after it: an injection of etcd.replace takes about 50 ms.
		later time.Duration
	}{{"armed", 0}, {"armed", 5 * time.Millisecond}, {"armed", 20 * time.Millisecond}, {"armed", 40 * time.Millisecond}, {"proven", 0}} {
		for _, c := range checks() {
			if c.name == "partition-in" || c.name == "slow-wal" || when.later > 0 && c.name != "etcd-replace" {
				continue // as their namesakes; or over by then
			}
			until, later, when := when.until, when.later, fmt.Sprintf("%s + %s", when.until, when.later)
			It(fmt.Sprintf("once %s is %s leaves nothing behind", c.name, when), func(ctx SpecContext) {
				c := c.on(2)
				p, journal := startVictim(ctx, c, until, inject.DefaultLease)
				if until == "proven" {
					e, err := again(c.with).Prove(ctx, c.env(ctx, &memory{}))
					Expect(err).NotTo(HaveOccurred())
					Expect(e.Gone).To(BeFalse(), "nothing is broken, so nothing is shown by its being whole: %s", e.Evidence)
				}
				time.Sleep(later) // any moment will do
				killed := time.Now()
				Expect(p.Kill(ctx)).To(Succeed())

				guardHeals(ctx, journal)
				AddReportEntry(c.name+" killed when "+when, fmt.Sprintf("gone %s after SIGKILL", time.Since(killed).Round(time.Millisecond)))
				Eventually(ctx, inject.OpenJournals).WithTimeout(10*time.Second).Should(BeEmpty(), "the index of open journals")
				eventuallyWhole(ctx)
			}, NodeTimeout(18*time.Minute))
		}
	}
})

var _ = Describe("A run that hangs", Serial, Ordered, ContinueOnFailure, func() {
	BeforeEach(func(ctx SpecContext) { eventuallyWhole(ctx) }, NodeTimeout(8*time.Minute))

	for _, c := range checks() {
		if c.name != "partition" && c.name != "slow-fsync" {
			continue // what holds the others is not the run
		}
		It("loses "+c.name+" to its guard, and does not take it up again", func(ctx SpecContext) {
			const lease = 3 * time.Second
			p, journal := startVictim(ctx, c, "proven", lease)
			DeferCleanup(func(ctx SpecContext) { Expect(p.Kill(ctx)).To(Succeed()) }, NodeTimeout(time.Minute))
			Consistently(ctx, func() error {
				c, err := inject.ReadJournal(journal)
				if err == nil && c.Holder.As != "harness" {
					err = errors.New("the guard has come although the run beats")
				}
				return err
			}).WithTimeout(2 * lease).Should(Succeed())

			hung := time.Now()
			Expect(syscall.Kill(p.PID(), syscall.SIGSTOP)).To(Succeed())
			guardHeals(ctx, journal)
			AddReportEntry(c.name+" of a run that hangs", fmt.Sprintf("gone %s after SIGSTOP, with a lease of %s", time.Since(hung).Round(time.Millisecond), lease))
			Expect(syscall.Kill(p.PID(), syscall.SIGCONT)).To(Succeed())
			f, env := again(c.with), c.env(ctx, &memory{})
			Consistently(ctx, func() error {
				e, err := f.Prove(ctx, env)
				if err == nil && !e.Gone {
					err = errors.New(e.Evidence)
				}
				return err
			}).WithTimeout(10 * time.Second).WithPolling(100 * time.Millisecond).Should(Succeed())
			eventuallyWhole(ctx)
		}, NodeTimeout(18*time.Minute))
	}
})

var _ = Describe("What no journal tells of", Serial, func() {
	It("is swept", func(ctx SpecContext) {
		eventuallyWhole(ctx)
		GinkgoT().Setenv("XDG_STATE_HOME", GinkgoT().TempDir())
		c := checks()[slices.IndexFunc(checks(), func(c check) bool { return c.kind == "etcd.stop" })]
		f, env := again(c.with), c.env(ctx, &memory{})
		DeferCleanup(func(ctx SpecContext) { Expect(f.Heal(ctx, env)).To(Succeed()) }, NodeTimeout(time.Minute))
		Expect(f.Inject(ctx, env)).To(Succeed())
		until(ctx, f, env, 30*time.Second, active)
		for range 2 {
			Expect(inject.Sweep(ctx, cluster, say)).To(Succeed())
		}
		eventuallyWhole(ctx)
	}, NodeTimeout(15*time.Minute))
})
