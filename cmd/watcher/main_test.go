package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"watcher/internal/watch/watchtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain makes the program itself a command: the test binary run under the name watcher is main.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"watcher": main})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	flag.Parse()
	err := flag.Set("test.parallel", "6") // they wait for other processes, mostly
	code := l.m.Run()
	if err = errors.Join(err, goleak.Find()); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// patience is how long a test waits for another process.
const patience = 30 * time.Second

// tb is what a process needs of a test or a script.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// A process is a watcher that runs, its output in files.
type process struct {
	tb          tb
	cmd         *exec.Cmd
	out, errout string // paths
	done        chan struct{}
}

// environment is one without a cluster but that of the kubeconfig, which may be none.
func environment(home, kubeconfig string) []string {
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	for _, name := range []string{"GOCOVERDIR", "GORACE", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if kubeconfig != "" {
		env = append(env, "KUBECONFIG="+kubeconfig)
	}
	return env
}

// begin starts watcher in dir. Its stdout is appended to NAME.out unless another file is given, its stderr to NAME.err.
func begin(t tb, dir, name string, env []string, stdout *os.File, args ...string) *process {
	t.Helper()
	p := &process{tb: t, out: filepath.Join(dir, name+".out"), errout: filepath.Join(dir, name+".err"), done: make(chan struct{})}
	open := func(path string) *os.File {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return f
	}
	p.cmd = exec.Command("watcher", args...)
	p.cmd.Dir, p.cmd.Env = dir, env
	stderr := open(p.errout)
	defer stderr.Close() //nolint:errcheck // the process has its own
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	if stdout == nil {
		f := open(p.out)
		defer f.Close() //nolint:errcheck // the process has its own
		p.cmd.Stdout = f
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start watcher: %v", err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the state tells
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has mostly ended
		<-p.done
	})
	return p
}

// ended waits for the end and returns the exit code.
func (p *process) ended() int {
	p.tb.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.tb.Fatalf("watcher has not ended\n%s", p.stderr())
		return -1
	}
}

// end sends a signal and waits for the end.
func (p *process) end(sig os.Signal) int {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.tb.Fatalf("signal watcher: %v\n%s", err, p.stderr())
	}
	return p.ended()
}

func (p *process) stdout() string { return slurp(p.out) }
func (p *process) stderr() string { return slurp(p.errout) }

func slurp(path string) string {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

// await polls until the file is as wanted.
func (p *process) await(what, path string, ok func(text string) bool) {
	p.tb.Helper()
	if !poll(func() bool { return ok(slurp(path)) }) {
		p.tb.Fatalf("waiting for %s in %s: in vain\n%.4000s\nstderr:\n%.4000s", what, filepath.Base(path), slurp(path), p.stderr())
	}
}

// poll asks again and again until cond is true. Other processes cannot tell us.
func poll(cond func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		if cond() {
			return true
		}
	}
	return false
}

// A world is an API server and a place to run watcher against it.
type world struct {
	*watchtest.Server
	t     *testing.T
	dir   string
	env   []string
	tries func() int // requests, or connections where none can be made
}

func newWorld(t *testing.T, rs ...watchtest.Resource) *world {
	t.Helper()
	srv := watchtest.New(t, rs...)
	dir := t.TempDir()
	return &world{srv, t, dir, environment(dir, srv.WriteKubeconfig(dir)), func() int { return srv.Count(watchtest.Lists()) }}
}

// run starts watcher, stdout into a file.
func (w *world) run(args ...string) *process {
	w.t.Helper()
	return begin(w.t, w.dir, "run", w.env, nil, append([]string{"run"}, args...)...)
}

// runInto starts watcher, stdout into f, which belongs to the process alone afterwards.
func (w *world) runInto(f *os.File, args ...string) *process {
	w.t.Helper()
	defer f.Close() //nolint:errcheck // the process has its own
	return begin(w.t, w.dir, "run", w.env, f, append([]string{"run"}, args...)...)
}

func (w *world) await(cond func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := w.Await(ctx, cond); err != nil {
		w.t.Fatal(err)
	}
}

// once runs watcher to its end.
func once(t tb, dir string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	cmd := exec.CommandContext(ctx, "watcher", args...)
	var out, errout bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, &out, &errout
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) || ctx.Err() != nil {
		t.Fatalf("run watcher %s: %v, %v\n%s", strings.Join(args, " "), err, ctx.Err(), errout.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errout.String()
}

// A diagnostic is one line of stderr when it is no terminal.
type diagnostic struct{ Level, Time, Message, Error, Do, Resource string }

func diagnostics(t tb, stderr string) []diagnostic {
	t.Helper()
	var all []diagnostic
	for line := range strings.Lines(stderr) {
		var d diagnostic
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("stderr is not JSON: %v\n%s", err, line)
		}
		if d.Level == "" || d.Message == "" || d.Time == "" {
			t.Fatalf("a diagnostic without level, time or message: %s", line)
		}
		all = append(all, d)
	}
	return all
}

// complaints are the diagnostics of warning level and above.
func complaints(t tb, stderr string) []diagnostic {
	t.Helper()
	var bad []diagnostic
	for _, d := range diagnostics(t, stderr) {
		if d.Level != "info" && d.Level != "debug" {
			bad = append(bad, d)
		}
	}
	return bad
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}
