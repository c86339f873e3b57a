package main

import (
	"errors"
	"fmt"
	"io"

	"gameday/harness/slo"
	"gameday/scenarios"
)

// The exit codes of all commands: those of a verdict, and one for bad input.
const (
	codePass         = slo.ExitPass
	codeFail         = slo.ExitFail
	codeInconclusive = slo.ExitInconclusive // also: the command was interrupted
	codeNotUndone    = slo.ExitNotUndone
	codeInput        = 4 // nothing was touched
	codeHarness      = slo.ExitHarness
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
