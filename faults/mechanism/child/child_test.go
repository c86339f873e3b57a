package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bound is how long a test waits for something that takes milliseconds on an idle machine.
const bound = 20 * time.Second

func TestMain(m *testing.M) {
	Main(map[string]Func{"echo": echo, "refuse": refuse, "mute": mute, "breaks": breaks, "parent": parent})
	os.Exit(m.Run())
}

type echoArgs struct {
	Greeting string
	EndFile  string // why the context ended goes there
}

// echo answers each request with itself, and tells in a file why it ended.
func echo(ctx context.Context, c *Conn) error {
	var args echoArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	fmt.Println("a line on stdout")
	if err := c.Ready(args.Greeting); err != nil {
		return err
	}
	err := c.Serve(ctx, func(req json.RawMessage) (any, error) {
		if string(req) == `"fail"` {
			return nil, errors.New("as you wish")
		}
		return req, nil
	})
	if args.EndFile != "" {
		err = errors.Join(err, os.WriteFile(args.EndFile+".tmp", []byte(context.Cause(ctx).Error()), 0o600), os.Rename(args.EndFile+".tmp", args.EndFile))
	}
	// The undo of a real child may have something to say to a log whose reader is dead.
	fmt.Fprintln(os.Stderr, "ended")
	return err
}

func refuse(context.Context, *Conn) error { return errors.New("nothing to hold on to") }

func mute(ctx context.Context, _ *Conn) error {
	<-ctx.Done()
	return nil
}

func breaks(ctx context.Context, c *Conn) error {
	if err := c.Ready(nil); err != nil {
		return err
	}
	if err := c.Serve(ctx, func(json.RawMessage) (any, error) { return nil, nil }); err != nil {
		return err
	}
	return errors.New("could not undo")
}

// parent starts an echo child of its own, whose pid it tells, and then only waits to be killed.
func parent(ctx context.Context, c *Conn) error {
	var args echoArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	p, err := Start(ctx, Command{Name: "echo", Args: args})
	if err != nil {
		return err
	}
	if err := c.Ready(p.PID()); err != nil {
		return err
	}
	<-ctx.Done()
	return p.Stop(context.WithoutCancel(ctx))
}

func start(t *testing.T, c Command) *Process {
	t.Helper()
	p, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	return ctx
}

// endOf waits for the file that a child writes at its end.
func endOf(t *testing.T, file string) string {
	t.Helper()
	for deadline := time.Now().Add(bound); ; {
		b, err := os.ReadFile(file)
		if err == nil {
			return string(b)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the child did not end in %v: %v", bound, err)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
}

func TestHandshakeCallsAndStop(t *testing.T) {
	end := filepath.Join(t.TempDir(), "end")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var said string
	p := start(t, Command{Name: "echo", Args: echoArgs{Greeting: "hello", EndFile: end}, Log: log, Ready: &said})
	if said != "hello" {
		t.Errorf("ready value: got %q, want hello", said)
	}
	for i := range 100 {
		var got int
		if err := p.Call(within(t), i, &got); err != nil || got != i {
			t.Fatalf("call %d: got %d, %v", i, got, err)
		}
	}
	if err := p.Call(within(t), "fail", nil); err == nil || !strings.Contains(err.Error(), "as you wish") {
		t.Errorf("a refused call: got %v", err)
	}
	if err := p.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := endOf(t, end); got != ErrLeaseEnded.Error() {
		t.Errorf("reason of the end: got %q", got)
	}
	if err := p.Call(within(t), 1, nil); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("call after the end: got %v, want ErrProcessDone", err)
	}
	if err := p.Stop(within(t)); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if b, err := os.ReadFile(log.Name()); err != nil || !bytes.Contains(b, []byte("a line on stdout\n")) {
		t.Errorf("log: got %q, %v", b, err)
	}
}

func TestOwnSession(t *testing.T) {
	p := start(t, Command{Name: "echo", Args: echoArgs{}})
	sid, err := unix.Getsid(p.PID())
	if err != nil || sid != p.PID() {
		t.Errorf("session of the child: got %d, %v, want its own pid %d", sid, err, p.PID())
	}
}

func TestStartErrors(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		cmd        Command
	}{
		{"entry point fails", "nothing to hold on to", Command{Name: "refuse"}},
		{"unknown entry point", `no child entry point "nobody"`, Command{Name: "nobody"}},
		{"arguments of the wrong type", "arguments of the child", Command{Name: "echo", Args: 7}},
		{"ready value of the wrong type", "cannot unmarshal", Command{Name: "echo", Args: echoArgs{}, Ready: new(int)}},
		{"arguments that are no JSON", "unsupported type", Command{Name: "echo", Args: make(chan int)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Start(within(t), tc.cmd)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

func TestStartGivesUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, Command{Name: "mute"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}

func TestFailureAfterReadyReachesParent(t *testing.T) {
	p := start(t, Command{Name: "breaks"})
	if err := p.Stop(within(t)); err == nil || !strings.Contains(err.Error(), "could not undo") {
		t.Errorf("got %v, want the child's error", err)
	}
}

func TestMaxHold(t *testing.T) {
	end := filepath.Join(t.TempDir(), "end")
	p := start(t, Command{Name: "echo", Args: echoArgs{EndFile: end}, MaxHold: 50 * time.Millisecond})
	select {
	case <-p.Done():
	case <-within(t).Done():
		t.Fatal("the child goes on after its longest hold time")
	}
	if got := endOf(t, end); got != ErrMaxHold.Error() || p.Err() != nil {
		t.Errorf("got reason %q and %v", got, p.Err())
	}
}

func TestSignalEndsLease(t *testing.T) {
	end := filepath.Join(t.TempDir(), "end")
	p := start(t, Command{Name: "echo", Args: echoArgs{EndFile: end}})
	if err := syscall.Kill(p.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := endOf(t, end); got != ErrSignal.Error() {
		t.Errorf("reason of the end: got %q", got)
	}
}

// The parent is killed and can do nothing for its child any more; nobody reads the child's log either.
func TestKilledParentEndsLease(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	end := filepath.Join(t.TempDir(), "end")
	var grandchild int
	p := start(t, Command{Name: "parent", Args: echoArgs{EndFile: end}, Log: w, Ready: &grandchild})
	if err := errors.Join(w.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(grandchild, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := p.Kill(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := endOf(t, end); got != ErrLeaseEnded.Error() {
		t.Errorf("reason of the end: got %q", got)
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(bound.Milliseconds()))
	if err != nil || n != 1 {
		t.Errorf("the grandchild %d has not ended: %d, %v", grandchild, n, err)
	}
}

func TestHungChild(t *testing.T) {
	p := start(t, Command{Name: "echo", Args: echoArgs{}})
	if err := syscall.Kill(p.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	if err := p.Call(short(), strings.Repeat("x", 1<<20), nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a call that does not fit into the pipe: got %v, want a deadline error", err)
	}
	if err := p.Stop(short()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop: got %v, want DeadlineExceeded", err)
	}
	if err := p.Kill(within(t)); err != nil {
		t.Error(err)
	}
	if p.Err() == nil {
		t.Error("a killed child ended without an error")
	}
}

// A call whose answer was not waited for must not give its answer to the next one.
func TestLateAnswerIsDropped(t *testing.T) {
	p := start(t, Command{Name: "echo", Args: echoArgs{}})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 20 {
		if err := p.Call(cancelled, "late", nil); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		var got int
		if err := p.Call(within(t), i, &got); err != nil || got != i {
			t.Fatalf("call %d: got %d, %v", i, got, err)
		}
	}
}

func TestBacklogIsBounded(t *testing.T) {
	var in bytes.Buffer
	for i := range backlog + 1 {
		in.WriteString(`{"id":` + strconv.Itoa(i+1) + "}\n")
	}
	c := &Conn{requests: make(chan message, backlog)}
	if err := c.receive(&in); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v, want an error about the backlog", err)
	}
}
