// Package sinktest is the contract that every sink keeps, as a test suite. A sink's own test makes a Fixture and calls
// Run; what is special about that sink (bytes, subjects, files) it tests itself.
package sinktest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"watcher/internal/event"
)

// A Sink is the interface that internal/watch declares, where its comments are the contract.
type Sink interface {
	Recover(ctx context.Context) (event.State, error)
	Commit(ctx context.Context, b event.Batch) error
}

// A Fixture is a sink that holds nothing yet, and the medium behind it: a file, a pipe, a server.
type Fixture struct {
	Sink Sink
	// Stored returns what a consumer of the medium has got: the events' canonical lines, in order, without newlines.
	// What is no whole line is returned as it is.
	Stored func() []string
	// Fail makes the next transfers to the medium fail, one for each share, with an error that may pass. The medium
	// keeps about that share of what it is sent: 0 is nothing, 1 is all of it, with the acknowledgement alone lost.
	Fail func(shares ...float64)
	// Close makes the medium go away for good.
	Close func()
	// Stall makes the medium take nothing from now on without an error. reached is closed when a transfer waits for it;
	// release lets that go on; it may be called twice.
	Stall func() (reached <-chan struct{}, release func())
	// Settle waits until all that was committed would survive a kill, and Reopen kills the sink and opens it again, on
	// the same medium. nil: nothing outlives this sink.
	Settle func()
	Reopen func() Sink
}

// Run tests the sinks that open makes, each test with one of its own.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, Fixture)
	}{
		{"EventsComeOutWholeInOrderEachOnce", eventsComeOut},
		{"RecoverReturnsWhatWasCommitted", recoverReturns},
		{"ABatchWithoutEventsMovesThePosition", emptyBatch},
		{"AClosedSinkStaysClosed", closedStaysClosed},
		{"TheContextsEndInterruptsCommit", contextInterrupts},
		{"AnInterruptedSinkIsNotGarbled", interruptedIsNotGarbled},
		{"AKillLosesNothingAndTheLedgerIsThatOfThePosition", killed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	for _, f := range []struct {
		name   string
		shares []float64
	}{
		{"KeptNothing", []float64{0}},
		{"KeptAPart", []float64{0.4}},
		{"KeptNearlyAll", []float64{0.999}},
		{"KeptEverything", []float64{1}},
		{"AndRecoverFailsToo", []float64{0.3, 0, 0.5, 1}},
		{"AndTheRestFailsToo", []float64{0, 0, 0.2, 0.9}},
	} {
		t.Run("AFailedCommitLosesAndRepeatsNothing/"+f.name, func(t *testing.T) { failedCommit(t, open(t), f.shares) })
	}
}

func eventsComeOut(t *testing.T, f Fixture) {
	w := newLog()
	for range 5 {
		w.deliver(t, f, w.batch(20))
	}
	w.checkStored(t, f)
}

func recoverReturns(t *testing.T, f Fixture) {
	w := newLog()
	w.checkHeld(t, w.recover(t, f))
	for range 3 {
		w.deliver(t, f, w.batch(7))
		held := w.recover(t, f)
		w.checkHeld(t, held)
		clear(held) // it is the caller's
		w.checkHeld(t, w.recover(t, f))
	}
	w.checkStored(t, f)
}

func emptyBatch(t *testing.T, f Fixture) {
	w := newLog()
	w.deliver(t, f, w.batch(3))
	for range 2 {
		w.deliver(t, f, []item{w.move()})
		w.checkHeld(t, w.recover(t, f))
	}
	w.deliver(t, f, nil)
	w.checkHeld(t, w.recover(t, f))
	w.checkStored(t, f)
	w.deliver(t, f, append(w.batch(3), w.move()))
	w.checkHeld(t, w.recover(t, f))
	w.checkStored(t, f)
}

// failedCommit fails a Commit between two that succeed.
func failedCommit(t *testing.T, f Fixture, shares []float64) {
	w := newLog()
	w.deliver(t, f, w.batch(8))
	f.Fail(shares...)
	batch := append(w.batch(30), w.move())
	if err := f.Sink.Commit(t.Context(), batchOf(batch)); err == nil {
		t.Fatal("a commit of which the medium took no notice passed")
	} else if errors.Is(err, event.ErrClosed) {
		t.Fatalf("an error that may pass closes the sink: %v", err)
	}
	w.deliverRest(t, f, batch, len(shares))
	w.checkHeld(t, w.recover(t, f))
	w.checkStored(t, f)
	w.deliver(t, f, w.batch(8))
	w.checkHeld(t, w.recover(t, f))
	w.checkStored(t, f)
}

func closedStaysClosed(t *testing.T, f Fixture) {
	w := newLog()
	w.deliver(t, f, w.batch(3))
	f.Close()
	stored := f.Stored()
	for range 3 {
		if err := f.Sink.Commit(t.Context(), batchOf(w.batch(3))); !errors.Is(err, event.ErrClosed) {
			t.Errorf("commit to a closed medium: %v, want one that wraps %q", err, event.ErrClosed)
		}
	}
	if got := f.Stored(); !slices.Equal(got, stored) {
		t.Errorf("a closed medium went from %d lines to %d", len(stored), len(got))
	}
}

func contextInterrupts(t *testing.T, f Fixture) {
	w := newLog()
	w.deliver(t, f, w.batch(3))
	reached, release := f.Stall()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	batch := batchOf(w.batch(3))
	go func() { done <- f.Sink.Commit(ctx, batch) }()
	select {
	case <-reached:
	case err := <-done:
		t.Fatalf("commit to a medium that takes nothing: %v", err)
	}
	cancel()
	if err := soon(t, done); err == nil {
		t.Error("a commit that was interrupted says that it is done")
	}
}

// soon is the error of a Commit whose context has ended.
func soon(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("the context has ended and Commit goes on waiting")
		return nil
	}
}

// interruptedIsNotGarbled holds a sink to its word: either it goes on after an interruption, and then as after any other
// error, or it has said that it is closed, and then it takes nothing more.
func interruptedIsNotGarbled(t *testing.T, f Fixture) {
	w := newLog()
	w.deliver(t, f, w.batch(3))
	reached, release := f.Stall()
	ctx, cancel := context.WithCancel(t.Context())
	first := w.batch(3)
	done := make(chan error, 1)
	go func() { done <- f.Sink.Commit(ctx, batchOf(first)) }()
	defer release()
	<-reached
	cancel()
	err := soon(t, done)
	if !errors.Is(err, event.ErrClosed) {
		release()
		w.deliverRest(t, f, first, 1)
		w.deliver(t, f, w.batch(3))
		w.checkStored(t, f)
		return
	}
	again, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // a sink that tries all the same waits here
	defer cancel()
	go func() { done <- f.Sink.Commit(again, batchOf(w.batch(3))) }()
	if err := soon(t, done); !errors.Is(err, event.ErrClosed) || again.Err() != nil {
		t.Errorf("commit to a sink that has said it is closed: %v; it must refuse at once (it tried: %t)", err, again.Err() != nil)
	}
}
