package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A process is one server that runs.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	from int64         // where this run begins in the log
	done chan struct{} // closed when the process has ended and was waited for
}

// startProcess runs path with its output appended to dir/name.log, and writes
// dir/name.pid. A process that is not detached does not outlive this one,
// however this one ends.
//
// The kernel kills such a child when the *thread* that started it ends, so one
// goroutine starts it, keeps its thread for itself, and waits for the child.
func startProcess(dir, name, path string, detach bool, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	if st, err := out.Stat(); err == nil {
		p.from = st.Size()
	}
	p.cmd = exec.Command(path, args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = processAttr(detach)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	pid := fmt.Appendf(nil, "%d\n", p.cmd.Process.Pid)
	if err := os.WriteFile(filepath.Join(dir, name+".pid"), pid, 0o600); err != nil {
		return nil, errors.Join(err, p.kill())
	}
	return p, nil
}

// ready waits until probe succeeds. If the process ends instead, the error
// holds the last lines of its log.
func (p *process) ready(ctx context.Context, probe func(context.Context) error) error {
	for {
		err := probe(ctx)
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s\n%s", p.name, p.cmd.ProcessState, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (%w)\n%s", p.name, ctx.Err(), err, p.tail())
		default:
		}
		if err == nil {
			return nil
		}
		_ = pause(ctx, 50*time.Millisecond)
	}
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// tail returns the last lines that this run wrote to its log.
func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data[p.from:])), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
