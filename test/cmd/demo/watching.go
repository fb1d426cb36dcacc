package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// patience is how long watcher may take to end when asked to.
const patience = 30 * time.Second

// A watching is one "watcher run" after the other, with the same state.
type watching struct {
	path   string
	args   []string
	log    string    // file that events are appended to; "": they are shown
	errors io.Writer // where diagnostics are shown; nil: only if it fails

	cmd   *exec.Cmd // nil: none runs
	said  bytes.Buffer
	ended chan struct{}
}

// start starts it in a process group of its own, which a Ctrl-C does not reach.
func (w *watching) start() error {
	w.cmd = exec.Command(w.path, append([]string{"run"}, w.args...)...)
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	w.cmd.Stdout, w.cmd.Stderr = os.Stdout, w.errors
	if w.errors == nil {
		w.cmd.Stderr = &w.said
	}
	if w.log != "" {
		f, err := os.OpenFile(w.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // the child has its own
		w.cmd.Stdout = f
	}
	if err := w.cmd.Start(); err != nil {
		w.cmd = nil
		return fmt.Errorf("start watcher: %w", err)
	}
	w.ended = make(chan struct{})
	go func() {
		_ = w.cmd.Wait() // what it says is in the process's state, too
		close(w.ended)
	}()
	return nil
}

// crash kills it, which must run.
func (w *watching) crash() error {
	select {
	case <-w.ended:
		return w.failed("ended before it was asked to")
	default:
		w.kill()
		return nil
	}
}

// kill ends it at once, if it runs.
func (w *watching) kill() {
	if w.cmd == nil {
		return
	}
	_ = w.cmd.Process.Kill() // it fails only for a process that is gone
	<-w.ended
	w.cmd = nil
}

// stop asks it to end, which it must do well.
func (w *watching) stop() error {
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return w.failed("ended before it was asked to")
	}
	select {
	case <-w.ended:
	case <-time.After(patience):
		return w.failed("does not end")
	}
	if state := w.cmd.ProcessState; !state.Success() {
		return w.failed(state.String())
	}
	w.cmd = nil
	return nil
}

func (w *watching) failed(how string) error {
	w.kill()
	if said := bytes.TrimSpace(w.said.Bytes()); len(said) > 0 {
		return fmt.Errorf("watcher %s\n%s", how, said)
	}
	return errors.New("watcher " + how)
}
