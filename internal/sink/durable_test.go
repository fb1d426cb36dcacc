package sink_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"watcher/internal/event"
	"watcher/internal/sink"
)

// savedSeq is the seq up to which a stream is saved.
func savedSeq(t *testing.T, l *sink.Lines) uint64 {
	t.Helper()
	streams, _ := l.Saved(t)
	return streams[stream.Key()].Seq
}

func transaction(t *testing.T, l *sink.Lines) int {
	t.Helper()
	_, n := l.Saved(t)
	return n
}

func commit(t *testing.T, l *sink.Lines, b event.Batch) {
	t.Helper()
	if err := l.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestAQuietMomentLeavesNothingUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := reopen(t, &medium{}, t.TempDir())
		for seq := uint64(1); seq < 4; seq++ {
			commit(t, l, batch(seq, 1))
			if got := savedSeq(t, l); got >= seq {
				t.Errorf("%d is saved at once", got)
			}
			time.Sleep(1001 * time.Millisecond)
			if got := savedSeq(t, l); got != seq {
				t.Errorf("a second after %d %d is saved", seq, got)
			}
			time.Sleep(time.Duration(seq) * time.Minute)
		}
		n := transaction(t, l)
		time.Sleep(time.Hour)
		if got := transaction(t, l); got != n {
			t.Errorf("%d transactions about nothing", got-n)
		}
		must(t, l.Close(t.Context()))
	})
}

func TestThereIsOneTransactionASecondHoweverManyBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := reopen(t, &medium{}, t.TempDir())
		commit(t, l, batch(1, 1))
		from := transaction(t, l)
		for seq := uint64(2); seq <= 5000; seq++ {
			commit(t, l, batch(seq, 1))
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := transaction(t, l) - from; n < 9 || n > 11 {
			t.Errorf("%d transactions in 11 seconds", n)
		}
		if got := savedSeq(t, l); got != 5000 {
			t.Errorf("%d is saved", got)
		}
		must(t, l.Close(t.Context()))
	})
}

// onFile returns a sink on a regular file.
func onFile(t *testing.T, dir string) (l *sink.Lines, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() }) // it is read by its name
	return reopen(t, f, dir), path
}

// TestAFileIsDurableBeforeItsPositionIs, and Commit does not wait for either.
func TestAFileIsDurableBeforeItsPositionIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, path := onFile(t, t.TempDir())
		begun, release := make(chan struct{}, 100), make(chan struct{})
		l.SyncWith(func() error { begun <- struct{}{}; <-release; return nil })
		commit(t, l, batch(1, 1))
		<-begun
		commit(t, l, batch(2, 1)) // not covered by that sync
		time.Sleep(time.Hour)
		if got := savedSeq(t, l); got != 0 {
			t.Errorf("%d is saved before the file is", got)
		}
		release <- struct{}{}
		synctest.Wait()
		if got := savedSeq(t, l); got != 1 {
			t.Errorf("%d is saved; the sync began after 1 and before 2", got)
		}
		<-begun
		close(release)
		synctest.Wait()
		if got, err := os.ReadFile(path); err != nil || savedSeq(t, l) != 2 || string(got) != linesOf(batch(1, 2)) {
			t.Errorf("%d is saved, %v", savedSeq(t, l), err)
		}
		time.Sleep(time.Hour)
		if len(begun) > 0 {
			t.Error("a file is synced of which nothing is new")
		}
		must(t, l.Close(t.Context()))
	})
}

// TestAFileThatCannotBeSyncedIsNotSyncedAgain: the second time the kernel may say that all is well, and it is not.
func TestAFileThatCannotBeSyncedIsNotSyncedAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, _ := onFile(t, dir)
		commit(t, l, batch(1, 1))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		syncs := 0
		l.SyncWith(func() error { syncs++; return syscall.EIO })
		commit(t, l, batch(2, 1))
		time.Sleep(time.Minute)
		for range 2 {
			if err := l.Commit(t.Context(), batch(3, 1)); !errors.Is(err, event.ErrClosed) || !errors.Is(err, syscall.EIO) {
				t.Errorf("commit: %v", err)
			}
		}
		if _, err := l.Recover(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("recover: %v", err)
		}
		if err := l.Close(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("close: %v", err)
		}
		if syncs != 1 {
			t.Errorf("it was synced %d times", syncs)
		}
	})
	checkHeld(t, dir, 1, true)
}

// checkHeld looks at what the next run finds.
func checkHeld(t *testing.T, dir string, seq uint64, unclean bool) {
	t.Helper()
	state := openState(t, dir)
	if state.Unclean() != unclean {
		t.Errorf("unclean: %t", state.Unclean())
	}
	if got := contentsOf(t, state).streams[stream.Key()].Seq; got != seq {
		t.Errorf("the next run goes on after %d, want %d", got, seq)
	}
}

func readAll(t *testing.T, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != text {
		t.Fatalf("%v: %s", err, got)
	}
}

func TestWhatTheReaderOfAPipeHasNotTakenIsNotSaved(t *testing.T) {
	r, w := pipe(t)
	dir := t.TempDir()
	l := reopen(t, w, dir)
	for seq := uint64(1); seq <= 3; seq++ {
		commit(t, l, batch(seq, 1))
	}
	read := func(text string, want uint64) {
		t.Helper()
		readAll(t, r, text)
		if l.Settle(); savedSeq(t, l) != want {
			t.Errorf("%d is saved, want %d", savedSeq(t, l), want)
		}
	}
	read("", 0)
	first, second := linesOf(batch(1, 1)), linesOf(batch(2, 1))
	read(first[:len(first)-1], 0)
	read("\n", 1)
	read(second[:1], 1)
	read(second[1:], 2)
	must(t, l.Crash())
	readAll(t, r, linesOf(batch(3, 1))) // too late
	checkHeld(t, dir, 2, true)
}

// TestManyBatchesAreFewSteps: what waits is bounded, and the end of it is saved all the same.
func TestManyBatchesAreFewSteps(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := reopen(t, &medium{}, dir)
		filtered := batch(1, 1)
		filtered.Events[0].Filtered = true
		for range 10 {
			commit(t, l, filtered)
		}
		if got := l.Steps(); got != 1 {
			t.Errorf("%d steps of batches without bytes", got)
		}
		for seq := range uint64(10 * sink.MaxSteps) {
			commit(t, l, batch(seq, 1))
		}
		if got := l.Steps(); got != sink.MaxSteps {
			t.Errorf("%d steps", got)
		}
		must(t, l.Close(t.Context()))
	})
	checkHeld(t, dir, 10*sink.MaxSteps-1, false)
}

func TestCloseWaitsForTheReader(t *testing.T) {
	r, w := pipe(t)
	dir := t.TempDir()
	l := reopen(t, w, dir)
	commit(t, l, batch(1, 3))
	done := make(chan error, 1)
	go func() { done <- l.Close(t.Context()) }()
	text := linesOf(batch(1, 3))
	readAll(t, r, text[:len(text)-1])
	select {
	case err := <-done:
		t.Errorf("close does not wait for the last byte: %v", err)
	default:
	}
	readAll(t, r, "\n")
	must(t, <-done)
	checkHeld(t, dir, 3, false)
}

func TestCloseSaysWhatTheReaderDidNotTake(t *testing.T) {
	r, w := pipe(t)
	dir := t.TempDir()
	l := reopen(t, w, dir)
	commit(t, l, batch(1, 1))
	commit(t, l, batch(2, 1))
	readAll(t, r, linesOf(batch(1, 1)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Close(ctx) }()
	cancel()
	want := fmt.Sprintf("the reader did not take the last %d bytes", len(linesOf(batch(2, 1))))
	if err := <-done; err == nil || errors.Is(err, event.ErrClosed) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	checkHeld(t, dir, 1, true)
}

// TestAReaderThatIsGoneHasNotTakenWhatIsLeft: neither Close nor a Commit before it counts that, and neither waits.
func TestAReaderThatIsGoneHasNotTakenWhatIsLeft(t *testing.T) {
	for _, tried := range []bool{false, true} {
		r, w := pipe(t)
		dir := t.TempDir()
		l := reopen(t, w, dir)
		commit(t, l, batch(1, 1))
		commit(t, l, batch(2, 1))
		readAll(t, r, linesOf(batch(1, 1)))
		must(t, r.Close())
		if tried {
			if err := l.Commit(t.Context(), batch(3, 1)); !errors.Is(err, syscall.EPIPE) {
				t.Errorf("commit: %v", err)
			}
		}
		if err := l.Close(t.Context()); !errors.Is(err, event.ErrClosed) || !errors.Is(err, syscall.EPIPE) {
			t.Errorf("close: %v", err)
		}
		checkHeld(t, dir, 1, true)
	}
}

// TestAnAbandonedWriteIsNotSaved: its reader takes a part, then nothing, and the context ends.
func TestAnAbandonedWriteIsNotSaved(t *testing.T) {
	r, w := pipe(t)
	dir := t.TempDir()
	l := reopen(t, w, dir)
	commit(t, l, batch(1, 1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Commit(ctx, batch(2, 10_000)) }()
	readAll(t, r, linesOf(batch(1, 3)))
	cancel()
	if err := <-done; !errors.Is(err, event.ErrClosed) {
		t.Errorf("commit: %v", err)
	}
	if err := l.Close(t.Context()); !errors.Is(err, event.ErrClosed) {
		t.Errorf("close: %v", err)
	}
	if got := contentsOf(t, openState(t, dir)).streams[stream.Key()].Seq; got > 1 {
		t.Errorf("%d is saved", got)
	}
}

// TestATornLineIsNoCleanEnd: a Commit failed in the middle of a line, and nobody finished it.
func TestATornLineIsNoCleanEnd(t *testing.T) {
	dir := t.TempDir()
	m := &medium{}
	l := reopen(t, m, dir)
	commit(t, l, batch(1, 1))
	m.failAt(10)
	if err := l.Commit(t.Context(), batch(2, 1)); !errors.Is(err, errMedium) {
		t.Fatal(err)
	}
	must(t, l.Close(t.Context()))
	checkHeld(t, dir, 1, true)
}

func TestARunIsCleanOnlyIfItWasClosedAfterItsLastEvent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	state := openState(t, dir)
	if state.Unclean() {
		t.Error("there was no run")
	}
	must(t, state.Close())
	l := reopen(t, &medium{}, dir)
	commit(t, l, batch(1, 1))
	must(t, l.Crash()) // before anything is saved
	checkHeld(t, dir, 0, true)
	must(t, reopen(t, &medium{}, dir).Crash()) // before anything is written
	checkHeld(t, dir, 0, true)
	l = reopen(t, &medium{}, dir)
	commit(t, l, batch(1, 1))
	must(t, l.Close(t.Context()))
	checkHeld(t, dir, 1, false)
	must(t, reopen(t, &medium{}, dir).Crash())
	checkHeld(t, dir, 1, false)
}

// TestWhatCannotBeSavedIsSaidAndSavedLater: the disk of the state is full for a while.
func TestWhatCannotBeSavedIsSaidAndSavedLater(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &medium{}
		l := reopen(t, m, dir)
		var objects []event.Object
		for i := range 2000 {
			objects = append(objects, event.Object{Name: fmt.Sprint("object-", i), UID: "u", ResourceVersion: "1"})
		}
		commit(t, l, batch(1, 1))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		l.LimitState(1)
		big := present(stream, event.Checkpoint{Seq: 2001}, objects...)
		commit(t, l, big)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		text := m.text()
		for range 3 {
			_, recovering := l.Recover(t.Context())
			for _, err := range []error{recovering, l.Commit(t.Context(), batch(2002, 1))} {
				if err == nil || errors.Is(err, event.ErrClosed) || !strings.Contains(err.Error(), "save the position in "+dir+": ") {
					t.Errorf("%v", err)
				}
			}
			time.Sleep(time.Minute)
		}
		if m.text() != text {
			t.Error("a batch was written whose Commit says that it was not")
		}
		synctest.Wait()
		l.LimitState(0)
		time.Sleep(2 * time.Second)
		held, err := l.Recover(t.Context())
		if err != nil || held.Streams[stream.Key()].Seq != 2001 || savedSeq(t, l) != 2001 || len(ledgerOf(t, held, stream.Key())) != 2001 {
			t.Errorf("%v: %d is saved, %+v is held", err, savedSeq(t, l), held.Streams)
		}
		commit(t, l, batch(2002, 1))
		must(t, l.Close(t.Context()))
	})
	checkHeld(t, dir, 2002, false)
}

// TestASaveThatMayHaveBeenDoneIsDoneAgain: an error does not always say that nothing is on the disk.
func TestASaveThatMayHaveBeenDoneIsDoneAgain(t *testing.T) {
	dir := t.TempDir()
	l := reopen(t, &medium{}, dir)
	commit(t, l, batch(1, 1))
	l.Settle()
	l.DoubtLastSave()
	commit(t, l, batch(2, 1))
	must(t, l.Close(t.Context()))
	checkHeld(t, dir, 2, false)
}

// TestCloseSaysWhatCannotBeSaved and does not call the run clean.
func TestCloseSaysWhatCannotBeSaved(t *testing.T) {
	dir := t.TempDir()
	l := reopen(t, &medium{}, dir)
	var objects []event.Object
	for i := range 2000 {
		objects = append(objects, event.Object{Name: fmt.Sprint("object-", i)})
	}
	commit(t, l, present(stream, event.Checkpoint{Seq: 7}, objects...))
	l.LimitState(1)
	if err := l.Close(t.Context()); err == nil || !strings.Contains(err.Error(), "save the position in "+dir) {
		t.Errorf("%v", err)
	}
	checkHeld(t, dir, 0, true)
}

// TestNothingOfABatchIsKept writes over all memory that a batch was in.
func TestNothingOfABatchIsKept(t *testing.T) {
	dir := t.TempDir()
	l := reopen(t, &medium{}, dir)
	commit(t, l, present(stream, event.Checkpoint{Seq: 1}, event.Object{Name: "gone", UID: "u"}))
	l.Settle()
	var arenas [][]byte
	in := func(s string) string {
		arenas = append(arenas, []byte(s))
		return unsafe.String(unsafe.SliceData(arenas[len(arenas)-1]), len(s))
	}
	b := event.Batch{ClusterUID: "c", Streams: map[string]event.Checkpoint{stream.Key(): {Seq: 2}}, Events: []*event.Event{
		{Stream: stream, Type: event.Deleted, Object: event.Object{Name: in("gone"), UID: in("u")}},
		{Stream: stream, Type: event.Added, Object: event.Object{Namespace: in("shop"), Name: in("web"), UID: in("not-a-uuid"), ResourceVersion: in("v7")}},
	}}
	commit(t, l, b)
	for _, a := range arenas {
		clear(a)
	}
	clear(b.Streams)
	*b.Events[0], *b.Events[1] = event.Event{}, event.Event{}
	must(t, l.Close(t.Context()))
	got := contentsOf(t, openState(t, dir))
	want := map[string]event.Object{"shop/web": {Namespace: "shop", Name: "web", UID: "not-a-uuid", ResourceVersion: "v7"}}
	if got.streams[stream.Key()].Seq != 2 || !reflect.DeepEqual(got.ledgers[stream.Key()], want) {
		t.Errorf("%+v", got)
	}
}

// TestOfABatchThatFailedNothingIsKeptEither: Recover finishes it from a copy.
func TestOfABatchThatFailedNothingIsKeptEither(t *testing.T) {
	dir := t.TempDir()
	m := &medium{}
	l := reopen(t, m, dir)
	b := batch(1, 2)
	text := linesOf(b)
	m.failAt(10)
	if err := l.Commit(t.Context(), b); !errors.Is(err, errMedium) {
		t.Fatal(err)
	}
	for _, ev := range b.Events {
		clear(ev.Object.Body)
		*ev = event.Event{}
	}
	clear(b.Events)
	clear(b.Streams)
	held, err := l.Recover(t.Context())
	if err != nil || m.text() != text || held.Streams[stream.Key()].Seq != 2 {
		t.Errorf("%v: %+v\n%s", err, held, m.text())
	}
	must(t, l.Close(t.Context()))
	if got := contentsOf(t, openState(t, dir)); len(got.ledgers[stream.Key()]) != 1 || got.streams[stream.Key()].Seq != 2 {
		t.Errorf("%+v", got)
	}
}

func TestAFilteredEventIsInTheLedgerAndNotInTheOutput(t *testing.T) {
	dir := t.TempDir()
	m := &medium{}
	l := reopen(t, m, dir)
	b := batch(1, 2)
	b.Events[1].Filtered, b.Events[1].Object.ResourceVersion = true, "2"
	commit(t, l, b)
	must(t, l.Close(t.Context()))
	if got := contentsOf(t, openState(t, dir)); m.text() != linesOf(batch(1, 1)) || got.ledgers[stream.Key()]["x"].ResourceVersion != "2" {
		t.Errorf("%+v\n%s", got, m.text())
	}
}

func TestATextIsAsDurableAsJSON(t *testing.T) {
	dir := t.TempDir()
	m := &medium{}
	l := sink.NewLines(m, (&sink.Text{Zone: time.UTC, Width: func() int { return 0 }}).Append, openState(t, dir))
	commit(t, l, batch(1, 2))
	must(t, l.Close(t.Context()))
	if len(m.lines()) != 2 {
		t.Error(m.text())
	}
	checkHeld(t, dir, 2, false)
}
