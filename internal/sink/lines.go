// Package sink holds the durable ends of watcher's log. It knows events and nothing of Kubernetes.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
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

// Lines writes events to a file, a pipe or a terminal. It remembers what it wrote for as long as the process lives.
type Lines struct {
	dst    io.Writer
	atOnce func(p []byte) (int, error)
	format Format
	buf    []byte // the batch under way, formatted
	rest   []byte // what of buf is not written yet
	next   event.State
	state  event.State
	closed error // once it is set nothing is taken any more: an abandoned write may still be reading buf
}

// NewLines returns a sink that writes to dst. A Write that fails with EPIPE closes it; after any other failure it goes
// on at the very byte.
func NewLines(dst io.Writer, format Format) *Lines {
	return &Lines{dst: dst, atOnce: atOnce(dst), format: format, state: event.State{}}
}

// Recover writes what a failed Commit left behind, so that no line stays torn, and returns the positions that led to.
func (l *Lines) Recover(ctx context.Context) (event.State, error) {
	if err := l.flush(ctx); err != nil {
		return nil, err
	}
	return maps.Clone(l.state), nil
}

// Commit writes the events with one call of Write.
func (l *Lines) Commit(ctx context.Context, b event.Batch) error {
	if l.closed != nil {
		return l.closed
	}
	l.buf = l.buf[:0]
	for _, ev := range b.Events {
		l.buf = l.format(l.buf, ev)
	}
	l.rest, l.next = l.buf, b.State
	return l.flush(ctx)
}

// flush writes the rest. A crash in it leaves a torn last line, which the next start closes.
func (l *Lines) flush(ctx context.Context) error {
	if l.closed != nil {
		return l.closed
	}
	if len(l.rest) > 0 {
		n, err := l.write(ctx, l.rest)
		l.rest = l.rest[n:]
		if errors.Is(err, syscall.EPIPE) {
			err = fmt.Errorf("%w: %w", event.ErrClosed, err)
		}
		if errors.Is(err, event.ErrClosed) {
			l.closed = err
		}
		if err != nil {
			return err
		}
	}
	maps.Copy(l.state, l.next)
	l.next = nil
	return nil
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
// without a newline: it stays one bad line, and does not spoil the next. Anything but such a file is left alone.
func CloseTornLine(f *os.File) error {
	size, err := appendsAt(f)
	if err != nil {
		return fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	if size == 0 || lastByte(f, size) == '\n' {
		return nil
	}
	if _, err := f.WriteString("\n"); err != nil {
		return fmt.Errorf("close the torn last line of %s: %w", f.Name(), err)
	}
	return nil
}

// appendsAt is the size of the regular file that f appends to; 0 if it is none.
func appendsAt(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, err
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
