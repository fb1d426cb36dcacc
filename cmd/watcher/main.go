// Watcher streams the changes of Kubernetes resources as ordered events.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"

	"watcher/internal/event"
	"watcher/internal/watch"
)

const (
	exitOK         = 0
	exitRuntime    = 1
	exitUsage      = 2
	exitUnreadable = 3
	exitSignal     = 130 // the second one
)

func main() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1) // one processor is plenty, and each event wakes no other: see docs/adr/0005-one-processor.md
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // what is kept is large, and little is allocated: see docs/adr/0012-collecting-garbage.md
	}
	// A Write to a pipe that nobody reads is to fail with EPIPE, on stdout too, where Go would end the program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	os.Exit(supervise(signals, func(ctx context.Context) int { return execute(ctx, os.Args[1:], os.Stdout, os.Stderr) }))
}

// supervise ends run's context at the first signal, and does not wait for it at the second.
func supervise(signals <-chan os.Signal, run func(context.Context) int) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	code := make(chan int, 1)
	var running sync.WaitGroup
	running.Go(func() { code <- run(ctx) })
	for {
		select {
		case c := <-code:
			return c
		case <-signals:
			if ctx.Err() != nil {
				return exitSignal
			}
			cancel()
		}
	}
}

// A usageError is a mistake on the command line.
type usageError struct{ problem string }

func (e *usageError) Error() string { return e.problem }

// execute is the program: it returns the exit code, and writes to stderr what is wrong.
func execute(ctx context.Context, args []string, stdout, stderr *os.File) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	return report(c.CommandPath(), err, stderr)
}

func report(command string, err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(*usageError)), errors.As(err, new(*watch.UsageError)):
		fmt.Fprintf(stderr, "watcher: %v\nRun '%s -h' for help.\n", err, command)
		return exitUsage
	case errors.Is(err, errUnfit), errors.Is(err, errUnaccounted):
		return exitRuntime
	case errors.As(err, new(*unreadableError)):
		fmt.Fprintf(stderr, "watcher: %v\n", err)
		return exitUnreadable
	case errors.Is(err, event.ErrClosed) && errors.Is(err, syscall.EPIPE):
		return exitRuntime // as other programs in a pipe: the reader knows that it left
	default:
		fmt.Fprintf(stderr, "watcher: %v\n", err)
		return exitRuntime
	}
}
