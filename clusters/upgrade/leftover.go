package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gameday/clusters"
)

// leftover waits until no kubeadm runs on the node. When gameday dies, the
// kubeadm that it had started goes on inside the node; two at once would undo
// each other. One of ours that does not end is ended; somebody else's is not.
func (s *stepRun) leftover(ctx context.Context) error {
	var procs []process
	var last error
	said := false
	running := func(ctx context.Context) bool {
		if procs, last = kubeadms(ctx, s.node); last != nil {
			return false
		}
		if len(procs) > 0 && !said {
			said = true
			s.env.say("%s: waiting <= %s for a kubeadm that is running already: %s", s.step.Phase, leftoverBound, procs[0])
			fmt.Fprintf(s.out, "gameday: waiting for a kubeadm that is running already: %v\n", procs)
		}
		return len(procs) == 0
	}
	if err := poll(ctx, leftoverBound, callEvery, running); err == nil {
		return nil
	} else if ctx.Err() != nil || last != nil {
		return fmt.Errorf("%s: looking for a kubeadm that is running already: %w", s.node.Name(), errOr(last, err))
	}
	for _, p := range procs {
		if !p.ours() {
			return fmt.Errorf("%s: a kubeadm that gameday did not start is running since more than %s (%s): let it end, or end it", s.node.Name(), leftoverBound, p)
		}
	}
	for _, sig := range []string{"-TERM", "-KILL"} {
		for _, p := range procs {
			// One that has ended meanwhile makes kill fail: the look below decides.
			var failed *clusters.ExitError
			if err := s.command(ctx, time.Minute, []string{"kill", sig, p.pid}); err != nil && !errors.As(err, &failed) {
				return err
			}
		}
		if err := poll(ctx, 10*time.Second, callEvery, running); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s: the kubeadm of an earlier run does not end: %v", s.node.Name(), procs)
}

func errOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// process is a kubeadm on a node.
type process struct{ pid, args string }

func (p process) String() string { return "pid " + p.pid + ": " + p.args }

// ours tells a kubeadm that gameday started by the path of its configuration.
func (p process) ours() bool { return strings.Contains(p.args, " "+stage+"/") }

// kubeadms lists the kubeadm processes of a node, told by the file that they
// execute.
func kubeadms(ctx context.Context, n clusters.Node) ([]process, error) {
	// Each line ends in "/proc/PID/exe -> FILE"; processes that end meanwhile
	// make ls fail, which says nothing. A list that is cut short would hide one.
	out, err := clusters.Output(ctx, n, "sh", "-c", "ls -l /proc/[0-9]*/exe 2>/dev/null; echo "+listed)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(strings.TrimSpace(string(out)), listed) {
		return nil, fmt.Errorf("%s: the list of its processes is cut short", n.Name())
	}
	var procs []process
	for _, pid := range kubeadmPIDs(string(out)) {
		args, err := clusters.Output(ctx, n, "sh", "-c", `tr '\0' ' ' <"/proc/$0/cmdline" || true`, pid)
		if err != nil {
			return nil, err
		}
		if a := strings.TrimSpace(string(args)); a != "" { // else it has ended
			procs = append(procs, process{pid: pid, args: a})
		}
	}
	return procs, nil
}

// listed ends the list of processes.
const listed = "that is all"

func kubeadmPIDs(listing string) []string {
	var out []string
	for _, line := range strings.Split(listing, "\n") {
		link, file, ok := strings.Cut(line, " -> ")
		file = strings.TrimSuffix(file, " (deleted)")
		if !ok || !strings.HasSuffix(file, "/kubeadm") {
			continue
		}
		i := strings.LastIndex(link, "/proc/")
		if i < 0 {
			continue
		}
		out = append(out, strings.TrimSuffix(link[i+len("/proc/"):], "/exe"))
	}
	return out
}
