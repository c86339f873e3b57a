package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// killTime bounds the wait for a child that was killed; only one stuck in the kernel needs more than milliseconds.
const killTime = 10 * time.Second

// Command says which child to start and how.
type Command struct {
	// Name of the entry point, as given to Main.
	Name string
	// Args is encoded as JSON and is visible to everybody who can list processes: no secrets.
	Args any
	// MaxHold ends the child's context that long after it began, whatever the parent does. Zero: no such limit.
	MaxHold time.Duration
	// Log receives the child's stderr. It is a file and not a writer so that it still works when the parent is dead.
	// Nil: the parent's own stderr.
	Log *os.File
	// Ready, if not nil, points to where the value is decoded that the child gave to Conn.Ready.
	Ready any
}

// Process is a child that has said that it is ready.
type Process struct {
	name  string
	cmd   *exec.Cmd
	lease *os.File
	first chan message // the handshake
	done  chan struct{}
	err   error // valid once done is closed

	call sync.Mutex // held for one request and its answer

	mu      sync.Mutex
	nextID  uint64
	waiting map[uint64]chan message
}

// Start starts the child and returns when it is ready. ctx bounds the start only: a child that is not ready by then is
// killed, a ready one is not touched by the end of ctx.
func Start(ctx context.Context, c Command) (*Process, error) {
	args, err := json.Marshal(c.Args)
	if err != nil {
		return nil, fmt.Errorf("arguments of child %s: %w", c.Name, err)
	}
	stdin, lease, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe to child %s: %w", c.Name, err)
	}
	answers, stdout, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pipe from child %s: %w", c.Name, err), stdin.Close(), lease.Close())
	}

	// /proc/self/exe is this very executable even if the file was replaced or removed since. Not CommandContext: it would
	// kill a child in the middle of its undo.
	cmd := exec.Command("/proc/self/exe", marker, c.Name, c.MaxHold.String(), string(args))
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, c.Log
	if c.Log == nil {
		cmd.Stderr = os.Stderr
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	// Our copies of the child's ends go at once: with them open the end of the child would not be seen.
	err = errors.Join(err, stdin.Close(), stdout.Close())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start child %s: %w", c.Name, err), lease.Close(), answers.Close())
	}
	p := &Process{
		name: c.Name, cmd: cmd, lease: lease,
		first: make(chan message, 1), done: make(chan struct{}), waiting: map[uint64]chan message{},
	}
	go p.receive(answers)

	select {
	case m := <-p.first:
		if err = decode(m, c.Ready); err == nil {
			return p, nil
		}
	case <-p.done:
		// The child's own words are worth more than its exit status; they were read before done was closed.
		select {
		case m := <-p.first:
			err = decode(m, c.Ready)
		default:
		}
		err = errors.Join(err, p.err)
		if err == nil {
			err = errors.New("ended during its start")
		}
	case <-ctx.Done():
		err = fmt.Errorf("not ready in time: %w", context.Cause(ctx))
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	return nil, errors.Join(fmt.Errorf("child %s: %w", c.Name, err), p.Kill(cleanup))
}

// PID is the child's process id; it stays the child's until Done is closed.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended: nil if its entry point returned nil. It is valid once Done is closed.
func (p *Process) Err() error { return p.err }

// Call sends a request and decodes the answer into resp (nil: not wanted). Calls wait for one another.
func (p *Process) Call(ctx context.Context, req, resp any) error {
	body, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("request to child %s: %w", p.name, err)
	}
	p.call.Lock()
	defer p.call.Unlock()
	answer := make(chan message, 1)
	p.mu.Lock()
	p.nextID++
	id := p.nextID
	p.waiting[id] = answer
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiting, id)
		p.mu.Unlock()
	}()

	line, err := json.Marshal(message{ID: id, Body: body})
	if err != nil {
		return fmt.Errorf("request to child %s: %w", p.name, err)
	}
	// A hung child does not empty the pipe; a full one must not outlast ctx.
	deadline, _ := ctx.Deadline()
	if err := p.lease.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("request to child %s: %w", p.name, errors.Join(err, os.ErrProcessDone))
	}
	_, err = p.lease.Write(append(line, '\n'))
	if err != nil {
		return fmt.Errorf("request to child %s: %w", p.name, err)
	}
	select {
	case m := <-answer:
		if err := decode(m, resp); err != nil {
			return fmt.Errorf("child %s: %w", p.name, err)
		}
		return nil
	case <-p.done:
		return fmt.Errorf("child %s ended before it answered: %w", p.name, errors.Join(p.err, os.ErrProcessDone))
	case <-ctx.Done():
		return fmt.Errorf("child %s gave no answer: %w", p.name, context.Cause(ctx))
	}
}

// Stop ends the lease and waits until the child has undone its work and exited. A child that does not in time is left
// alone, because killing it could cut its undo short: the caller knows whether Kill is right.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.lease.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("end the lease of child %s: %w", p.name, err)
	}
	if err := p.wait(ctx); err != nil {
		return err
	}
	return p.err
}

// Kill ends the child with SIGKILL and waits for its end. It undoes only what the kernel undoes by itself.
func (p *Process) Kill(ctx context.Context) error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill child %s (pid %d): %w", p.name, p.PID(), err)
	}
	return p.wait(ctx)
}

func (p *Process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("child %s (pid %d) has not ended: %w", p.name, p.PID(), context.Cause(ctx))
	}
}

// receive hands the child's lines to those who wait for them, and takes note of its end.
func (p *Process) receive(answers *os.File) {
	var last error
	dec := json.NewDecoder(answers)
	for begun := false; ; {
		var m message
		if dec.Decode(&m) != nil { // the end of the child, whose status says more than this error
			break
		}
		switch {
		case m.ID != 0:
			p.mu.Lock()
			if answer, ok := p.waiting[m.ID]; ok {
				answer <- m
			}
			p.mu.Unlock()
		case !begun:
			begun = true
			p.first <- m
		case m.Error != "":
			last = errors.New(m.Error)
		}
	}
	err := errors.Join(last, answers.Close(), p.cmd.Wait())
	p.lease.Close() // an error means that Stop was first
	if err != nil {
		p.err = fmt.Errorf("child %s ended: %w", p.name, err)
	}
	close(p.done)
}

func decode(m message, v any) error {
	if m.Error != "" {
		return errors.New(m.Error)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(m.Body, v); err != nil {
		return fmt.Errorf("what it said: %w", err)
	}
	return nil
}
