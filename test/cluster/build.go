package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// install builds the program and puts it at path, all or nothing.
func (s server) install(ctx context.Context, path string, log io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, path+".lock", log)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil // built by another process while we waited for the lock
	}
	dir, err := s.sourceDir(ctx)
	if err != nil {
		return err
	}
	tmp := path + ".new" // ours alone: we hold the lock; a leftover of a killed build is overwritten
	if err := s.build(ctx, dir, tmp, log); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (s server) build(ctx context.Context, dir, out string, log io.Writer) error {
	p := progress{log: log, name: s.name, start: time.Now(), terminal: isTerminal(log)}
	p.show("fetching modules, counting packages")
	total, fresh, err := s.count(ctx, dir)
	if err != nil {
		return err
	}
	cmd := goCommand(ctx, dir, "build", "-v", "-o", out, "-ldflags", s.ldflags, s.pkg)
	names, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var last []string // what the go command said last: the error, if there is one
	for sc := bufio.NewScanner(names); sc.Scan(); {
		if !strings.HasPrefix(sc.Text(), "go: ") {
			fresh = min(fresh+1, total)
		}
		last = append(last, sc.Text())
		last = last[max(0, len(last)-20):]
		p.show(fmt.Sprintf("%d/%d packages", fresh, total))
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", dir, err, strings.Join(last, "\n"))
	}
	p.done()
	return nil
}

// count returns how many packages the program has, and how many of them are
// in the build cache already: go build -v names only the others.
func (s server) count(ctx context.Context, dir string) (total, fresh int, err error) {
	out, err := goCommand(ctx, dir, "list", "-deps", "-f", "{{.Stale}}", s.pkg).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("go list in %s: %w", dir, withStderr(err))
	}
	return strings.Count(string(out), "\n"), strings.Count(string(out), "false\n"), nil
}

// goCommand is a go command that depends neither on a workspace nor on a C compiler.
func goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it stops its compilers then
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func withStderr(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	return err
}

// lock takes the file lock at path and returns what gives it back; it is also
// given back when the process dies.
func lock(ctx context.Context, path string, log io.Writer) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for told := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if !told {
			fmt.Fprintf(log, "another process is building %s: waiting\n", strings.TrimSuffix(filepath.Base(path), ".lock"))
			told = true
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, errors.Join(fmt.Errorf("wait for %s: %w", path, err), f.Close())
		}
	}
}

// progress shows how far a build is: one line that is rewritten on a
// terminal, else a line now and then.
type progress struct {
	log         io.Writer
	name        string
	start, last time.Time
	terminal    bool
}

func (p *progress) show(what string) {
	every, format := 15*time.Second, "building %s %s (%s)\n"
	if p.terminal {
		every, format = 100*time.Millisecond, "\r\x1b[Kbuilding %s %s (%s)"
	}
	if now := time.Now(); now.Sub(p.last) >= every {
		p.last = now
		fmt.Fprintf(p.log, format, p.name, what, now.Sub(p.start).Round(time.Second))
	}
}

func (p *progress) done() {
	format := "built %s in %s\n"
	if p.terminal {
		format = "\r\x1b[Kbuilt %s in %s\n"
	}
	fmt.Fprintf(p.log, format, p.name, time.Since(p.start).Round(time.Second))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// pause waits, or returns the context's error as soon as it has one.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
