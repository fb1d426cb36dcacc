package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
	"k8s.io/client-go/rest"

	"watcher/internal/sink"
	"watcher/internal/watch"
)

// run puts the parts together. It is the only place that sees them all.
func (c *config) run(ctx context.Context, stdout, stderr *os.File) (err error) {
	if err := c.open(stderr); err != nil {
		return err
	}
	var state *sink.StateDir
	if c.stateDir != "" && !c.watch.Once {
		if state, err = sink.OpenStateDir(c.stateDir); err != nil {
			return err
		}
		defer state.Close() //nolint:errcheck // what there was to save is saved, or its error returned
	}
	if err := sink.CloseTornLine(stdout, state != nil && state.Unclean()); err != nil {
		return err
	}
	c.watch.Sink = sink.NewLines(stdout, c.format(stdout), state)
	return watch.Run(ctx, c.watch)
}

// open makes the logger and the client.
func (c *config) open(stderr *os.File) (err error) {
	if c.watch.Log, err = newLogger(c.logLevel, c.logForm, stderr); err != nil {
		return err
	}
	c.kube.UserAgent = "watcher/" + versionName()
	c.kube.WarningHandler = rest.NoWarnings{}
	if c.watch.Client, err = watch.NewClient(c.kube, c.qps, c.burst); err != nil {
		return &usageError{fmt.Sprintf("cannot use the kubeconfig: %v", err)}
	}
	return nil
}

func (c *config) format(stdout *os.File) sink.Format {
	if !c.text {
		return sink.JSON(c.maxEvent)
	}
	fd := int(stdout.Fd())
	text := &sink.Text{Zone: time.Local, Width: func() int { return 0 }}
	if term.IsTerminal(fd) {
		text.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		text.Width = func() int {
			width, _, err := term.GetSize(fd)
			if err != nil {
				return 0
			}
			return width
		}
	}
	return text.Append
}
