package process

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"gameday/faults/mechanism/child"
)

const bound = 20 * time.Second

// untilEOF in the environment makes this program one that reads its stdin and exits.
const untilEOF = "PROCESS_TEST_UNTIL_EOF"

func TestMain(m *testing.M) {
	child.Main(map[string]child.Func{"victim": func(ctx context.Context, c *child.Conn) error {
		if err := c.Ready(nil); err != nil {
			return err
		}
		return c.Serve(ctx, func(json.RawMessage) (any, error) { return nil, nil })
	}})
	if os.Getenv(untilEOF) != "" {
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

func victim(t *testing.T) (*child.Process, *Process) {
	t.Helper()
	c, err := child.Start(t.Context(), child.Command{Name: "victim"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Kill(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ref, err := Of(c.PID())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return c, p
}

func TestKill(t *testing.T) {
	c, p := victim(t)
	if alive, err := p.Alive(); err != nil || !alive {
		t.Fatalf("before: alive %v, %v", alive, err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait for a process that lives: got %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if alive, err := p.Alive(); err != nil || alive {
		t.Errorf("after: alive %v, %v", alive, err)
	}
	<-c.Done()
	if err := p.Kill(); !errors.Is(err, ErrGone) {
		t.Errorf("Kill of a reaped process: got %v, want ErrGone", err)
	}
	if _, err := p.Stopped(); !errors.Is(err, ErrGone) {
		t.Errorf("Stopped of a reaped process: got %v, want ErrGone", err)
	}
	if _, err := Open(p.Ref()); !errors.Is(err, ErrGone) {
		t.Errorf("Open of a reaped process: got %v, want ErrGone", err)
	}
	if _, err := Of(p.Ref().PID); !errors.Is(err, ErrGone) {
		t.Errorf("Of a reaped process: got %v, want ErrGone", err)
	}
}

func TestOpenZombie(t *testing.T) {
	// Neither child nor os/exec would leave a zombie.
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"zombie"}, &syscall.ProcAttr{
		Env:   append(os.Environ(), untilEOF+"=1"),
		Files: []uintptr{stdin.Fd(), 1, 2},
	})
	if err := errors.Join(err, stdin.Close()); err != nil {
		t.Fatal(err)
	}
	ref, err := Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	if err := errors.Join(hold.Close(), p.Wait(ctx), p.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ref); !errors.Is(err, ErrGone) {
		t.Errorf("Open of a zombie: got %v, want ErrGone", err)
	}
	if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
		t.Error(err)
	}
}

func TestStopAndCont(t *testing.T) {
	c, p := victim(t)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	until := func(want bool) {
		t.Helper()
		for {
			got, err := p.Stopped()
			if err != nil {
				t.Fatal(err)
			}
			if got == want {
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("stopped is still %v", got)
			case <-time.After(100 * time.Microsecond):
			}
		}
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	until(true)
	short, cancelShort := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancelShort()
	if err := c.Call(short, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused process answered: %v", err)
	}
	if err := p.Cont(); err != nil {
		t.Fatal(err)
	}
	until(false)
	if err := c.Call(ctx, nil, nil); err != nil {
		t.Error(err)
	}
}

func TestOpenOnlyTheNamedProcess(t *testing.T) {
	_, p := victim(t)
	other := p.Ref()
	other.StartTime--
	if _, err := Open(other); !errors.Is(err, ErrGone) {
		t.Errorf("another start time: got %v, want ErrGone", err)
	}
	other = p.Ref()
	other.BootID = "another boot"
	if _, err := Open(other); !errors.Is(err, ErrGone) {
		t.Errorf("another boot: got %v, want ErrGone", err)
	}
}

func TestRefSurvivesJSON(t *testing.T) {
	_, p := victim(t)
	b, err := json.Marshal(p.Ref())
	if err != nil {
		t.Fatal(err)
	}
	var ref Ref
	if err := json.Unmarshal(b, &ref); err != nil || ref != p.Ref() {
		t.Errorf("got %+v, %v, want %+v", ref, err, p.Ref())
	}
}
