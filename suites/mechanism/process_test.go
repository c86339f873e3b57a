package mechanism

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"gameday/faults/mechanism/child"
	"gameday/faults/mechanism/process"

	"golang.org/x/sys/unix"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// echoer answers calls, until it is killed or paused.
func echoer(ctx context.Context, c *child.Conn) error {
	if err := c.Ready(nil); err != nil {
		return err
	}
	return c.Serve(ctx, func(json.RawMessage) (any, error) { return nil, nil })
}

// run starts a program as a process group of its own, and ends the group with the spec.
func run(cmd *exec.Cmd) int {
	GinkgoHelper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	Expect(cmd.Start()).To(Succeed())
	DeferCleanup(func() {
		// The end of a namespace's first process has ended some of them already.
		Expect(syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)).To(Or(Succeed(), MatchError(syscall.ESRCH)))
		Expect(cmd.Wait()).To(MatchError(ContainSubstring("killed")))
	})
	return cmd.Process.Pid
}

// sleeper is a process that does nothing, by any name.
func sleeper(name string) *exec.Cmd {
	cmd := exec.Command("/bin/sleep", "600")
	cmd.Args[0] = name
	return cmd
}

// inNewNamespace makes it the first process of a new pid namespace.
func inNewNamespace(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	return cmd
}

// onlyChild waits until a process has a child.
func onlyChild(ctx SpecContext, pid int) (child int) {
	GinkgoHelper()
	Eventually(ctx, func() error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			return err
		}
		_, err = fmt.Sscan(string(b), &child)
		return err
	}).WithPolling(time.Millisecond).WithTimeout(10 * time.Second).Should(Succeed())
	return child
}

// runInside starts it in the pid namespace of another process, as docker exec does.
func runInside(init int, cmd *exec.Cmd) (pid int) {
	GinkgoHelper()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", init))
	Expect(err).NotTo(HaveOccurred())
	defer ns.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer GinkgoRecover()
		runtime.LockOSThread() // and never unlocked: all its children are in that namespace from now on
		Expect(unix.Setns(int(ns.Fd()), unix.CLONE_NEWPID)).To(Succeed())
		pid = run(cmd)
	}()
	<-done
	return pid
}

var _ = Describe("process", func() {
	It("kills and pauses, and sees both", func(ctx SpecContext) {
		var stop, cont, dead figures
		for range 5 {
			c, err := child.Start(ctx, child.Command{Name: "echoer"})
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(func(ctx SpecContext) error { return c.Kill(ctx) }, NodeTimeout(10*time.Second))
			ref, err := process.Of(c.PID())
			Expect(err).NotTo(HaveOccurred())
			p, err := process.Open(ref)
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(p.Close)

			t := time.Now()
			Expect(p.Stop()).To(Succeed())
			Eventually(ctx, p.Stopped).WithPolling(100 * time.Microsecond).WithTimeout(10 * time.Second).Should(BeTrue())
			stop = append(stop, time.Since(t))
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			Expect(c.Call(short, nil, nil)).To(MatchError(context.DeadlineExceeded))
			cancel()
			Expect(p.Alive()).To(BeTrue())
			t = time.Now()
			Expect(p.Cont()).To(Succeed())
			Expect(c.Call(ctx, nil, nil)).To(Succeed())
			cont = append(cont, time.Since(t))

			t = time.Now()
			Expect(p.Kill()).To(Succeed())
			Expect(p.Wait(ctx)).To(Succeed())
			dead = append(dead, time.Since(t))
			Eventually(ctx, c.Done()).WithTimeout(10 * time.Second).Should(BeClosed())
			Expect(p.Cont()).To(MatchError(process.ErrGone))
		}
		stop.report("process: every thread seen stopped after Stop")
		cont.report("process: first answer after Cont")
		dead.report("process: end seen after Kill")
		Expect(dead.median()).To(BeNumerically("<", 100*time.Millisecond))
	}, NodeTimeout(time.Minute))

	It("finds what runs in a pid namespace and below it, whoever started it, and nothing else", func(ctx SpecContext) {
		// A node whose first process has a descendant with a namespace of its own, as a container has.
		node := run(inNewNamespace(exec.Command("/bin/sh", "-c", "unshare --pid --fork --kill-child sleep 600; exit")))
		inner := onlyChild(ctx, onlyChild(ctx, node))
		entered := runInside(node, sleeper("victim"))
		enteredInner := runInside(inner, sleeper("victim"))
		otherNode := run(inNewNamespace(sleeper("/usr/bin/victim")))
		outside := run(sleeper("victim"))

		find := func(init int, name string) (pids []int, err error) {
			refs, err := process.Find(init, process.Named(name))
			for _, r := range refs {
				Expect(process.Of(r.PID)).To(Equal(r))
				pids = append(pids, r.PID)
			}
			return pids, err
		}
		Expect(find(node, "victim")).To(ConsistOf(entered, enteredInner))
		Expect(find(entered, "victim")).To(ConsistOf(entered, enteredInner), "any process of the node will do")
		Expect(find(inner, "victim")).To(ConsistOf(enteredInner))
		Expect(find(otherNode, "victim")).To(ConsistOf(otherNode))
		Expect(find(os.Getpid(), "victim")).To(ContainElements(entered, enteredInner, otherNode, outside))
		Eventually(ctx, find).WithArguments(node, "sleep").WithTimeout(10 * time.Second).Should(ConsistOf(inner))
	}, NodeTimeout(time.Minute))

	It("finds quickly among a thousand processes", func(ctx SpecContext) {
		node := run(inNewNamespace(sleeper("victim")))
		crowd := exec.Command("/bin/sh", "-c", `for i in $(seq 1000); do sleep 600 & done; echo ready; wait`)
		out, err := crowd.StdoutPipe()
		Expect(err).NotTo(HaveOccurred())
		run(crowd)
		Expect(bufio.NewReader(out).ReadString('\n')).To(Equal("ready\n"))

		var took figures
		for range 20 {
			t := time.Now()
			refs, err := process.Find(node, process.Named("victim"))
			took = append(took, time.Since(t))
			Expect(err).NotTo(HaveOccurred())
			Expect(refs).To(HaveLen(1))
		}
		took.report("process: Find among more than a thousand")
		Expect(took.median()).To(BeNumerically("<", 100*time.Millisecond))
	}, NodeTimeout(time.Minute))
})
