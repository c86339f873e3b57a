package mechanism

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/loopdisk"
	"gameday/faults/mechanism/process"

	"golang.org/x/sys/unix"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// frozenDisk freezes a file system and waits to be killed.
func frozenDisk(ctx context.Context, c *child.Conn) error {
	var mount string
	if err := c.Args(&mount); err != nil {
		return err
	}
	f, err := loopdisk.StartFreeze(ctx, mount, time.Minute)
	if err != nil {
		return err
	}
	if err := c.Ready(f.Ref()); err != nil {
		return err
	}
	<-ctx.Done()
	return f.Stop(context.WithoutCancel(ctx))
}

var _ = Describe("loopdisk", func() {
	var image, mount string

	run := func(ctx context.Context, argv ...string) error {
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			return errors.Join(err, errors.New(string(out)))
		}
		return nil
	}

	BeforeEach(func(ctx SpecContext) {
		dir := GinkgoT().TempDir()
		image, mount = filepath.Join(dir, "image"), filepath.Join(dir, "mount")
		Expect(os.Mkdir(mount, 0o755)).To(Succeed())
		Expect(os.WriteFile(image, nil, 0o600)).To(Succeed())
		Expect(os.Truncate(image, 256<<20)).To(Succeed())
		Expect(run(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", image)).To(Succeed())
		Expect(run(ctx, "mount", "-o", "loop", image, mount)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) {
			Expect(loopdisk.Thaw(mount)).To(Or(Succeed(), MatchError(unix.EIO)))
			Expect(run(ctx, "umount", mount)).To(Succeed())
		}, NodeTimeout(30*time.Second))
	}, NodeTimeout(30*time.Second))

	synced := func(name string) error {
		f, err := os.Create(filepath.Join(mount, name))
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, 64<<10))
		return errors.Join(err, f.Sync(), f.Close())
	}
	// write begins a write that may have to wait.
	write := func() chan error {
		done := make(chan error, 1)
		go func() { done <- synced("waits") }()
		return done
	}

	It("fills, and gives back only its own", func() {
		before, err := loopdisk.SpaceOf(mount)
		Expect(err).NotTo(HaveOccurred())
		Expect(before.Free).To(BeNumerically(">", 100<<20))
		t := time.Now()
		Expect(loopdisk.Fill(mount, "run-a")).To(Succeed())
		AddReportEntry("loopdisk: Fill returns", time.Since(t).String())
		Expect(loopdisk.SpaceOf(mount)).To(HaveField("Free", BeZero()))
		Expect(synced("x")).To(MatchError(unix.ENOSPC))
		Expect(loopdisk.Fill(mount, "run-a")).To(Succeed())
		Expect(loopdisk.Empty(mount, "run-b")).To(Succeed())
		Expect(loopdisk.SpaceOf(mount)).To(HaveField("Free", BeZero()))
		Expect(loopdisk.Empty(mount, "run-a")).To(Succeed())
		Expect(loopdisk.Empty(mount, "run-a")).To(Succeed())
		Expect(loopdisk.SpaceOf(mount)).To(HaveField("Free", BeNumerically(">", before.Free-1<<20)))
		Expect(synced("x")).To(Succeed())
	})

	It("hangs until it is let go", func(ctx SpecContext) {
		f, err := loopdisk.StartFreeze(ctx, mount, time.Minute)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func(ctx SpecContext) error { return f.Stop(ctx) }, NodeTimeout(20*time.Second))
		done := write()
		Consistently(ctx, done).WithTimeout(300 * time.Millisecond).ShouldNot(Receive())
		_, err = loopdisk.StartFreeze(ctx, mount, time.Minute)
		Expect(err).To(HaveOccurred(), "frozen already, and not known by whom")
		t := time.Now()
		Expect(f.Stop(ctx)).To(Succeed())
		Eventually(ctx, done).WithTimeout(10 * time.Second).Should(Receive(BeNil()))
		AddReportEntry("loopdisk: a write goes on after Stop", time.Since(t).String())
		Expect(loopdisk.Thaw(mount)).To(Succeed(), "of one that is not frozen")
	}, NodeTimeout(time.Minute))

	It("hangs no longer than the longest hold time", func(ctx SpecContext) {
		f, err := loopdisk.StartFreeze(ctx, mount, time.Second)
		Expect(err).NotTo(HaveOccurred())
		Eventually(ctx, write()).WithTimeout(10 * time.Second).Should(Receive(BeNil()))
		Eventually(ctx, f.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
		Expect(f.Err()).NotTo(HaveOccurred())
	}, NodeTimeout(time.Minute))

	It("goes on when the starter of its holder is killed", func(ctx SpecContext) {
		var holder process.Ref
		p, err := child.Start(ctx, child.Command{Name: "frozen-disk", Ready: &holder, Args: mount})
		Expect(err).NotTo(HaveOccurred())
		done := write()
		Consistently(ctx, done).WithTimeout(300 * time.Millisecond).ShouldNot(Receive())
		t := time.Now()
		Expect(p.Kill(ctx)).To(Succeed())
		Eventually(ctx, done).WithTimeout(10 * time.Second).Should(Receive(BeNil()))
		AddReportEntry("loopdisk: a write goes on after SIGKILL of the starter", time.Since(t).String())
	}, NodeTimeout(time.Minute))

	It("is thawed by anybody when the holder itself was killed", func(ctx SpecContext) {
		f, err := loopdisk.StartFreeze(ctx, mount, time.Minute)
		Expect(err).NotTo(HaveOccurred())
		done := write()
		kill(f.Ref())
		Eventually(ctx, f.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
		Consistently(ctx, done).WithTimeout(300 * time.Millisecond).ShouldNot(Receive())
		Expect(loopdisk.Thaw(mount)).To(Succeed())
		Eventually(ctx, done).WithTimeout(10 * time.Second).Should(Receive(BeNil()))
	}, NodeTimeout(time.Minute))

	It("loses the power, and what was not synced", func(ctx SpecContext) {
		Expect(loopdisk.IsShutDown(mount)).To(BeFalse())
		Expect(synced("kept")).To(Succeed())
		Expect(os.WriteFile(filepath.Join(mount, "lost"), []byte("x"), 0o600)).To(Succeed())
		t := time.Now()
		Expect(loopdisk.Shutdown(mount)).To(Succeed())
		AddReportEntry("loopdisk: Shutdown returns", time.Since(t).String())
		Expect(loopdisk.IsShutDown(mount)).To(BeTrue())
		Expect(synced("x")).To(MatchError(unix.EIO))
		Expect(run(ctx, "umount", mount)).To(Succeed())
		Expect(run(ctx, "mount", "-o", "loop", image, mount)).To(Succeed())
		Expect(loopdisk.IsShutDown(mount)).To(BeFalse())
		Expect(filepath.Join(mount, "kept")).To(BeARegularFile())
		Expect(filepath.Join(mount, "lost")).NotTo(BeAnExistingFile())
	}, NodeTimeout(time.Minute))

	It("says so where it cannot", func() {
		err := loopdisk.Shutdown("/proc")
		Expect(err).To(MatchError(errors.ErrUnsupported))
	})
})
