package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
)

// marker is the first argument of a process that this package starts of the program
// that it is in. It shows in ps what the process is.
const marker = "gameday-local"

// labelEnv is a variable in the environment of the keeper and of the machines, that
// says of which cluster and what they are: CLUSTER/keeper, CLUSTER/NODE. What they
// start does not have it.
const labelEnv = "GAMEDAY_LOCAL"

// called says that the program calls Main: only then it may be started as one of its
// own parts.
var called atomic.Bool

// Main runs the keeper or the machine that this process was started for, and exits;
// in any other process it returns at once. A program that makes clusters calls it
// before anything else looks at the arguments: first thing in main, or in TestMain.
func Main() {
	called.Store(true)
	if len(os.Args) != 3 || os.Args[1] != marker {
		return
	}
	var err error
	switch os.Args[2] {
	case keeperPart:
		err = runKeeper(os.Stdin, os.Stdout)
	case machinePart:
		err = runMachine(os.Stdin, os.Stdout)
	default:
		err = fmt.Errorf("no part %q", os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // this is the main of the process
	}
	os.Exit(0) //nolint:forbidigo // this is the main of the process
}

// The parts.
const (
	keeperPart  = "keeper"
	machinePart = "machine"
)

// part is a process of this program, with a line to it.
type part struct {
	name string
	cmd  *exec.Cmd
	in   *json.Encoder
	out  *json.Decoder
	pipe io.Closer
	done chan struct{} // closed when it has ended
	err  error         // how; valid once done is closed

	mu sync.Mutex // one question at a time
}

// reply is what a part says to each of its messages: that it was done, or why not.
type reply struct {
	Error string `json:"error,omitempty"`
}

// startPart starts a part in new namespaces. It does nothing before it is sent its
// configuration.
func startPart(kind, label, logFile string) (*part, error) {
	if !called.Load() {
		return nil, errors.New("this program does not call local.Main first, and cannot be started as a part of itself")
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// /proc/self/exe is this very executable, even if the file was replaced since.
	cmd := exec.Command("/proc/self/exe", marker, kind)
	cmd.Args[0] = "gameday-" + kind
	cmd.Env = []string{labelEnv + "=" + label, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
	}
	// Pipes of our own: those of exec are closed by Wait, before the last word is read.
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, stdin.Close(), in.Close())
	}
	cmd.Stdin, cmd.Stdout = stdin, stdout
	err = cmd.Start()
	err = errors.Join(err, stdin.Close(), stdout.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the %s: %w", kind, err), in.Close(), out.Close())
	}
	p := &part{name: label, cmd: cmd, in: json.NewEncoder(in), out: json.NewDecoder(out), pipe: in, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *part) pid() int { return p.cmd.Process.Pid }

// ask sends a message and reads the answer, one at a time.
func (p *part) ask(message any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.in.Encode(message); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	var r reply
	if err := p.out.Decode(&r); err != nil {
		return fmt.Errorf("%s ended before it answered, see its log: %w", p.name, err)
	}
	if r.Error != "" {
		return fmt.Errorf("%s: %s", p.name, r.Error)
	}
	return nil
}

// answer is the other end of ask.
func answer(to io.Writer, err error) error {
	var r reply
	if err != nil {
		r.Error = err.Error()
	}
	return json.NewEncoder(to).Encode(r)
}
