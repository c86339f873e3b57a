package mechanism

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"
	"gameday/faults/mechanism/slowfsync"

	"golang.org/x/sys/unix"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
)

// syncTime is one fsync of the victim, by its own clock.
type syncTime struct{ Began, Ended time.Time }

func (s syncTime) took() time.Duration { return s.Ended.Sub(s.Began) }

// syncer is the victim: it writes and syncs a file all the time, by fsync and fdatasync in turn, and has a few idle threads
// and one that starts processes. A call returns the syncs that ended since the last one.
func syncer(ctx context.Context, c *child.Conn) error {
	var path string
	if err := c.Args(&path); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var times []syncTime
	var failed error
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, err := f.WriteAt([]byte{byte(i)}, 0)
			began := time.Now()
			if i%2 == 0 {
				err = errors.Join(err, unix.Fsync(int(f.Fd())))
			} else {
				err = errors.Join(err, unix.Fdatasync(int(f.Fd())))
			}
			mu.Lock()
			times = append(times, syncTime{began, time.Now()})
			failed = errors.Join(failed, err)
			mu.Unlock()
			pause(ctx, time.Millisecond)
		}
	}()
	go func() {
		for ctx.Err() == nil { // new threads and children while traced, and a parent that waits for them
			err := exec.CommandContext(ctx, "/bin/true").Run()
			if ctx.Err() == nil && err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
			pause(ctx, 20*time.Millisecond)
		}
	}()
	if err := c.Ready(nil); err != nil {
		return err
	}
	return c.Serve(ctx, func(json.RawMessage) (any, error) {
		mu.Lock()
		defer mu.Unlock()
		out := times
		times = nil
		return out, failed
	})
}

// stubborn syncs a file, and gives up when that fails, as etcd does.
func stubborn(ctx context.Context, c *child.Conn) error {
	var path string
	if err := c.Args(&path); err != nil {
		return err
	}
	f, err := os.Create(path + ".stubborn")
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err
		}
		pause(ctx, 5*time.Millisecond)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// tracedVictim attaches to a victim and waits to be killed.
type tracedVictim struct {
	Process process.Ref
	Delay   time.Duration
	MaxHold time.Duration
}

func slower(ctx context.Context, c *child.Conn) error {
	var o tracedVictim
	if err := c.Args(&o); err != nil {
		return err
	}
	h, err := slowfsync.Start(ctx, slowfsync.Options{Process: o.Process, Shape: slowfsync.Shape{Delay: o.Delay}, MaxHold: o.MaxHold})
	if err != nil {
		return err
	}
	if err := c.Ready(h.Ref()); err != nil {
		return err
	}
	<-ctx.Done()
	return h.Stop(context.WithoutCancel(ctx))
}

var _ = Describe("slowfsync", func() {
	var victim *child.Process
	var ref process.Ref
	var path string

	BeforeEach(func(ctx SpecContext) {
		path = filepath.Join(GinkgoT().TempDir(), "data.wal")
		var err error
		victim, err = child.Start(ctx, child.Command{Name: "syncer", Args: path})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return victim.Kill(ctx) }, NodeTimeout(10*time.Second))
		ref, err = process.Of(victim.PID())
		Expect(err).NotTo(HaveOccurred())
	}, NodeTimeout(30*time.Second))

	// syncs waits for at least n syncs that began after t.
	syncs := func(ctx SpecContext, t time.Time, n int) (took figures) {
		GinkgoHelper()
		Eventually(ctx, func() error {
			var list []syncTime
			if err := victim.Call(ctx, nil, &list); err != nil {
				return StopTrying("the victim").Wrap(err)
			}
			for _, s := range list {
				if s.Began.After(t) {
					took = append(took, s.took())
				}
			}
			if len(took) < n {
				return errors.New("not enough yet")
			}
			return nil
		}).WithPolling(5 * time.Millisecond).WithTimeout(time.Minute).Should(Succeed())
		return took
	}
	tracer := func() int {
		GinkgoHelper()
		by, err := slowfsync.TracedBy(ref.PID)
		Expect(err).NotTo(HaveOccurred())
		return by
	}
	start := func(ctx SpecContext, o slowfsync.Options) *slowfsync.Holder {
		GinkgoHelper()
		o.Process = ref
		if o.MaxHold == 0 {
			o.MaxHold = time.Minute
		}
		t := time.Now()
		h, err := slowfsync.Start(ctx, o)
		Expect(err).NotTo(HaveOccurred())
		AddReportEntry("slowfsync: Start returns", time.Since(t).String())
		DeferCleanup(func(ctx SpecContext) error { return h.Stop(ctx) }, NodeTimeout(20*time.Second))
		return h
	}
	mean := func(f figures) (m time.Duration) {
		for _, d := range f {
			m += d
		}
		return m / time.Duration(len(f))
	}
	// accurate: no sync is faster than asked (but for the clock's grain), and the fastest is at most 5 % slower. What a busy
	// machine adds to single ones, and to any sync without a delay, is in the report.
	accurate := func(d time.Duration) OmegaMatcher {
		return WithTransform(func(f figures) time.Duration { return slices.Min(f) }, And(
			BeNumerically(">=", d-time.Millisecond), BeNumerically("<=", d+d/20)))
	}

	It("delays as asked, changes the delay while on, and ends at once", func(ctx SpecContext) {
		syncs(ctx, time.Now(), 5)
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 100 * time.Millisecond}})
		Expect(tracer()).To(Equal(h.Ref().PID))
		for _, d := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 20 * time.Millisecond} {
			Expect(h.SetDelay(ctx, d)).To(Succeed())
			took := syncs(ctx, time.Now(), 12)
			took.report("slowfsync: a sync with a delay of " + d.String())
			Expect(took).To(accurate(d), "%v", took)
			AddReportEntry("slowfsync: mean with a delay of "+d.String(), mean(took).String())
			s, err := h.Stats(ctx)
			Expect(err).NotTo(HaveOccurred())
			Expect(s.Delay).To(Equal(d))
			Expect(s.Delayed).To(BeNumerically(">=", 12))
		}
		Expect(h.SetDelay(ctx, 0)).To(Succeed())
		attached := syncs(ctx, time.Now(), 100)
		attached.report("slowfsync: a sync while attached without a delay")

		Expect(h.SetDelay(ctx, 30*time.Second)).To(Succeed())
		Eventually(ctx, func() (int, error) { s, err := h.Stats(ctx); return s.Waiting, err }).WithTimeout(10 * time.Second).Should(Equal(1))
		t := time.Now()
		Expect(h.Stop(ctx)).To(Succeed())
		Expect(tracer()).To(BeZero())
		AddReportEntry("slowfsync: Stop returns", time.Since(t).String())
		Expect(h.Err()).NotTo(HaveOccurred())
		after := syncs(ctx, t, 100)
		after.report("slowfsync: a sync after it")
		Expect(after.median()).To(BeNumerically("<", 20*time.Millisecond))
	}, NodeTimeout(2*time.Minute))

	It("lets calls go that wait, when the delay is shortened", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: time.Hour}})
		Eventually(ctx, func() (int, error) { s, err := h.Stats(ctx); return s.Waiting, err }).WithTimeout(10 * time.Second).Should(Equal(1))
		t := time.Now()
		Expect(h.SetDelay(ctx, 10*time.Millisecond)).To(Succeed())
		syncs(ctx, t, 1)
		Expect(time.Since(t)).To(BeNumerically("<", 5*time.Second))
	}, NodeTimeout(time.Minute))

	It("delays with jitter, the mean as asked, and lets the delay grow", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 60 * time.Millisecond, Jitter: 40 * time.Millisecond}})
		syncs(ctx, time.Now(), 2)
		took := syncs(ctx, time.Now(), 20)
		took.report("slowfsync: a sync with a delay of 60 ms and a jitter of 40 ms")
		Expect(slices.Min(took)).To(BeNumerically(">=", 19*time.Millisecond))
		Expect(slices.Max(took) - slices.Min(took)).To(BeNumerically(">=", 20*time.Millisecond))
		// A busy machine only adds to it.
		Expect(mean(took)).To(And(BeNumerically(">=", 58*time.Millisecond), BeNumerically("<=", 90*time.Millisecond)))
		s := slowfsync.Shape{Delay: 20 * time.Millisecond, GrowTo: 200 * time.Millisecond, Over: 2 * time.Second, Since: time.Now()}
		Expect(h.Set(ctx, s)).To(Succeed())
		early := syncs(ctx, time.Now(), 3)
		late := syncs(ctx, s.Since.Add(s.Over), 3)
		Expect(slices.Min(early)).To(BeNumerically("<", 100*time.Millisecond))
		Expect(late).To(accurate(200 * time.Millisecond))
	}, NodeTimeout(time.Minute))

	It("lets calls fail, of those that are started later too, and ends at once", func(ctx SpecContext) {
		// By a name of its own, so that nobody else is meant.
		exe, err := os.Executable()
		Expect(err).NotTo(HaveOccurred())
		program := filepath.Join(GinkgoT().TempDir(), "fails-at-eio")
		Expect(os.Symlink(exe, program)).To(Succeed())
		run := func() (said *gbytes.Buffer, ended chan error) {
			GinkgoHelper()
			args, err := json.Marshal(path)
			Expect(err).NotTo(HaveOccurred())
			c := exec.Command(program, "gameday-child", "stubborn", "1m", string(args))
			said, ended = gbytes.NewBuffer(), make(chan error, 1)
			c.Stderr = said
			lease, err := c.StdinPipe()
			Expect(err).NotTo(HaveOccurred())
			Expect(c.Start()).To(Succeed())
			go func() { ended <- c.Wait() }()
			DeferCleanup(func() { lease.Close() }) // closed already if it has ended
			return said, ended
		}
		_, alive := run()
		self, err := process.Of(os.Getpid())
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, func() ([]process.Ref, error) { return process.Find(self.PID, process.Named("fails-at-eio")) }).WithTimeout(10 * time.Second).Should(HaveLen(1))
		Consistently(ctx, alive).WithTimeout(300 * time.Millisecond).ShouldNot(Receive())
		t := time.Now()
		f, err := slowfsync.StartFailing(ctx, slowfsync.FailOptions{Init: self, Program: "fails-at-eio", Errno: unix.EIO, Match: path, MaxHold: time.Minute})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return f.Stop(ctx) }, NodeTimeout(20*time.Second))
		AddReportEntry("failfsync: Start returns", time.Since(t).String())
		Eventually(ctx, alive).WithTimeout(10 * time.Second).Should(Receive(HaveOccurred()))
		AddReportEntry("failfsync: the process has failed and ended after", time.Since(t).String())
		Expect(f.Stats(ctx)).To(Equal(slowfsync.FailStats{Failed: 1, Processes: 1}))

		t = time.Now()
		said, again := run()
		Eventually(ctx, again).WithTimeout(10 * time.Second).Should(Receive(HaveOccurred()))
		Expect(said).To(gbytes.Say(unix.EIO.Error()))
		AddReportEntry("failfsync: one that was started later has failed and ended after", time.Since(t).String())
		Expect(f.Stats(ctx)).To(Equal(slowfsync.FailStats{Failed: 2, Processes: 2}))

		Expect(syncs(ctx, time.Now(), 5)).NotTo(BeEmpty(), "a process of another name")
		Expect(f.Stop(ctx)).To(Succeed())
		Expect(f.Err()).NotTo(HaveOccurred())
		_, alive = run()
		Consistently(ctx, alive).WithTimeout(300 * time.Millisecond).ShouldNot(Receive())
	}, NodeTimeout(time.Minute))

	It("picks files by their path", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: time.Hour}, Match: "/other/"})
		syncs(ctx, time.Now(), 100)
		Expect(h.Stats(ctx)).To(Equal(slowfsync.Stats{Delay: time.Hour}))
		Expect(h.Stop(ctx)).To(Succeed())
		start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 50 * time.Millisecond}, Match: ".wal"})
		Expect(syncs(ctx, time.Now(), 6)).To(accurate(50 * time.Millisecond))
	}, NodeTimeout(time.Minute))

	It("ends at the longest hold time", func(ctx SpecContext) {
		t := time.Now()
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: time.Hour}, MaxHold: time.Second})
		Eventually(ctx, h.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
		Expect(time.Since(t)).To(BeNumerically("~", 3*time.Second, 2100*time.Millisecond))
		Expect(tracer()).To(BeZero())
		Expect(h.Err()).NotTo(HaveOccurred())
		syncs(ctx, time.Now(), 10)
	}, NodeTimeout(time.Minute))

	It("ends when its holder is killed", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 30 * time.Second}})
		Eventually(ctx, func() (int, error) { s, err := h.Stats(ctx); return s.Waiting, err }).WithTimeout(10 * time.Second).Should(Equal(1))
		t := time.Now()
		kill(h.Ref())
		syncs(ctx, t, 5)
		AddReportEntry("slowfsync: five syncs after SIGKILL of the holder, one of which was being held back", time.Since(t).String())
		Expect(tracer()).To(BeZero())
		Expect(time.Since(t)).To(BeNumerically("<", time.Second))
	}, NodeTimeout(time.Minute))

	It("ends when the starter of its holder is killed", func(ctx SpecContext) {
		var holder process.Ref
		p, err := child.Start(ctx, child.Command{Name: "slower", Ready: &holder, Args: tracedVictim{ref, 30 * time.Second, time.Minute}})
		Expect(err).NotTo(HaveOccurred())
		Expect(tracer()).To(Equal(holder.PID))
		t := time.Now()
		Expect(p.Kill(ctx)).To(Succeed())
		syncs(ctx, t, 5)
		AddReportEntry("slowfsync: five syncs after SIGKILL of the starter", time.Since(t).String())
		Expect(tracer()).To(BeZero())
		Eventually(ctx, func() error {
			left, err := process.Open(holder)
			if err != nil {
				return err
			}
			return left.Close()
		}).WithTimeout(10*time.Second).Should(MatchError(process.ErrGone), "nothing of it is left")
	}, NodeTimeout(time.Minute))

	It("ends when a holder that hangs is killed by somebody else", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 100 * time.Millisecond}})
		p, err := process.Open(h.Ref())
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(p.Close)
		Expect(p.Stop()).To(Succeed())
		Eventually(ctx, p.Stopped).WithTimeout(10 * time.Second).Should(BeTrue())
		// The victim hangs now, and would go on doing so.
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		Expect(victim.Call(short, nil, nil)).To(MatchError(context.DeadlineExceeded))
		t := time.Now()
		kill(h.Ref())
		syncs(ctx, t, 5)
		AddReportEntry("slowfsync: five syncs after SIGKILL of a stopped holder", time.Since(t).String())
		Expect(tracer()).To(BeZero())
		Expect(h.Stop(ctx)).To(Succeed())
	}, NodeTimeout(time.Minute))

	It("ends by itself when the holder hangs, a second after the longest hold time", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 100 * time.Millisecond}, MaxHold: time.Second})
		t := time.Now()
		Expect(unix.Kill(h.Ref().PID, unix.SIGSTOP)).To(Succeed())
		syncs(ctx, t.Add(1500*time.Millisecond), 5)
		AddReportEntry("slowfsync: five syncs after SIGSTOP of a holder with a longest hold time of 1 s", time.Since(t).String())
		Expect(tracer()).To(BeZero())
		Eventually(ctx, h.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
		Expect(h.Err()).To(MatchError(ContainSubstring("killed")))
	}, NodeTimeout(time.Minute))

	It("says so when the victim ends", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 30 * time.Second}})
		Expect(victim.Kill(ctx)).To(Succeed())
		Eventually(ctx, h.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
		Expect(h.Err()).To(MatchError(ContainSubstring(process.ErrGone.Error())))
		Expect(h.Stop(ctx)).To(Succeed())
		_, err := slowfsync.Start(ctx, slowfsync.Options{Process: ref, MaxHold: time.Minute})
		Expect(err).To(MatchError(ContainSubstring(process.ErrGone.Error())))
	}, NodeTimeout(time.Minute))

	It("refuses a process that is traced already, and leaves it as it is", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 20 * time.Millisecond}})
		_, err := slowfsync.Start(ctx, slowfsync.Options{Process: ref, Shape: slowfsync.Shape{Delay: time.Second}, MaxHold: time.Minute})
		Expect(err).To(MatchError(ContainSubstring("is traced already")))
		Expect(tracer()).To(Equal(h.Ref().PID))
		Expect(syncs(ctx, time.Now(), 10)).To(accurate(20 * time.Millisecond))
	}, NodeTimeout(time.Minute))

	It("leaves signals and pauses of the victim to others", func(ctx SpecContext) {
		h := start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 20 * time.Millisecond}})
		p, err := process.Open(ref)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(p.Close)
		Expect(p.Stop()).To(Succeed())
		quiet, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		Expect(victim.Call(quiet, nil, nil)).To(MatchError(context.DeadlineExceeded))
		Expect(h.Stop(ctx)).To(Succeed())
		Eventually(ctx, p.Stopped).WithTimeout(10*time.Second).Should(BeTrue(), "still paused when no longer traced")
		Expect(p.Cont()).To(Succeed())
		syncs(ctx, time.Now(), 5)

		h = start(ctx, slowfsync.Options{Shape: slowfsync.Shape{Delay: 20 * time.Millisecond}})
		Expect(p.Stop()).To(Succeed())
		Expect(p.Cont()).To(Succeed())
		Expect(syncs(ctx, time.Now(), 10)).To(accurate(20 * time.Millisecond))
		Expect(p.Signal(unix.SIGTERM)).To(Succeed())
		Eventually(ctx, victim.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
		Expect(victim.Err()).NotTo(HaveOccurred(), "it ended by itself, as asked")
		Eventually(ctx, h.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
	}, NodeTimeout(time.Minute))
})

// kill does what a guard would do that knows only the name of a process.
func kill(ref process.Ref) {
	GinkgoHelper()
	p, err := process.Open(ref)
	Expect(err).NotTo(HaveOccurred())
	Expect(errors.Join(p.Kill(), p.Close())).To(Succeed())
}
