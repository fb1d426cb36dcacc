package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is one run of watcher.
type process struct {
	cmd    *exec.Cmd
	stdout *lines
	stderr *lines
	ended  chan struct{}
}

// watch starts "watcher run -o json" with these arguments. It is killed at the end of the test if it still runs, and
// what it said is shown if the test failed.
func watch(t *testing.T, kubeconfig string, args ...string) *process {
	t.Helper()
	p := &process{stdout: &lines{}, stderr: &lines{}, ended: make(chan struct{})}
	p.cmd = exec.Command(program, append([]string{"run", "-o", "json", "--kubeconfig", kubeconfig}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = p.cmd.Wait() // what it says is in the process's state, too
		close(p.ended)
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it fails only for a process that is gone
		wg.Wait()
		if t.Failed() {
			t.Logf("%s\nstderr:\n%s\nstdout:\n%s", strings.Join(p.cmd.Args, " "), p.stderr.tail(30), p.stdout.tail(15))
		}
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// wait waits until watcher's events, all so far, are as ok wants them.
func (p *process) wait(t *testing.T, d time.Duration, what string, ok func([]event) bool) []event {
	t.Helper()
	var evs []event
	eventually(t, d, what, func() bool {
		over := !p.running()
		evs = p.events(t)
		if ok(evs) {
			return true
		}
		if over {
			t.Fatalf("watcher ended (%s) before: %s", p.cmd.ProcessState, what)
		}
		return false
	})
	return evs
}

// synced waits for the end of n snapshots and returns their synced events by resource, or by namespace/resource of
// streams that are narrower.
func (p *process) synced(t *testing.T, n int) map[string]event {
	t.Helper()
	by := map[string]event{}
	p.wait(t, patience, fmt.Sprintf("%d streams synced", n), func(evs []event) bool {
		for _, ev := range evs {
			if ev.is("synced") {
				by[strings.TrimPrefix(ev.Data.Namespace+"/"+ev.Data.Resource, "/")] = ev
			}
		}
		return len(by) >= n
	})
	return by
}

// stop asks watcher to end, demands that it ends well, and that its log is sound.
func (p *process) stop(t *testing.T) []event {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("watcher does not run any more: %v (%s)", err, p.cmd.ProcessState)
	}
	return p.exit(t, 0)
}

// exit waits for the end with this exit code, and demands that the log is sound.
func (p *process) exit(t *testing.T, code int) []event {
	t.Helper()
	eventually(t, patience, "watcher ends", func() bool { return !p.running() })
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	evs := p.events(t)
	if rest := p.stdout.unfinished(); rest != "" {
		t.Errorf("the last line has no end: %q", rest)
	}
	for _, problem := range audit(evs) {
		t.Error(problem)
	}
	return evs
}

// stays demands that watcher still runs after d.
func (p *process) stays(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-p.ended:
		t.Fatalf("watcher ended: %s", p.cmd.ProcessState)
	case <-time.After(d):
	}
}

func (p *process) events(t *testing.T) []event {
	t.Helper()
	evs, err := p.stdout.events()
	if err != nil {
		t.Fatal(err)
	}
	return evs
}

// said returns the diagnostics of at least level warn that contain all of the words.
func (p *process) said(words ...string) []string {
	var found []string
	for _, l := range p.stderr.all() {
		if !strings.Contains(l, `"level":"info"`) && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(l, w) }) {
			found = append(found, l)
		}
	}
	return found
}

// saidOnce waits for one such diagnostic and returns it. A second one fails the test.
func (p *process) saidOnce(t *testing.T, words ...string) string {
	t.Helper()
	eventually(t, patience, "watcher says "+strings.Join(words, ", "), func() bool { return len(p.said(words...)) > 0 })
	if all := p.said(words...); len(all) > 1 {
		t.Errorf("said %d times, want once:\n%s", len(all), strings.Join(all, "\n"))
	}
	return p.said(words...)[0]
}

// lines collects what a process writes. Any number of goroutines may use it.
type lines struct {
	mu     sync.Mutex
	lines  []string
	rest   []byte
	parsed []event
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(b)
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		l.rest = append(l.rest, line...)
		if !whole {
			return n, nil
		}
		l.lines = append(l.lines, string(l.rest))
		l.rest, b = l.rest[:0], rest
	}
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

func (l *lines) unfinished() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.rest)
}

// events reads the lines as events.
func (l *lines) events() ([]event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines[len(l.parsed):] {
		var ev event
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			return nil, fmt.Errorf("line %d of stdout is no event: %w\n%s", len(l.parsed)+1, err, short(line))
		}
		l.parsed = append(l.parsed, ev)
	}
	return slices.Clip(l.parsed), nil
}

// tail returns the last n lines, each cut to what a reader can take in.
func (l *lines) tail(n int) string {
	all := l.all()
	all = all[max(0, len(all)-n):]
	for i, line := range all {
		all[i] = short(line)
	}
	return strings.Join(all, "\n")
}

func short(s string) string {
	if len(s) > 700 {
		return s[:700] + "…"
	}
	return s
}

// refused runs watcher with arguments that it must refuse, and returns what it says.
func refused(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, append([]string{"run"}, args...)...).CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 2 {
		t.Errorf("watcher run %s: %v, want exit code 2\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
