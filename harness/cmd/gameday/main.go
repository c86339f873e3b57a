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

	"gameday/faults/mechanism/child"
)

// revision is stamped by the Makefile.
var revision = "unknown"

func main() {
	// Parts of the program run as processes of their own (the guard, what holds
	// a fault in the kernel); they never get past this line.
	child.Main(children())
	os.Exit(execute(os.Args[1:]))
}

// execute runs one command line and returns its exit code.
func execute(args []string) int {
	// The first Ctrl-C ends the context: the command heals and reports. All
	// later ones land here too and change nothing.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A reader of our output that ends (a pager, tee at the same Ctrl-C) must not
	// end the run with it: the write fails instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	return report(root.ErrOrStderr(), err)
}
