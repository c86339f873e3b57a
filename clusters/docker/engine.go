package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gameday/clusters"
	"gameday/clusters/cache"
)

const (
	// startBound is how long dockerd may take from its start to its first answer
	// (2 s on an idle machine; it repairs its state after a crash).
	startBound = 60 * time.Second
	// stopBound is how long it may take to end: it stops every container first,
	// each in up to 10 s.
	stopBound = 60 * time.Second
	// installBound is for apt-get, which downloads about 100 MB.
	installBound = 10 * time.Minute
)

// Ensure returns when Docker works and can start privileged containers. It
// installs and starts what is missing, where it can. The returned function
// stops what this call started (and does nothing if it started nothing); a
// caller that wants Docker to stay just does not call it, and StopOurs can stop
// it later.
func Ensure(ctx context.Context, say clusters.Say) (stop func(context.Context) error, err error) {
	stop = func(context.Context) error { return nil }
	if answerErr := answers(ctx); answerErr != nil {
		if ctx.Err() != nil {
			return stop, answerErr
		}
		if err := checkStart(answerErr); err != nil {
			return stop, err
		}
		started, err := startEngine(ctx, say)
		if started {
			stop = StopOurs
		}
		if err != nil {
			return stop, err
		}
	}
	f, err := Inspect(ctx)
	if err != nil {
		return stop, err
	}
	if err := checkDisk(f); err != nil {
		return stop, err
	}
	if !f.SysResource {
		if err := serveRestricted(ctx, f, say); err != nil {
			return stop, err
		}
	}
	return stop, nil
}

// Check lists, as one joined error, what Ensure could not serve. It changes
// nothing.
func Check(ctx context.Context) error {
	if err := answers(ctx); err != nil {
		return checkStart(err)
	}
	f, err := Inspect(ctx)
	if err != nil {
		return err
	}
	errs := []error{checkDisk(f)}
	if !f.SysResource && f.DefaultRuntime != runtimeName {
		// A foreign runtime may well serve: only trying it tells, and trying
		// changes something. What is certain is said.
		if f.DefaultRuntime == "runc" || f.DefaultRuntime == "" {
			errs = append(errs, checkRestricted(f))
		}
	}
	return errors.Join(errs...)
}

// answers asks the daemon for its version.
func answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerBound)
	defer cancel()
	_, err := Run(ctx, "version", "--format", "{{.Server.Version}}")
	return err
}

// checkStart is the obstacle to starting Docker here, given why it does not
// answer.
func checkStart(why error) error {
	mend := func(how string) error {
		return fmt.Errorf("docker does not answer, and %s (%w)", how, why)
	}
	switch {
	case runtime.GOOS != "linux":
		return mend("it can be started by gameday on Linux only: start Docker")
	case os.Getenv("DOCKER_HOST") != "":
		return mend("DOCKER_HOST is set, so that it is not for gameday to start one: start that one, or unset DOCKER_HOST")
	case strings.Contains(why.Error(), "permission denied"):
		return mend("this user may not use it: run as root, or add the user to the group docker")
	case os.Geteuid() != 0:
		return mend("only root can start one: start Docker, or run as root")
	}
	if _, err := exec.LookPath("dockerd"); err == nil {
		return nil
	}
	if _, err := os.Stat("/etc/debian_version"); err != nil {
		return mend("it can be installed by gameday on Debian and its descendants only: install and start Docker")
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return mend("there is no apt-get to install it with: install and start Docker")
	}
	return nil
}

// startEngine installs Docker if it must and starts it. started says that it
// was us who started a daemon.
func startEngine(ctx context.Context, say clusters.Say) (started bool, err error) {
	if _, err := exec.LookPath("dockerd"); err != nil {
		if err := install(ctx, say); err != nil {
			return false, err
		}
		// Debian's package starts it by itself where there is an init system.
		if answers(ctx) == nil {
			return false, nil
		}
	}
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		say("docker: starting it (systemctl start docker; up to %s)", startBound)
		ctx, cancel := context.WithTimeout(ctx, startBound)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "systemctl", "start", "docker").CombinedOutput(); err != nil {
			return false, fmt.Errorf("systemctl start docker: %w: %s", err, lastLines(string(out)))
		}
		// It is systemd's now, and ends with the machine: not ours to stop.
		return false, poll(ctx, func() error { return answers(ctx) })
	}
	return true, startDaemon(ctx, say)
}

func install(ctx context.Context, say clusters.Say) error {
	say("docker: installing docker.io with apt-get (up to %s)", installBound)
	ctx, cancel := context.WithTimeout(ctx, installBound)
	defer cancel()
	for _, args := range [][]string{
		{"update"},
		{"install", "--yes", "--no-install-recommends", "docker.io", "iptables"},
	} {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{
			"-q",
			"-o", "DPkg::Lock::Timeout=120", // seconds: another apt-get may be at work
			// A configuration file that is there stays, and nobody is asked.
			"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
		}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.WaitDelay = 5 * time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s (install Docker by other means and start it): %w: %s", strings.Join(args, " "), err, lastLines(withoutWarnings(string(out))))
		}
	}
	return nil
}

// withoutWarnings is what apt-get said, without its warnings, which come last.
func withoutWarnings(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "W: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// startedFile is the record of a daemon that we started. Losing it is harmless:
// the daemon then stays.
type startedFile struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // clock ticks since boot, as in /proc/PID/stat
}

func startedPath() (string, error) {
	dir, err := cache.Dir("docker")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "started.json"), nil
}

// startDaemon starts dockerd in a session of its own, so that it outlives us
// and no Ctrl-C reaches it.
func startDaemon(ctx context.Context, say clusters.Say) error {
	record, err := startedPath()
	if err != nil {
		return err
	}
	// One that we started before and that lives is slow, not gone: a second one
	// would die on its pid file, and be remembered in the place of the first.
	if p, ok := startedBefore(record); ok && p.alive() {
		say("docker: waiting <= %s for the dockerd that was started before (pid %d)", startBound, p.pid)
		ctx, cancel := context.WithTimeout(ctx, startBound)
		defer cancel()
		return poll(ctx, func() error { return answers(ctx) })
	}
	logPath := filepath.Join(filepath.Dir(record), "dockerd.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("the log of dockerd: %w", err)
	}
	defer log.Close() // dockerd holds its own copy
	// Not CommandContext: the daemon is to live on when ctx ends.
	cmd := exec.Command("dockerd")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	say("docker: starting dockerd (log: %s; up to %s)", logPath, startBound)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting dockerd: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p, _, err := lookProcess(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("dockerd ended at once, see %s: %w", logPath, err)
	}
	body, err := json.Marshal(startedFile{PID: p.pid, Start: p.start})
	if err != nil {
		return err
	}
	if err := writeFile(record, body, 0o644); err != nil {
		return fmt.Errorf("recording that dockerd was started: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	died := func() error {
		select {
		case err := <-ended:
			cancel()
			return fmt.Errorf("dockerd ended: %w: %s", errOrExit(err), tail(logPath))
		default:
			return nil
		}
	}
	var death error
	return poll(ctx, func() error {
		if death == nil {
			death = died()
		}
		if death != nil {
			return death
		}
		return answers(ctx)
	})
}

// startedBefore is the daemon that is remembered, if any.
func startedBefore(record string) (process, bool) {
	body, err := os.ReadFile(record)
	var s startedFile
	if err != nil || json.Unmarshal(body, &s) != nil {
		return process{}, false
	}
	return process{s.PID, s.Start}, true
}

// errOrExit names the end of a process that ended with exit code 0.
func errOrExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// tail is the end of a log file, for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return lastLines(string(b))
}

// StopOurs stops the daemon that Ensure started, now or in an earlier run. If
// there is none it does nothing.
func StopOurs(ctx context.Context) error {
	record, err := startedPath()
	if err != nil {
		return err
	}
	body, err := os.ReadFile(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("which dockerd gameday started: %w", err)
	}
	var s startedFile
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("which dockerd gameday started (remove %s if none): %w", record, err)
	}
	p := process{s.PID, s.Start}
	if p.alive() {
		if err := p.signal(unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("stopping dockerd (pid %d): %w", p.pid, err)
		}
		ctx, cancel := context.WithTimeout(ctx, stopBound)
		defer cancel()
		err := poll(ctx, func() error {
			if p.alive() {
				return fmt.Errorf("dockerd (pid %d) does not end", p.pid)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := os.Remove(record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the dockerd that was stopped: %w", err)
	}
	return nil
}
