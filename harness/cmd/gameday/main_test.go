package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gameday/scenarios"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gameday": func() { os.Exit(execute(os.Args[1:])) },
	})
}

// TestScripts runs the command line as a person would; nothing in it needs root,
// Docker or a network.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
		},
	})
}

// exits runs a command and checks its exit code: exits 4 gameday plan x.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var status interface{ ExitCode() int }
		if !errors.As(err, &status) {
			ts.Fatalf("%v", err)
		}
		code = status.ExitCode()
	}
	if got := fmt.Sprint(code); got != args[0] {
		ts.Fatalf("exit code %s, not %s", got, args[0])
	}
}

func TestReport(t *testing.T) {
	problem := &scenarios.Invalid{Problems: []scenarios.Problem{{File: "a.yaml", Line: 3, Text: "bad"}}}
	for _, tc := range []struct {
		err  error
		code int
		text string
	}{
		{nil, codePass, ""},
		{errors.New("it broke"), codeHarness, "gameday: it broke\n"},
		{badInput(errors.New("no such file")), codeInput, "gameday: no such file\n"},
		{fmt.Errorf("load: %w", problem), codeInput, "a.yaml:3: bad\n"},
		{&exit{code: codeFail}, codeFail, ""},
		{&exit{codeNotUndone, errors.New("etcd.stop is stuck")}, codeNotUndone, "gameday: etcd.stop is stuck\n"},
		{&exit{codeInconclusive, fmt.Errorf("wrapped: %w", problem)}, codeInconclusive, "a.yaml:3: bad\n"},
	} {
		var out bytes.Buffer
		if got := report(&out, tc.err); got != tc.code || out.String() != tc.text {
			t.Errorf("%v: code %d, %q; want %d, %q", tc.err, got, out.String(), tc.code, tc.text)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		ctx        context.Context
		code, want int
	}{
		{t.Context(), codeHarness, codeHarness},
		{ended, codeHarness, codeInconclusive},
		{ended, codePass, codePass}, // it came after the end
		{ended, codeNotUndone, codeNotUndone},
		{ended, codeInput, codeInput},
	} {
		if got := interrupted(tc.ctx, tc.code); got != tc.want {
			t.Errorf("code %d, ended %v: %d, want %d", tc.code, tc.ctx.Err(), got, tc.want)
		}
	}
}

// The end of the terminal ends a command, unless it was told to outlive it.
func TestEndings(t *testing.T) {
	if signal.Ignored(syscall.SIGHUP) {
		t.Skip("these tests run under nohup")
	}
	if !slices.Contains(endings(), os.Signal(syscall.SIGHUP)) {
		t.Error("SIGHUP would end it without healing")
	}
	signal.Ignore(syscall.SIGHUP)
	defer signal.Reset(syscall.SIGHUP)
	if slices.Contains(endings(), os.Signal(syscall.SIGHUP)) {
		t.Error("nohup has no effect")
	}
}
