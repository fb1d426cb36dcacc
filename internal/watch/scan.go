package watch

import (
	"bytes"
	"errors"
	"fmt"

	"watcher/internal/event"
)

// An object is what one scan finds in the JSON of a Kubernetes object. Its text is unescaped; it aliases the scanned
// bytes unless it held escapes. A field is nil or 0 if its member is absent or of another type. Keys match exactly, in
// their unescaped form. Of a key that occurs twice the last one counts, as for a map in encoding/json: metadata that
// comes again replaces all that came before. But every occurrence of what is to be left out is known, and the hashes of
// spec and metadata know every occurrence of a member.
type object struct {
	kind, apiVersion []byte
	metadata
	hashes event.Hashes // none is 0

	managedFields spans // the member metadata.managedFields
	lastApplied   spans // the annotation that holds the object as kubectl apply last sent it, secrets included
}

// errIncomplete says that the input ended inside a value, at a place where more bytes could complete it.
var errIncomplete = errors.New("the JSON ends inside a value")

// A syntaxError says what is wrong with the JSON and at which byte.
type syntaxError struct {
	offset  int
	problem string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("byte %d of the JSON: %s", e.offset, e.problem)
}

// A trailingError says that a valid value ended at the byte end and that more than white space follows it. What the scan
// found in the value counts; after any other error nothing does.
type trailingError struct{ end int }

func (e *trailingError) Error() string {
	return fmt.Sprintf("the JSON value ends at byte %d, but more follows", e.end)
}

// scan validates all of b, one JSON object (RFC 8259, valid UTF-8) with nothing but white space around it, and fills o.
// Unpaired surrogate escapes such as \ud800 may pass: the grammar has them, encoding/json and jq read them, and what
// the API server serves must not stop a stream. The error is errIncomplete, a *trailingError or a *syntaxError.
func (o *object) scan(b []byte) error {
	end, err := o.read(b)
	if err != nil {
		return err
	}
	return onlySpace(b, end)
}

// scanFrame is scan for a watch frame, {"type":"ADDED","object":{…}}. It validates the whole line and fills o from the
// frame's object, whose place in the line it returns. Spans in o count from the object's start.
func (o *object) scanFrame(line []byte) (typ []byte, obj span, err error) {
	typ, start := frameHead(line)
	if start == 0 {
		return o.scanAnyFrame(line)
	}
	n, err := o.read(line[start:])
	if err != nil {
		return nil, span{}, shift(err, start)
	}
	end := start + n
	if end == len(line) || line[end] != '}' {
		return o.scanAnyFrame(line)
	}
	return typ, span{start, end}, onlySpace(line, end+1)
}

// frameHead finds the type, and where the object begins, in the very bytes that the API server writes. Else start is 0.
func frameHead(line []byte) (typ []byte, start int) {
	const head, middle = `{"type":"`, `","object":{`
	if !bytes.HasPrefix(line, []byte(head)) {
		return nil, 0
	}
	i := len(head)
	for i < len(line) && line[i]-'A' < 26 {
		i++
	}
	if !bytes.HasPrefix(line[i:], []byte(middle)) {
		return nil, 0
	}
	return line[len(head):i], i + len(middle) - 1
}

// scanAnyFrame is scanFrame for whatever else is a frame in JSON: other white space, order, members and escapes.
func (o *object) scanAnyFrame(line []byte) (typ []byte, obj span, err error) {
	i, err := openObject(line)
	if err != nil {
		return nil, span{}, err
	}
	for first := true; ; first = false {
		name, _, at, err := nextMember(line, i, first)
		if err != nil {
			return nil, span{}, err
		}
		if i = at; name == nil {
			break
		}
		if i, err = skipValue(line, at, 0); err != nil {
			return nil, span{}, err
		}
		switch string(name) {
		case "type":
			typ = text(line[at:i])
		case "object":
			obj = span{at, i}
		}
	}
	if typ == nil || obj.end == 0 {
		return nil, span{}, &syntaxError{i, "a watch frame needs a type and an object"}
	}
	if _, err := o.read(line[obj.start:obj.end]); err != nil {
		return nil, span{}, shift(err, obj.start)
	}
	return typ, obj, onlySpace(line, i)
}

// shift makes the offset in err count from n bytes before.
func shift(err error, n int) error {
	if e, ok := errors.AsType[*syntaxError](err); ok {
		return &syntaxError{e.offset + n, e.problem}
	}
	return err
}
