// Package sink holds the durable ends of watcher's log. It knows events and nothing of Kubernetes.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"watcher/internal/event"
)

// A Format appends an event to dst as one or more whole lines, or as nothing.
type Format func(dst []byte, ev *event.Event) []byte

// JSON formats events as CloudEvents, one a line. Above limit bytes (0: none) an event is written without its object.
func JSON(limit int) Format {
	return func(dst []byte, ev *event.Event) []byte { return append(ev.AppendLine(dst, limit), '\n') }
}

// Lines writes events to a file, a pipe or a terminal. With a state directory it goes on there where the last run was;
// without, it remembers what it wrote for as long as the process lives.
type Lines struct {
	dst     io.Writer
	atOnce  func(p []byte) (int, error)
	format  Format
	buf     []byte       // the batch under way, formatted
	rest    []byte       // what of buf is not written yet
	torn    *event.Batch // what rest is of, after a Commit that failed: a copy
	written int64        // bytes of all batches
	cluster string
	held    map[string]event.Checkpoint
	durable *durable // nil: no state directory
	closed  error    // once it is set nothing is taken any more: an abandoned write may still be reading buf
}

// NewLines returns a sink that writes to dst and keeps its positions in state, which Close closes; nil is in memory
// only. A Write that fails with EPIPE closes it; after any other failure it goes on at the very byte.
func NewLines(dst io.Writer, format Format, state *StateDir) *Lines {
	l := &Lines{dst: dst, atOnce: atOnce(dst), format: format, held: map[string]event.Checkpoint{}}
	if state != nil {
		l.cluster, l.held = state.about.Cluster, state.streams
		l.durable = newDurable(state, newMedium(dst))
	}
	return l
}

// Recover writes what a failed Commit left behind, so that no line stays torn, and returns the positions that led to:
// what is written as far as this process knows, at first what was saved.
func (l *Lines) Recover(ctx context.Context) (event.State, error) {
	if err := l.flush(ctx); err != nil {
		return event.State{}, err
	}
	if l.torn != nil {
		l.wrote(*l.torn)
		l.torn = nil
	}
	if err := l.trouble(); err != nil {
		return event.State{}, err
	}
	state := event.State{ClusterUID: l.cluster, Streams: maps.Clone(l.held)}
	if l.durable != nil {
		state.Ledger = l.durable.state.Ledger
	}
	return state, nil
}

// Commit writes the events with one call of Write. An error may also be that of an earlier batch, which is written but
// cannot be saved; then nothing of this one is written.
func (l *Lines) Commit(ctx context.Context, b event.Batch) error {
	if err := l.ready(); err != nil {
		return err
	}
	l.buf = l.buf[:0]
	for _, ev := range b.Events {
		if !ev.Filtered {
			l.buf = l.format(l.buf, ev)
		}
	}
	l.rest = l.buf
	if err := l.flush(ctx); err != nil {
		l.torn = keep(b)
		return err
	}
	l.wrote(b)
	return nil
}

// Close waits until what was written is acknowledged, and saves that. Without a state directory what is written is all
// there is.
func (l *Lines) Close(ctx context.Context) error {
	if l.durable == nil {
		return l.closed
	}
	return l.durable.close(ctx, l.closed, len(l.rest) > 0)
}

// ready returns why nothing can be written now.
func (l *Lines) ready() error {
	if l.durable != nil && l.closed == nil {
		if err := l.durable.begin(); err != nil {
			return err
		}
	}
	return l.trouble()
}

// trouble returns what is wrong with what was written.
func (l *Lines) trouble() error {
	if l.closed != nil || l.durable == nil {
		return l.closed
	}
	err := l.durable.err()
	if errors.Is(err, event.ErrClosed) {
		l.closed = err
	}
	return err
}

// wrote takes note of a batch that is written.
func (l *Lines) wrote(b event.Batch) {
	maps.Copy(l.held, b.Streams)
	if b.ClusterUID != "" {
		l.cluster = b.ClusterUID
	}
	if l.durable != nil {
		l.durable.add(b, l.written)
	}
}

// keep copies what has to be remembered of a batch until the rest of it is written.
func keep(b event.Batch) *event.Batch {
	b.Streams, b.Events = maps.Clone(b.Streams), slices.Clone(b.Events)
	for i, ev := range b.Events {
		c := *ev
		c.Object.Body = nil
		b.Events[i] = &c
	}
	return &b
}

// flush writes the rest. A crash in it leaves a torn last line, which the next start closes.
func (l *Lines) flush(ctx context.Context) error {
	if l.closed != nil || len(l.rest) == 0 {
		return l.closed
	}
	n, err := l.write(ctx, l.rest)
	l.rest, l.written = l.rest[n:], l.written+int64(n)
	if err = closing(err); errors.Is(err, event.ErrClosed) {
		l.closed = err
	}
	return err
}

// closing says of an EPIPE that it is for good.
func closing(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return fmt.Errorf("%w: %w", event.ErrClosed, err)
	}
	return err
}

// write writes p, unless ctx ends first: a reader that has stopped reading may block a pipe for ever. Then the write is
// abandoned, and with it the sink.
func (l *Lines) write(ctx context.Context, p []byte) (int, error) {
	n, err := l.atOnce(p)
	if n == len(p) || err != nil {
		return n, err
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		more, err := l.dst.Write(p[n:])
		done <- result{n + more, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: the reader takes nothing", event.ErrClosed)
	}
}

// CloseTornLine ends the last line of a regular file that f appends to, if a kill in the middle of a write left it
// without a newline: it stays one bad line, and does not spoil the next. What went into a pipe cannot be looked at; there
// a newline is written if the last run was unclean. Anything else is left alone.
func CloseTornLine(f *os.File, unclean bool) error {
	torn, err := endsTorn(f, unclean)
	if err != nil {
		return fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	if !torn {
		return nil
	}
	if _, err := f.WriteString("\n"); err != nil {
		return fmt.Errorf("close the torn last line of %s: %w", f.Name(), closing(err))
	}
	return nil
}

func endsTorn(f *os.File, unclean bool) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.Mode()&os.ModeNamedPipe != 0 {
		return unclean, nil
	}
	size, err := appendsAt(f, info)
	return size > 0 && lastByte(f, size) != '\n', err
}

// appendsAt is the size of the regular file that f appends to; 0 if it is none.
func appendsAt(f *os.File, info os.FileInfo) (int64, error) {
	if !info.Mode().IsRegular() {
		return 0, nil
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_APPEND != 0 {
		return info.Size(), err
	}
	if at, err := f.Seek(0, io.SeekCurrent); err != nil || at != info.Size() {
		return 0, err
	}
	return info.Size(), nil
}

// lastByte reads the last byte of a file that is mostly open for writing only. 0 if it cannot be read: then one newline
// too many is better than an event on the end of a torn line.
func lastByte(f *os.File, size int64) byte {
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return 0
	}
	defer r.Close() //nolint:errcheck // it was only read
	last := []byte{0}
	if _, err := r.ReadAt(last, size-1); err != nil {
		return 0
	}
	return last[0]
}
