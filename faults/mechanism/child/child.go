// Package child runs a part of this program as a process of its own, so that what it does to the machine ends when that
// process ends, however its parent ends.
//
// A program names its entry points once, as the first thing in main or TestMain:
//
//	child.Main(map[string]child.Func{slowfsync.Child: slowfsync.Run})
//
// and starts one with [Start]. The child is the same executable, in a session of its own (a Ctrl-C on the terminal does
// not reach it). Three pipes connect it:
//
//	parent                      child
//	  lease  ------ stdin ----->  end of file: the parent is gone or has called Stop; ctx ends, undo and return
//	         ----- request ---->  one JSON value a line, handled in Conn.Serve
//	         <--- stdout ------   first line: ready, or the error that kept it from that; then the answers
//	  log    <--- stderr ------   passed on as it is
//
// The lease is held by nothing but the parent's end of the pipe, so the kernel ends it when the parent is killed. A parent
// that hangs keeps it; [Command].MaxHold bounds that from inside the child. A child that hangs can only be ended from
// outside, with SIGKILL: an entry point whose effect must not outlive it therefore uses effects that the kernel removes
// with the process.
package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// backlog is how many requests may wait while one is being answered. The parent sends one at a time, but stops waiting for
// an answer when its ctx ends; a child so far behind has hung, and gives up its lease.
const backlog = 64

// Reasons for the end of a child's context, found with [context.Cause].
var (
	// ErrLeaseEnded means that the parent has called Stop, has exited or was killed.
	ErrLeaseEnded = errors.New("the parent let go of the lease")
	// ErrMaxHold means that the parent still holds the lease, but for longer than it had announced.
	ErrMaxHold = errors.New("the longest hold time is over")
	// ErrSignal means that somebody asked the child to end, with SIGTERM, SIGINT or SIGHUP.
	ErrSignal = errors.New("asked to end by a signal")
)

// Func is an entry point. It sets up its effect, calls [Conn.Ready], keeps the effect (usually in [Conn.Serve]) until ctx
// ends, undoes it and returns. Until it has called Ready it may be killed at any time. A returned error reaches the parent.
type Func func(ctx context.Context, c *Conn) error

// Conn is a child's line to its parent.
type Conn struct {
	args     json.RawMessage
	requests chan message

	mu  sync.Mutex
	out *json.Encoder
}

// Args decodes what the parent gave as Command.Args.
func (c *Conn) Args(v any) error {
	if err := json.Unmarshal(c.args, v); err != nil {
		return fmt.Errorf("arguments of the child: %w", err)
	}
	return nil
}

// Ready tells the parent that the effect is in place; v goes to Command.Ready. Start returns on it.
func (c *Conn) Ready(v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("what the child says when ready: %w", err)
	}
	return c.send(message{Body: body})
}

// Serve answers the parent's calls, one after the other, until ctx ends.
func (c *Conn) Serve(ctx context.Context, answer func(request json.RawMessage) (any, error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case req := <-c.requests:
			reply := message{ID: req.ID}
			v, err := answer(req.Body)
			if err == nil {
				reply.Body, err = json.Marshal(v)
			}
			if err != nil {
				reply.Error = err.Error()
			}
			// A parent that died while we answered is seen as the end of the lease.
			if err := c.send(reply); err != nil && !errors.Is(err, syscall.EPIPE) {
				return err
			}
		}
	}
}

// receive hands requests over until the parent's end is closed; it goes on reading while one is being answered, because
// the end of the lease must be seen at once.
func (c *Conn) receive(r io.Reader) error {
	dec := json.NewDecoder(bufio.NewReader(r))
	for {
		var m message
		if err := dec.Decode(&m); err != nil {
			return err
		}
		select {
		case c.requests <- m:
		default:
			return fmt.Errorf("request %d: the %d ahead of it are still waiting", m.ID, backlog)
		}
	}
}

func (c *Conn) send(m message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.out.Encode(m); err != nil {
		return fmt.Errorf("send to the parent: %w", err)
	}
	return nil
}

// message is one line in either direction. From the child, ID 0 is about the child itself: ready, or with Error its end.
type message struct {
	ID    uint64          `json:"id,omitempty"`
	Error string          `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}
