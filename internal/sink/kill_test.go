package sink_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/sink"
)

// With these in the environment the test binary is a process that writes to stdout, up to event childEnd.
const (
	childDir = "SINK_TEST_CHILD_STATE_DIR"
	childEnd = "SINK_TEST_CHILD_END"
)

// tale is the event of that seq: objects come, change, go, and come again.
func tale(seq uint64) *event.Event {
	rng := rand.New(rand.NewPCG(seq, 0))
	name := fmt.Sprint("object-", rng.IntN(200))
	return &event.Event{
		Stream: stream, Type: event.Type(1 + rng.IntN(4)), Origin: event.Live, Seq: seq, Time: time.Unix(1, 0),
		Object: event.Object{Namespace: "shop", Name: name, UID: "uid of " + name, ResourceVersion: fmt.Sprint(seq), Body: []byte(`{"a":"ü"}`)},
	}
}

// told is the ledger after that many events.
func told(seq uint64) map[string]event.Object {
	ledger := map[string]event.Object{}
	for n := uint64(1); n <= seq; n++ {
		ev := tale(n)
		ev.Object.Body = nil
		if ev.Type == event.Deleted {
			delete(ledger, ev.Object.Key())
		} else {
			ledger[ev.Object.Key()] = ev.Object
		}
	}
	return ledger
}

// child goes on with the tale, at a pace at which files do not fill the disk.
func child(dir string) error {
	end, err := strconv.ParseUint(os.Getenv(childEnd), 10, 64)
	if err != nil {
		return err
	}
	state, err := sink.OpenStateDir(dir)
	if err != nil {
		return err
	}
	if err := sink.CloseTornLine(os.Stdout, state.Unclean()); err != nil {
		return err
	}
	l := sink.NewLines(os.Stdout, sink.JSON(0), state)
	ctx := context.Background()
	held, err := l.Recover(ctx)
	if err != nil {
		return err
	}
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for seq := held.Streams[stream.Key()].Seq; seq < end; <-pace.C {
		var b event.Batch
		for n := min(end, seq+20); seq < n; {
			seq++
			b.Events = append(b.Events, tale(seq))
		}
		b.Streams = map[string]event.Checkpoint{stream.Key(): {Seq: seq}}
		if err := l.Commit(ctx, b); err != nil {
			return err
		}
	}
	return l.Close(ctx)
}

// A writer is a child process and where its output goes.
type writer struct {
	*exec.Cmd
	stderr bytes.Buffer
}

func startWriter(t *testing.T, dir string, end uint64, stdout *os.File) *writer {
	t.Helper()
	w := &writer{Cmd: exec.Command(os.Args[0])}
	w.Env = append(os.Environ(), childDir+"="+dir, childEnd+"="+fmt.Sprint(end))
	w.Stdout, w.Stderr = stdout, &w.stderr
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Process.Kill() }) // it is gone, unless the test failed
	return w
}

// kill ends a writer where it is.
func (w *writer) kill(t *testing.T) {
	t.Helper()
	must(t, w.Process.Kill())
	if err := w.Wait(); w.stderr.Len() > 0 {
		t.Fatalf("%v: %s", err, &w.stderr)
	}
}

// checkConsistent looks at the state that a kill left behind: not ahead of what a reader has, and with the ledger of
// just there.
func checkConsistent(t *testing.T, dir string, log []byte) (seq uint64) {
	t.Helper()
	got := contentsOf(t, openState(t, dir))
	seq = got.streams[stream.Key()].Seq
	if last := checkLog(t, log); seq > last {
		t.Fatalf("the position is %d, and only %d have come out", seq, last)
	}
	if seq > 0 && !reflect.DeepEqual(got.ledgers[stream.Key()], told(seq)) {
		t.Fatalf("the ledger is not that of %d", seq)
	}
	return seq
}

// checkLog returns the last event of a log. None may be missing before it; some are there again after a kill, and a line
// may be torn there.
func checkLog(t *testing.T, log []byte) (last uint64) {
	t.Helper()
	for line := range bytes.Lines(log) {
		if !bytes.HasPrefix(line, []byte(`{"specversion"`)) || !bytes.HasSuffix(line, []byte("}}}\n")) {
			continue
		}
		_, after, _ := bytes.Cut(line, []byte(`"seq":`))
		text, _, _ := bytes.Cut(after, []byte(","))
		seq, err := strconv.ParseUint(string(text), 10, 64)
		if err != nil || seq > last+1 {
			t.Fatalf("%d comes after %d: %v", seq, last, err)
		}
		last = max(last, seq)
	}
	return last
}

const kills = 6

// TestAKillLeavesAStateThatIsNotAheadOfTheFile and the next run goes on so that nothing is missing.
func TestAKillLeavesAStateThatIsNotAheadOfTheFile(t *testing.T) {
	t.Parallel()
	dir, path := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close() //nolint:errcheck // the children write
	rng, moved := rand.New(rand.NewPCG(1, 0)), 0
	for range kills {
		before, err := f.Stat()
		must(t, err)
		w := startWriter(t, dir, 1<<60, f)
		awaitSize(t, path, before.Size()+1+rng.Int64N(4<<20))
		w.kill(t)
		log, err := os.ReadFile(path)
		must(t, err)
		if checkConsistent(t, dir, log) > 0 {
			moved++
		}
	}
	checkEnd(t, dir, moved, func(end uint64) []byte {
		w := startWriter(t, dir, end, f)
		if err := w.Wait(); err != nil {
			t.Fatalf("%v: %s", err, &w.stderr)
		}
		log, err := os.ReadFile(path)
		must(t, err)
		return log
	})
}

// awaitSize waits until a real process has written so much.
func awaitSize(t *testing.T, path string, size int64) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		info, err := os.Stat(path)
		must(t, err)
		if info.Size() >= size {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %d bytes of %d were written in a minute", info.Size(), size)
		}
	}
}

// checkEnd lets the tale go on for a bit, to its end, and looks at all that has come out. moved is how often something
// was saved when it was killed.
func checkEnd(t *testing.T, dir string, moved int, finish func(end uint64) (log []byte)) {
	t.Helper()
	if moved == 0 {
		t.Error("no kill was late enough for a position to be saved: that proves little")
	}
	end := contentsOf(t, openState(t, dir)).streams[stream.Key()].Seq + 5000
	if last := checkLog(t, finish(end)); last != end {
		t.Errorf("the log ends at %d, not %d", last, end)
	}
	checkHeld(t, dir, end, false)
}

// TestAKillLeavesAStateThatIsNotAheadOfThePipesReader which stops in the middle of a line, and is then connected to the
// next process. What was left in the pipe is lost.
func TestAKillLeavesAStateThatIsNotAheadOfThePipesReader(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	rng, moved := rand.New(rand.NewPCG(2, 0)), 0
	var log bytes.Buffer
	for range kills {
		r, w, err := os.Pipe()
		must(t, err)
		child := startWriter(t, dir, 1<<60, w)
		must(t, w.Close())
		must(t, r.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = io.CopyN(&log, r, 1+rng.Int64N(4<<20))
		must(t, err)
		child.kill(t)
		must(t, r.Close())
		if checkConsistent(t, dir, log.Bytes()) > 0 {
			moved++
		}
	}
	checkEnd(t, dir, moved, func(end uint64) []byte {
		r, w, err := os.Pipe()
		must(t, err)
		child := startWriter(t, dir, end, w)
		must(t, w.Close())
		_, err = io.Copy(&log, r)
		must(t, err, r.Close())
		if err := child.Wait(); err != nil {
			t.Fatalf("%v: %s", err, &child.stderr)
		}
		return log.Bytes()
	})
	if text := log.String(); strings.Contains(text, "}{") {
		t.Error("an event is on the line of another")
	}
}
