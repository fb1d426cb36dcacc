package watch

import (
	"errors"
	"fmt"
	"io"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// What is in here reads a LIST of metadata in protobuf, as far as a repair needs it: of each object who it is, its version
// and its attribution. See docs/adr/0013-lists-in-protobuf.md. The numbers of fields are those of generated.proto in
// k8s.io/apimachinery/pkg, runtime and apis/meta/v1.

// protobufMagic is what the API server's protobuf begins with; a message runtime.Unknown follows.
const protobufMagic = "k8s\x00"

// errMalformed says that this cannot be read, however often it is asked for.
var errMalformed = errors.New("no list in Kubernetes' protobuf")

// message reads a runtime.Unknown as far as its raw field, which is the list.
func (p *page) message() error {
	for {
		num, size, _, err := p.field()
		switch {
		case err != nil:
			return err
		case num == 2:
			return p.listMessage(size)
		}
		if _, err := p.bytes(size); err != nil {
			return err
		}
	}
}

// listMessage reads a PartialObjectMetadataList of that size.
func (p *page) listMessage(size uint64) error {
	for size > 0 && !p.stopped {
		num, n, head, err := p.field()
		if err != nil {
			return err
		}
		if n > size || head > size-n {
			return fmt.Errorf("%w: a field is longer than the list that it is in", errMalformed)
		}
		size -= head + n
		value, err := p.bytes(n)
		if err != nil {
			return err
		}
		switch num {
		case 1:
			if err := p.meta.Unmarshal(value); err != nil {
				return fmt.Errorf("%w: %w", errMalformed, err)
			}
			err = p.versioned()
		case 2:
			p.scanned = object{}
			if err = p.scanned.unmarshal(value); err == nil {
				err = p.item(value)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// field takes the head of the next field: its number and the size of its value. One without a size is taken whole, and its
// number is 0.
func (in *input) field() (num protowire.Number, size, head uint64, err error) {
	raw, err := in.take(func(b []byte) (int, error) {
		var typ protowire.Type
		var n, m int
		if num, typ, n = protowire.ConsumeTag(b); n < 0 {
			return 0, unfinished(n)
		}
		if typ == protowire.BytesType {
			size, m = protowire.ConsumeVarint(b[n:])
		} else {
			m = protowire.ConsumeFieldValue(num, typ, b[n:])
			num, size = 0, 0
		}
		if m < 0 {
			return 0, unfinished(m)
		}
		return n + m, nil
	})
	return num, size, uint64(len(raw)), err
}

// bytes takes the next n bytes.
func (in *input) bytes(n uint64) ([]byte, error) {
	return in.take(func(b []byte) (int, error) {
		if uint64(len(b)) < n {
			return 0, errIncomplete
		}
		return int(n), nil
	})
}

// unmarshal fills o from a PartialObjectMetadata.
func (o *object) unmarshal(b []byte) error {
	return eachField(b, func(num protowire.Number, value []byte, _ uint64) error {
		if num == 1 {
			return o.metadata.unmarshal(value)
		}
		return nil
	})
}

func (m *metadata) unmarshal(b []byte) error {
	return eachField(b, func(num protowire.Number, value []byte, _ uint64) error {
		switch num {
		case 1:
			m.name = inUTF8(value)
		case 3:
			m.namespace = inUTF8(value)
		case 5:
			m.uid = inUTF8(value)
		case 6:
			m.resourceVersion = inUTF8(value)
		case 17:
			var e managedEntry
			if err := e.unmarshal(value); err != nil {
				return err
			}
			m.newest.take(&e)
		}
		return nil
	})
}

// unmarshal fills e but for the time in words.
func (e *managedEntry) unmarshal(b []byte) error {
	return eachField(b, func(num protowire.Number, value []byte, _ uint64) error {
		switch num {
		case 1:
			e.manager = inUTF8(value)
		case 2:
			e.operation = inUTF8(value)
		case 4:
			return eachField(value, func(num protowire.Number, _ []byte, n uint64) error {
				if num == 1 && n <= math.MaxUint32 {
					e.second = int64(n)
				}
				return nil
			})
		case 8:
			e.subresource = inUTF8(value)
		}
		return nil
	})
}

// inUTF8 is a string as JSON has it, where U+FFFD stands for each byte that is no UTF-8: an attribution that differs would pass
// for another history.
func inUTF8(s []byte) []byte {
	if utf8.Valid(s) {
		return s
	}
	return []byte(string([]rune(string(s))))
}

// eachField calls f with the fields of a message: the value of one with a size, and the number that another one is.
func eachField(b []byte, f func(num protowire.Number, value []byte, n uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed(n)
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return malformed(n)
		}
		if err := f(num, value, number); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// malformed is what protowire means by a negative number of bytes.
func malformed(n int) error { return fmt.Errorf("%w: %w", errMalformed, protowire.ParseError(n)) }

// unfinished is malformed where more may come.
func unfinished(n int) error {
	if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		return errIncomplete
	}
	return malformed(n)
}
