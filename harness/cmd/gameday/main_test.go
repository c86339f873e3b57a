package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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
