// Package freezer pauses all processes of a control group, and of the groups below it, at once: those that are there and
// those that join later, without a signal that any of them could see.
//
// The freezer of cgroup v2 (cgroup.freeze, Linux 5.2+, Documentation/admin-guide/cgroup-v2.rst) is taken where the group has
// it: what it froze can still be killed. With that of cgroup v1 (freezer.state, cgroup-v1/freezer-subsystem.rst) a SIGKILL
// waits until the thaw. Neither ends by itself: a group stays frozen until somebody thaws it, whoever froze it.
package freezer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ErrFrozen means that the group was frozen already, by somebody else.
var ErrFrozen = errors.New("it is frozen already")

// ErrNone means that the group has no freezer.
var ErrNone = errors.New("this machine has no freezer for it")

// Group is a control group with its freezer. It can be written to a journal.
type Group struct {
	// Dir is its folder.
	Dir string `json:"dir"`
	// Unified says that it is of cgroup v2.
	Unified bool `json:"unified"`
}

const (
	// Of cgroup v2.
	freezeFile = "cgroup.freeze"
	eventsFile = "cgroup.events"
	// Of cgroup v1.
	stateFile = "freezer.state"

	// look is between two looks at whether all are frozen. It takes less than a millisecond, unless a process is in the
	// middle of something that cannot be interrupted, such as an fsync.
	look = time.Millisecond
)

// Of takes the freezer of a group: unified is its folder in cgroup v2, v1 the one in the freezer hierarchy of cgroup v1;
// either may be empty.
func Of(unified, v1 string) (Group, error) {
	for _, g := range []Group{{unified, true}, {v1, false}} {
		if g.Dir == "" {
			continue
		}
		_, err := os.Stat(g.file())
		if err == nil {
			return g, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Group{}, err
		}
	}
	return Group{}, fmt.Errorf("%w (cgroup v2 %q, freezer of cgroup v1 %q)", ErrNone, unified, v1)
}

func (g Group) file() string {
	if g.Unified {
		return filepath.Join(g.Dir, freezeFile)
	}
	return filepath.Join(g.Dir, stateFile)
}

// Freeze pauses the group, and returns when every process of it is paused. When it cannot do so before ctx ends, the group is
// thawed again.
func (g Group) Freeze(ctx context.Context) error {
	on := "FROZEN"
	if g.Unified {
		on = "1"
	}
	if err := g.write(on); err != nil {
		return err
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		all, err := g.Frozen()
		if err == nil && all {
			return nil
		}
		if err == nil {
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
				err = fmt.Errorf("freeze %s: not all of it froze: %w", g.Dir, context.Cause(ctx))
			}
		}
		return errors.Join(err, g.Thaw())
	}
}

// Thaw lets the group go on. One that is not frozen, or not there any more, is no error.
func (g Group) Thaw() error {
	off := "THAWED"
	if g.Unified {
		off = "0"
	}
	if err := g.write(off); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Asked says whether the group was told to freeze, and not to thaw since.
func (g Group) Asked() (bool, error) {
	name, on := freezeFile, "1"
	if !g.Unified {
		name, on = "freezer.self_freezing", "1"
	}
	b, err := os.ReadFile(filepath.Join(g.Dir, name))
	if err != nil {
		return false, fmt.Errorf("freezer of %s: %w", g.Dir, err)
	}
	return strings.TrimSpace(string(b)) == on, nil
}

// Frozen says whether every process of the group is paused.
func (g Group) Frozen() (bool, error) {
	name := stateFile
	if g.Unified {
		name = eventsFile
	}
	b, err := os.ReadFile(filepath.Join(g.Dir, name))
	if err != nil {
		return false, fmt.Errorf("freezer of %s: %w", g.Dir, err)
	}
	return frozen(string(b), g.Unified), nil
}

func frozen(text string, unified bool) bool {
	if !unified { // FREEZING is on the way
		return strings.TrimSpace(text) == "FROZEN"
	}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if s.Text() == "frozen 1" {
			return true
		}
	}
	return false
}

// write must not make the file where there is none.
func (g Group) write(what string) error {
	f, err := os.OpenFile(g.file(), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("freezer of %s: %w", g.Dir, err)
	}
	_, err = f.WriteString(what)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("freezer of %s: %w", g.Dir, err)
	}
	return nil
}
