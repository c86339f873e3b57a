// Command gameday upgrades a real Kubernetes cluster while it breaks parts of it
// on purpose, proves that each break really happened, and says from a complete
// record whether the promises held. Each command is a thin shell over a package
// of the harness, in a file of its own.
//
// Results go to stdout, progress and errors to stderr.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"gameday/clusters/local"
	"gameday/faults/mechanism/child"
)

// revision is stamped by the Makefile.
var revision = "unknown"

func main() {
	// Parts of the program run as processes of their own (the guard, what holds
	// a fault in the kernel); they never get past this line.
	child.Main(children())
	local.Main()
	os.Exit(execute(os.Args[1:]))
}

// execute runs one command line and returns its exit code.
func execute(args []string) int {
	// The first Ctrl-C ends the context: the command heals and reports. All
	// later ones land here too and change nothing.
	ctx, stop := signal.NotifyContext(context.Background(), endings()...)
	defer stop()
	// A reader of our output that ends (a pager, tee at the same Ctrl-C) must not
	// end the run with it: the write fails instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return interrupted(ctx, report(root.ErrOrStderr(), err))
}

// endings are the signals that end a command: also the end of its terminal, unless
// it was told to outlive that (nohup).
func endings() []os.Signal {
	list := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		list = append(list, syscall.SIGHUP)
	}
	return list
}

// interrupted is the exit code of a command whose ctx may have ended: what failed
// because of that is no failure of gameday.
func interrupted(ctx context.Context, code int) int {
	if code == codeHarness && ctx.Err() != nil {
		return codeInconclusive
	}
	return code
}
