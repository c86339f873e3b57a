//go:build !linux || !amd64

package clock

import (
	"context"
	"fmt"
	"runtime"

	"gameday/faults/mechanism/process"
)

// target cannot be made here.
type target struct{}

func open(process.Ref) (*target, error) {
	return nil, fmt.Errorf("%w: the stub is written for linux/amd64, and this is %s/%s", ErrUnsupported, runtime.GOOS, runtime.GOARCH)
}

func (*target) state() (State, error)                 { return State{}, ErrUnsupported }
func (*target) skew(context.Context, Change) error    { return ErrUnsupported }
func (*target) restore(context.Context, string) error { return ErrUnsupported }
func (*target) close() error                          { return nil }
