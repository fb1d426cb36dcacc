package sink_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"watcher/internal/event"
	"watcher/internal/sink"
	"watcher/internal/sink/sinktest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// A medium is what Lines writes to. It keeps and fails independently.
type medium struct {
	mu      sync.Mutex
	kept    bytes.Buffer
	faults  []func(p []byte) (kept int, err error) // of the next writes
	closed  bool
	stall   chan struct{} // not nil: writes wait until it is closed
	reached chan struct{} // closed when one does
}

var errMedium = errors.New("no space left")

func (m *medium) Write(p []byte) (int, error) {
	m.mu.Lock()
	stall := m.stall
	if stall != nil && m.reached != nil {
		close(m.reached)
		m.reached = nil
	}
	m.mu.Unlock()
	if stall != nil {
		<-stall
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := len(p), error(nil)
	if len(m.faults) > 0 {
		n, err = m.faults[0](p)
		m.faults = m.faults[1:]
	}
	if m.closed {
		return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
	}
	m.kept.Write(p[:n])
	return n, err
}

// failAt makes the next write fail after so many bytes.
func (m *medium) failAt(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, func([]byte) (int, error) { return n, errMedium })
}

func (m *medium) fail(shares ...float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, share := range shares {
		m.faults = append(m.faults, func(p []byte) (int, error) { return int(share * float64(len(p))), errMedium })
	}
}

func (m *medium) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}

func (m *medium) block() (reached <-chan struct{}, release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	stall, here := make(chan struct{}), make(chan struct{})
	m.stall, m.reached = stall, here
	return here, sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.stall = nil
		close(stall)
	})
}

func (m *medium) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.String()
}

func (m *medium) lines() []string {
	text := m.text()
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

func TestLinesKeepTheSinkContract(t *testing.T) {
	sinktest.Run(t, func(*testing.T) sinktest.Fixture {
		m := &medium{}
		return sinktest.Fixture{Sink: sink.NewLines(m, sink.JSON(0), nil), Stored: m.lines, Fail: m.fail, Close: m.close, Stall: m.block}
	})
}

func TestLinesWithAStateDirectoryKeepTheSinkContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Fixture {
		m, dir := &medium{}, t.TempDir()
		l := reopen(t, m, dir)
		t.Cleanup(func() {
			if err := l.Crash(); err != nil {
				t.Error(err)
			}
		})
		return sinktest.Fixture{
			Sink: l, Stored: m.lines, Fail: m.fail, Close: m.close, Stall: m.block,
			Settle: func() { l.Settle() },
			Reopen: func() sinktest.Sink {
				if err := l.Crash(); err != nil {
					t.Fatal(err)
				}
				l = reopen(t, m, dir)
				return l
			},
		}
	})
}

// reopen returns a sink that goes on at what is saved in dir.
func reopen(t *testing.T, dst io.Writer, dir string) *sink.Lines {
	t.Helper()
	state, err := sink.OpenStateDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return sink.NewLines(dst, sink.JSON(0), state)
}

var stream = event.NewStream(event.StreamName{Cluster: "test", Version: "v1", Resource: "pods", Kind: "Pod"})

// batch is n events of one stream, and what they lead to.
func batch(from, n uint64) event.Batch {
	b := event.Batch{Streams: map[string]event.Checkpoint{stream.Key(): {Seq: from + n - 1}}}
	for seq := from; seq < from+n; seq++ {
		b.Events = append(b.Events, &event.Event{
			Stream: stream, Type: event.Modified, Origin: event.Live, Seq: seq, Time: time.Unix(1, 0),
			Object: event.Object{Name: "x", ResourceVersion: "1", Body: []byte(`{"a":"ü"}`)},
		})
	}
	return b
}

func linesOf(b event.Batch) string {
	var text []byte
	for _, ev := range b.Events {
		text = append(ev.AppendLine(text, 0), '\n')
	}
	return string(text)
}

// TestWhereverAWriteFailsNoByteIsLostOrRepeated fails the first write after every number of bytes, and the next one,
// which is Recover's, after one more.
func TestWhereverAWriteFailsNoByteIsLostOrRepeated(t *testing.T) {
	first, second := batch(1, 3), batch(4, 2)
	whole := linesOf(first)
	for n := range len(whole) + 1 {
		m := &medium{}
		l := sink.NewLines(m, sink.JSON(0), nil)
		m.failAt(n)
		if err := l.Commit(t.Context(), first); !errors.Is(err, errMedium) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if n < len(whole) {
			m.failAt(1)
			if state, err := l.Recover(t.Context()); !errors.Is(err, errMedium) || state.Streams != nil {
				t.Fatalf("after %d bytes: recover: %v, %v", n, state, err)
			}
		}
		state, err := l.Recover(t.Context())
		if err != nil || state.Streams[stream.Key()].Seq != 3 || m.text() != whole {
			t.Fatalf("after %d bytes: recover: %v, %v\n%s", n, state, err, m.text())
		}
		if err := l.Commit(t.Context(), second); err != nil || m.text() != whole+linesOf(second) {
			t.Fatalf("after %d bytes: the next batch: %v\n%s", n, err, m.text())
		}
	}
}

// TestABatchIsOneWrite keeps lines of other programs that append to the same file out of ours.
func TestABatchIsOneWrite(t *testing.T) {
	m := &medium{}
	writes := 0
	m.faults = append(m.faults, func(p []byte) (int, error) { writes++; return len(p), nil }, func(p []byte) (int, error) { writes++; return len(p), nil })
	if err := sink.NewLines(m, sink.JSON(0), nil).Commit(t.Context(), batch(1, 100)); err != nil || writes != 1 {
		t.Errorf("%d writes, %v", writes, err)
	}
}

func TestAnEventAboveTheLimitIsWrittenWithoutItsObject(t *testing.T) {
	b := batch(1, 2)
	b.Events[1].Object.Body = []byte(`{"a":"` + strings.Repeat("x", 1000) + `"}`)
	m := &medium{}
	if err := sink.NewLines(m, sink.JSON(800), nil).Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if got := m.lines(); len(got) != 2 || !strings.Contains(got[0], `"object":{`) || strings.Contains(got[1], `"object":{`) || !strings.Contains(got[1], `"objectOmitted":{"bytes":1008,`) {
		t.Errorf("%s", m.text())
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() }) // one of them may be closed already
	return r, w
}

func TestAReaderThatLeavesClosesTheSink(t *testing.T) {
	r, w := pipe(t)
	l := sink.NewLines(w, sink.JSON(0), nil)
	if err := l.Commit(t.Context(), batch(1, 2)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Commit(t.Context(), batch(3, 2)); !errors.Is(err, event.ErrClosed) || !errors.Is(err, syscall.EPIPE) {
			t.Errorf("commit: %v", err)
		}
	}
}

// TestAReaderThatStopsReadingIsNotWaitedForWhenTheContextEnds fills a real pipe: its reader takes one byte and no more.
func TestAReaderThatStopsReadingIsNotWaitedForWhenTheContextEnds(t *testing.T) {
	r, w := pipe(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sink.NewLines(w, sink.JSON(0), nil).Commit(ctx, batch(1, 10_000)) }()
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, event.ErrClosed) {
		t.Errorf("commit: %v", err)
	}
}

// TestAPipeThatIsNearlyFullIsNotWaitedForEither: what would fit into an empty one may not fit now.
func TestAPipeThatIsNearlyFullIsNotWaitedForEither(t *testing.T) {
	_, w := pipe(t)
	l := sink.NewLines(w, sink.JSON(0), nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for from := uint64(1); err == nil; from += 100 { // 30 KB at a time
			err = l.Commit(ctx, batch(from, 100))
		}
		done <- err
	}()
	for !full(t, w) {
		runtime.Gosched()
	}
	cancel()
	if err := <-done; !errors.Is(err, event.ErrClosed) {
		t.Errorf("commit: %v", err)
	}
}

// full reports whether a pipe takes nothing any more.
func full(t *testing.T, w *os.File) bool {
	t.Helper()
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	poll := []unix.PollFd{{Events: unix.POLLOUT}}
	err = conn.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd)
		_, err = unix.Poll(poll, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	return poll[0].Revents&unix.POLLOUT == 0
}

func TestASlowReaderIsWaitedForUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &medium{}
		_, release := m.block()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begin := time.Now()
		err := sink.NewLines(m, sink.JSON(0), nil).Commit(ctx, batch(1, 3))
		if took := time.Since(begin); !errors.Is(err, event.ErrClosed) || took != 20*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		release()
	})
}

// TestAReaderInSmallBitesGetsEverything reads a real pipe in odd little pieces.
func TestAReaderInSmallBitesGetsEverything(t *testing.T) {
	r, w := pipe(t)
	done := make(chan error, 1)
	b := batch(1, 2000)
	go func() {
		err := sink.NewLines(w, sink.JSON(0), nil).Commit(t.Context(), b)
		done <- errors.Join(err, w.Close())
	}()
	got, err := io.ReadAll(bufio.NewReaderSize(oneByOne{r}, 17))
	if err := errors.Join(err, <-done); err != nil || string(got) != linesOf(b) {
		t.Errorf("%v: %d bytes of %d", err, len(got), len(linesOf(b)))
	}
}

type oneByOne struct{ io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(len(p), 13)]) }

func TestATornLastLineIsClosedOnce(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"torn":            {"{\"a\":1}\n{\"b\"", "{\"a\":1}\n{\"b\"\n"},
		"only a torn one": {"{", "{\n"},
		"whole":           {"{\"a\":1}\n", "{\"a\":1}\n"},
		"empty":           {"", ""},
		"an empty line":   {"\n", "\n"},
	} {
		for how, flags := range map[string]int{"append": os.O_WRONLY | os.O_APPEND, "append and read": os.O_RDWR | os.O_APPEND} {
			t.Run(name+"/"+how, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "log")
				if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
					t.Fatal(err)
				}
				f, err := os.OpenFile(path, flags, 0)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 { // once more is no more
					if err := sink.CloseTornLine(f, false); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := f.WriteString("{}\n"); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != c.after+"{}\n" {
					t.Errorf("%q, %v; want %q", got, err, c.after+"{}\n")
				}
			})
		}
	}
}

// TestATornLineIsClosedAlsoInAFileThatIsGone: the name on the disk does not matter, the open file does.
func TestATornLineIsClosedAlsoInAFileThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it was only looked at
	if err := errors.Join(os.Remove(path), sink.CloseTornLine(f, false)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "{\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestIntoAPipeANewlineComesFirstIfTheLastRunWasUnclean: what is torn there cannot be seen.
func TestIntoAPipeANewlineComesFirstIfTheLastRunWasUnclean(t *testing.T) {
	for unclean, want := range map[bool]string{true: "\n", false: ""} {
		r, w := pipe(t)
		must(t, sink.CloseTornLine(w, unclean), w.Close())
		if got, err := io.ReadAll(r); string(got) != want || err != nil {
			t.Errorf("unclean %t: a pipe got %q, %v", unclean, got, err)
		}
	}
	r, w := pipe(t)
	must(t, r.Close())
	if err := sink.CloseTornLine(w, true); !errors.Is(err, event.ErrClosed) || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("without a reader: %v", err)
	}
}

func TestWhatIsNeitherFileNorPipeIsLeftAlone(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(t, err)
	defer null.Close() //nolint:errcheck // nothing was written
	dir, err := os.Open(t.TempDir())
	must(t, err)
	defer dir.Close() //nolint:errcheck // it was only looked at
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	defer terminal.Close() //nolint:errcheck // nothing was written
	for _, f := range []*os.File{null, dir, terminal} {
		must(t, sink.CloseTornLine(f, true))
	}
}
