package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	kill = syscall.SIGKILL
	// saved is after how long what is written is behind the saved position for certain.
	saved = 3 * time.Second
)

// A victim is a watcher that ends badly and is started again, time after time, with one state and one log.
type victim struct {
	args       []string
	dir        string
	piped      bool          // its stdout is a pipe, and the log is what the reader of that took; else it is the log itself
	pace       time.Duration // of the reader
	stderr     *lines
	cmd        *exec.Cmd
	reader     *reader
	unread     []int // bytes that were in the pipe when it died, of each time
	brokenPipe int   // how often it died of a dead reader
	before     int64 // where this run's lines begin in the log
}

func newVictim(t *testing.T, kubeconfig string, piped bool, args ...string) *victim {
	t.Helper()
	v := &victim{dir: t.TempDir(), piped: piped, stderr: &lines{}}
	v.args = append([]string{"run", "-o", "json", "--kubeconfig", kubeconfig, "--state-dir", filepath.Join(v.dir, "state")}, args...)
	t.Cleanup(func() {
		if v.cmd != nil && v.cmd.ProcessState == nil {
			_ = v.cmd.Process.Kill()
			_ = v.cmd.Wait()
			if v.reader != nil {
				v.reader.die()
			}
		}
		if t.Failed() {
			t.Logf("watcher %q, stderr of all its runs:\n%s", v.args, v.stderr.tail(40))
			if *keep != "" {
				t.Logf("%v", os.CopyFS(filepath.Join(*keep, t.Name(), filepath.Base(v.dir)), os.DirFS(v.dir)))
			}
		}
	})
	return v
}

// log is the path of it.
func (v *victim) log() string { return filepath.Join(v.dir, "audit.jsonl") }

// start starts it with further arguments.
func (v *victim) start(args ...string) error {
	log, err := os.OpenFile(v.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	v.cmd = exec.Command(program, append(v.args[:len(v.args):len(v.args)], args...)...)
	v.cmd.Stdout, v.cmd.Stderr = log, v.stderr
	if v.before, err = log.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if !v.piped {
		return errors.Join(v.cmd.Start(), log.Close())
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	v.cmd.Stdout = w
	v.reader = &reader{pipe: r, to: log, pace: v.pace}
	v.reader.start()
	return errors.Join(v.cmd.Start(), w.Close())
}

// kill ends it, and the reader of its pipe, in one of the ways in which that happens.
func (v *victim) kill(how *rand.Rand) error {
	if !v.piped {
		return v.die(kill)
	}
	defer v.reader.die()
	roll := how.IntN(10)
	if roll == 0 { // the reader takes all there is, and lives on
		err := v.die(kill)
		v.unread = append(v.unread, 0)
		v.reader.join()
		return err
	}
	v.reader.pause() // it is dead already: what it took by now is all that counts
	_ = pause(context.Background(), time.Duration(20+how.IntN(280))*time.Millisecond)
	if roll < 3 {
		return v.breakPipe()
	}
	err := v.die(kill)
	v.unread = append(v.unread, v.reader.unread())
	return err
}

// lost is how many bytes were lost with the pipe when it died for the i-th time.
func (v *victim) lost(i int) int {
	if !v.piped {
		return 0
	}
	return v.unread[i]
}

// breakPipe ends the reader, and watcher has to find that out by itself.
func (v *victim) breakPipe() error {
	v.unread = append(v.unread, v.reader.unread())
	v.brokenPipe++
	v.reader.die()
	if err := v.wait(); err != nil {
		return err
	}
	if code := v.cmd.ProcessState.ExitCode(); code != 1 {
		return fmt.Errorf("the reader died: exit code %d, want 1", code)
	}
	return nil
}

func (v *victim) die(sig os.Signal) error {
	if err := v.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("watcher ended before it was killed: %w", err)
	}
	return v.wait()
}

// wait returns when it has ended, however.
func (v *victim) wait() error {
	late := time.AfterFunc(patience, func() { _ = v.cmd.Process.Kill() })
	_ = v.cmd.Wait() // what it says is in the process's state, too
	if !late.Stop() {
		return fmt.Errorf("watcher did not end within %s", patience)
	}
	return nil
}

// run starts it, with further arguments.
func (v *victim) run(t *testing.T, args ...string) {
	t.Helper()
	if err := v.start(args...); err != nil {
		t.Fatal(err)
	}
}

// stop asks it to end, which it must do well.
func (v *victim) stop(t *testing.T) {
	t.Helper()
	if err := v.die(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if v.reader != nil {
		v.reader.join()
	}
	if code := v.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("SIGTERM: exit code %d, want 0", code)
	}
}

// wrote waits until the last run has written all of these, each within one line.
func (v *victim) wrote(t *testing.T, d time.Duration, texts ...string) {
	t.Helper()
	var left [][]byte
	for _, text := range texts {
		left = append(left, []byte(text))
	}
	f, err := os.Open(v.log())
	must(t, f, err)
	defer func() { _ = f.Close() }()
	at, err := f.Seek(v.before, io.SeekStart)
	must(t, at, err)
	rest := []byte{}
	eventually(t, d, fmt.Sprintf("the log holds %q", texts), func() bool {
		more, err := io.ReadAll(f)
		must(t, more, err)
		rest = append(rest, more...)
		found := left[:0]
		for _, text := range left {
			if !bytes.Contains(rest, text) {
				found = append(found, text)
			}
		}
		left = found
		rest = append([]byte{}, rest[bytes.LastIndexByte(rest, '\n')+1:]...)
		return len(left) == 0
	})
}

// synced waits until the last run has so many synced events, and returns its events.
func (v *victim) synced(t *testing.T, n int) []event {
	t.Helper()
	return v.await(t, aMinute, fmt.Sprintf("%d times synced", n), func(evs []event) bool { return count(evs, only("synced")) >= n })
}

// await waits until the events of the last run are as ok wants them, and returns them.
func (v *victim) await(t *testing.T, d time.Duration, what string, ok func([]event) bool) (evs []event) {
	t.Helper()
	eventually(t, d, what, func() bool {
		evs = v.events(t)
		return ok(evs)
	})
	return evs
}

// events are those of the last run. A torn line is none.
func (v *victim) events(t *testing.T) []event {
	t.Helper()
	return v.from(t, v.before)
}

// all are those of all runs.
func (v *victim) all(t *testing.T) []event {
	t.Helper()
	return v.from(t, 0)
}

func (v *victim) from(t *testing.T, offset int64) []event {
	t.Helper()
	data, err := os.ReadFile(v.log())
	must(t, data, err)
	return whole(data[offset:])
}

// verify demands that watcher finds nothing wrong with a log, also beside the cluster.
func verify(t *testing.T, kubeconfig, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*aMinute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "verify", "--live", "--kubeconfig", kubeconfig, log).CombinedOutput()
	if err != nil {
		t.Errorf("watcher verify --live: %v\n%s", err, out[max(0, len(out)-6000):])
	}
}

// A reader reads a pipe into a file.
type reader struct {
	pipe, to *os.File
	pace     time.Duration // how long it rests after each piece of up to 16 KiB
	joined   sync.WaitGroup
	closed   bool
}

func (r *reader) start() {
	r.joined.Go(func() {
		buf := make([]byte, 16<<10)
		for {
			n, err := r.pipe.Read(buf)
			if _, failed := r.to.Write(buf[:n]); err != nil || failed != nil {
				return
			}
			_ = pause(context.Background(), r.pace)
		}
	})
}

// pause stops reading.
func (r *reader) pause() {
	_ = r.pipe.SetReadDeadline(time.Unix(1, 0))
	r.joined.Wait()
}

// resume goes on after a pause.
func (r *reader) resume() {
	_ = r.pipe.SetReadDeadline(time.Time{})
	r.start()
}

// unread is how many bytes wait in the pipe.
func (r *reader) unread() (n int) {
	conn, err := r.pipe.SyscallConn()
	if err != nil {
		return 0
	}
	_ = conn.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err != nil {
		return 0
	}
	return n
}

// join returns when nobody can write into the pipe any more and all is read.
func (r *reader) join() {
	r.joined.Wait()
	r.die()
}

// die ends the reader, and what waits in the pipe is gone.
func (r *reader) die() {
	if r.closed {
		return
	}
	r.closed = true
	r.pause()
	_, _ = r.pipe.Close(), r.to.Close()
}
