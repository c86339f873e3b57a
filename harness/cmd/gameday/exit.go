package main

import (
	"errors"
	"fmt"
	"io"

	"gameday/scenarios"
)

// The exit codes, worst last; a command ends with the worst that applies.
const (
	codePass         = 0 // every promise was kept
	codeFail         = 1 // a promise was broken
	codeInconclusive = 2 // something was not measured, or the run was interrupted
	codeNotUndone    = 3 // a fault could not be undone
	codeInput        = 4 // bad input; nothing was touched
	codeHarness      = 5 // gameday itself failed
)

// exit is an error with an exit code. Without a cause it is silent: all was
// said.
type exit struct {
	code  int
	cause error
}

func (e *exit) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.cause.Error()
}

func (e *exit) Unwrap() error { return e.cause }

// badInput marks an error as the caller's to mend.
func badInput(err error) error {
	if err == nil {
		return nil
	}
	return &exit{codeInput, err}
}

// report prints an error and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return codePass
	}
	code := codeHarness
	var e *exit
	var invalid *scenarios.Invalid
	switch {
	case errors.As(err, &e):
		if code = e.code; e.cause == nil {
			return code
		}
	case errors.As(err, &invalid):
		code = codeInput
	}
	if errors.As(err, &invalid) {
		// One problem a line, each with its place, as compilers do.
		fmt.Fprintln(w, invalid.Error())
		return code
	}
	fmt.Fprintf(w, "gameday: %v\n", err)
	return code
}
