package watch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// An input reads JSON or protobuf piece by piece from a stream; no more than one piece, and what came with it, is in memory.
type input struct {
	from io.Reader
	buf  []byte // what was read
	at   int    // where in buf what is not taken begins
}

// newInput begins with room for so many objects of 4 KB, at most 64 KB.
func newInput(from io.Reader, objects int64) *input {
	return &input{from: from, buf: make([]byte, 0, min(objects*4<<10, 64<<10))}
}

// take returns the piece that parse finds at the beginning of what is there, and goes past it. It calls parse again, with
// more, as long as that says errIncomplete. The piece is valid until the next call.
func (in *input) take(parse func(b []byte) (end int, err error)) ([]byte, error) {
	for {
		b := in.buf[in.at:]
		end, err := parse(b)
		switch {
		case err == nil:
			in.at += end
			return b[:end], nil
		case !errors.Is(err, errIncomplete):
			return nil, err
		}
		if err := in.more(); err != nil {
			return nil, err
		}
	}
}

// more reads, behind what is not taken, at least half as much again: so what arrives in many packets is parsed a few times,
// not once for each.
func (in *input) more() error {
	in.buf = in.buf[:copy(in.buf, in.buf[in.at:])]
	in.at = 0
	have := len(in.buf)
	if have > maxFrame {
		return fmt.Errorf("an object of more than %d bytes", maxFrame)
	}
	least := max(have/2, 1)
	in.buf = slices.Grow(in.buf, least)
	n, err := io.ReadAtLeast(in.from, in.buf[have:cap(in.buf)], least)
	in.buf = in.buf[:have+n]
	if n > 0 {
		return nil // what is wrong is said again by the next read
	}
	return unexpectedEOF(err)
}

// begins reports whether the input begins with head, and goes past it if so.
func (in *input) begins(head string) (yes bool, err error) {
	_, err = in.take(func(b []byte) (int, error) {
		switch {
		case bytes.HasPrefix(b, []byte(head)):
			yes = true
			return len(head), nil
		case bytes.HasPrefix([]byte(head), b):
			return 0, errIncomplete
		}
		return 0, nil
	})
	return yes, err
}

// open goes past the brace or bracket that an object or array begins with.
func (in *input) open(brace byte) error {
	_, err := in.take(func(b []byte) (int, error) {
		i := skipSpace(b, 0)
		switch {
		case i == len(b):
			return i, errIncomplete
		case b[i] != brace:
			return i, &syntaxError{i, fmt.Sprintf("want %q", brace)}
		}
		return i + 1, nil
	})
	return err
}

// member goes to the value of an object's next member. A nil name says that the object ended.
func (in *input) member(first bool) (name []byte, err error) {
	_, err = in.take(func(b []byte) (value int, err error) {
		name, _, value, err = nextMember(b, 0, first)
		return value, err
	})
	return name, err
}

// element goes to an array's next element, and says whether there is one.
func (in *input) element(first bool) (more bool, err error) {
	_, err = in.take(func(b []byte) (at int, err error) {
		at, more, err = next(b, 0, ']', first)
		return at, err
	})
	return more, err
}

// value takes the value that begins here.
func (in *input) value() ([]byte, error) {
	return in.take(func(b []byte) (int, error) {
		end, err := skipValue(b, 0, 1)
		if err == nil && end == len(b) && isDigit(b[end-1]) {
			return end, errIncomplete // more digits may follow
		}
		return end, err
	})
}

// unexpectedEOF makes the end of the input in the middle of a value an error of its own.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
