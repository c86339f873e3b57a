package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// marker is the first argument of a process that was started by Start. It is no flag and no command that a person would
// type, and it shows in ps what the process is.
const marker = "gameday-child"

// Main runs the entry point that this process was started for and exits; in any other process it returns at once. Call it
// before anything else looks at the arguments.
func Main(entries map[string]Func) {
	if len(os.Args) < 2 || os.Args[1] != marker {
		return
	}
	os.Exit(run(entries, os.Args[2:]))
}

func run(entries map[string]Func, argv []string) int {
	// A child outlives its parent long enough to undo; a line for a log that nobody reads any more must not end it.
	signal.Ignore(syscall.SIGPIPE)

	conn := &Conn{out: json.NewEncoder(os.Stdout), requests: make(chan message, backlog)}
	os.Stdout = os.Stderr // what an entry point prints is for the log, never for the parent's decoder

	err := runEntry(entries, argv, conn)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	if sendErr := conn.send(message{Error: err.Error()}); sendErr != nil && !errors.Is(sendErr, syscall.EPIPE) {
		fmt.Fprintln(os.Stderr, sendErr)
	}
	return 1
}

func runEntry(entries map[string]Func, argv []string, conn *Conn) error {
	if len(argv) != 3 {
		return fmt.Errorf("%s takes a name, a longest hold time and arguments as JSON, got %q; it is started by the program itself", marker, argv)
	}
	entry, ok := entries[argv[0]]
	if !ok {
		return fmt.Errorf("this program has no child entry point %q; add it to the list that main gives to child.Main", argv[0])
	}
	maxHold, err := time.ParseDuration(argv[1])
	if err != nil {
		return fmt.Errorf("longest hold time of child %s: %w", argv[0], err)
	}
	conn.args = json.RawMessage(argv[2])

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if maxHold > 0 {
		timer := time.AfterFunc(maxHold, func() { cancel(ErrMaxHold) })
		defer timer.Stop()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		<-signals
		cancel(ErrSignal)
	}()
	go func() {
		err := conn.receive(os.Stdin)
		if !errors.Is(err, io.EOF) {
			fmt.Fprintf(os.Stderr, "child %s: read from the parent: %v\n", argv[0], err)
		}
		cancel(ErrLeaseEnded)
	}()
	return entry(ctx, conn)
}
