package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may nest. encoding/json has the same limit.
const maxDepth = 10_000

// An object is what one scan finds in the JSON of a Kubernetes object. Its text is unescaped; it aliases the scanned
// bytes unless it held escapes. A field is nil or 0 if its member is absent or of another type. Keys match exactly, in
// their unescaped form. Of a key that occurs twice the last one counts, as for a map in encoding/json: metadata that
// comes again replaces all that came before. But every occurrence of what is to be left out is known.
type object struct {
	kind, apiVersion []byte
	metadata

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
		key, at, err := nextMember(line, i, first)
		if err != nil {
			return nil, span{}, err
		}
		if i = at; key.end == 0 {
			break
		}
		if i, err = skipValue(line, at, 0); err != nil {
			return nil, span{}, err
		}
		switch string(unescaped(line[key.start:key.end])) {
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

// From here on it is RFC 8259. Each function begins at b[i] and returns where what it read ends. Only skipValue recurses,
// once in 64 levels, and only errors allocate.

// openObject goes past the opening brace of the object that b begins with.
func openObject(b []byte) (int, error) {
	i := skipSpace(b, 0)
	if i == len(b) {
		return i, errIncomplete
	}
	if b[i] != '{' {
		return i, &syntaxError{i, "want an object"}
	}
	return i + 1, nil
}

// nextMember goes from an object's opening brace, or else from the end of a member's value, to the next member's value.
// A zero key says that the object ended.
func nextMember(b []byte, i int, first bool) (key span, value int, err error) {
	if i = skipSpace(b, i); i == len(b) {
		return span{}, i, errIncomplete
	}
	if b[i] == '}' {
		return span{}, i + 1, nil
	}
	if !first {
		if b[i] != ',' {
			return span{}, i, &syntaxError{i, "want a comma or the end of the object"}
		}
		if i = skipSpace(b, i+1); i == len(b) {
			return span{}, i, errIncomplete
		}
	}
	end, value, err := skipKey(b, i)
	return span{i + 1, end}, value, err
}

// skipKey reads a key and its colon. It returns where the key ends, and where its value begins.
func skipKey(b []byte, i int) (end, value int, err error) {
	if b[i] != '"' {
		return i, i, &syntaxError{i, "want a key"}
	}
	if i, err = skipString(b, i+1); err != nil {
		return i, i, err
	}
	end = i - 1
	if i+1 < len(b) && b[i] == ':' && b[i+1] > ' ' {
		return end, i + 1, nil // as always but in pretty printed JSON; saves 7 % of the whole scan
	}
	if i = skipSpace(b, i); i == len(b) {
		return end, i, errIncomplete
	}
	if b[i] != ':' {
		return end, i, &syntaxError{i, "want a colon"}
	}
	if i = skipSpace(b, i+1); i == len(b) {
		return end, i, errIncomplete
	}
	return end, i, nil
}

// skipValue reads the value at b[i], which lies inside depth arrays and objects.
func skipValue(b []byte, i, depth int) (int, error) {
	var (
		open    int    // how many arrays and objects are open in here
		objects uint64 // a bit for each, the lowest for the innermost: is it an object?
		err     error
	)
	for {
		more := false // does another value follow at once?
		switch c := b[i]; {
		case c == '"':
			i, err = skipString(b, i+1)
		case c != '{' && c != '[':
			i, err = skipScalar(b, i)
		case depth+open == maxDepth:
			return i, &syntaxError{i, "nested too deep"}
		case i+1 < len(b) && b[i+1] == c+2: // '}' or ']': most of managedFields is {}
			i += 2
		case open == 64:
			i, err = skipValue(b, i, depth+open)
		default:
			open++
			objects = objects<<1 | uint64(c>>5&1) // '{' and '}' are '[' and ']' with this bit set
			if i = skipSpace(b, i+1); i == len(b) {
				return i, errIncomplete
			}
			more = b[i] != c+2
		}
		if err != nil {
			return i, err
		}
		for !more {
			if open == 0 {
				return i, nil
			}
			if i+1 < len(b) && b[i] == ',' && b[i+1] > ' ' { // as always but in pretty printed JSON
				i++
				break
			}
			if i = skipSpace(b, i); i == len(b) {
				return i, errIncomplete
			}
			switch b[i] {
			case ',':
				more = true
				if i = skipSpace(b, i+1); i == len(b) {
					return i, errIncomplete
				}
			case ']' | byte(objects&1)<<5:
				open--
				objects >>= 1
				i++
			default:
				return i, &syntaxError{i, "want a comma or the end of the array or object"}
			}
		}
		if objects&1 != 0 {
			if _, i, err = skipKey(b, i); err != nil {
				return i, err
			}
		}
	}
}

// skipString reads a string from behind its opening quote.
func skipString(b []byte, i int) (int, error) {
	for {
		for ; i <= len(b)-8; i += 8 {
			if special := stops(binary.LittleEndian.Uint64(b[i : i+8])); special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
		}
		if i == len(b) {
			return i, errIncomplete
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\':
			if i+1 < len(b) && escape[b[i+1]] != 0 {
				i += 2
			} else if err := checkCodeUnit(b, i); err != nil {
				return i, err
			} else {
				i += 6
			}
		case c < ' ':
			return i, &syntaxError{i, "a control character in a string"}
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				if !utf8.FullRune(b[i:]) {
					return i, errIncomplete
				}
				return i, &syntaxError{i, "invalid UTF-8 in a string"}
			}
			i += n
		}
	}
}

// stops has the high bit set in the lowest byte of x that is a quote, a backslash, a control character or not ASCII:
// that byte is the lowest to fall below 0, or keeps its high bit in one of the terms. Bytes above it may be set wrongly.
func stops(x uint64) uint64 {
	const ones = 0x0101010101010101
	swapped := x ^ 2*ones // '"' and ' ' change places, control characters among themselves
	slashes := x ^ '\\'*ones
	return ((swapped - '!'*ones) | (slashes - ones)) & (0x80 * ones)
}

// checkCodeUnit says whether b[i:] begins with an escape \uXXXX.
func checkCodeUnit(b []byte, i int) error {
	for j := i + 1; j < i+6; j++ {
		if j == len(b) {
			return errIncomplete
		}
		if j == i+1 && b[j] != 'u' || j > i+1 && !isDigit(b[j]) && b[j]|0x20-'a' > 5 {
			return &syntaxError{i, "an unknown escape"}
		}
	}
	return nil
}

// skipScalar reads a number, true, false or null.
func skipScalar(b []byte, i int) (int, error) {
	switch b[i] {
	case 't':
		return skipWord(b, i, "true")
	case 'f':
		return skipWord(b, i, "false")
	case 'n':
		return skipWord(b, i, "null")
	}
	return skipNumber(b, i)
}

func skipWord(b []byte, i int, word string) (int, error) {
	if bytes.HasPrefix(b[i:], []byte(word)) {
		return i + len(word), nil
	}
	if strings.HasPrefix(word, string(b[i:])) {
		return i, errIncomplete
	}
	return i, &syntaxError{i, "want a value"}
}

func skipNumber(b []byte, i int) (int, error) {
	var err error
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, err = skipDigits(b, i, "want a value"); err != nil {
		return i, err
	}
	if i < len(b) && b[i] == '.' {
		if i, err = skipDigits(b, i+1, "want a digit"); err != nil {
			return i, err
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return skipDigits(b, i, "want a digit")
	}
	return i, nil
}

// skipDigits reads one digit or more.
func skipDigits(b []byte, i int, problem string) (int, error) {
	if i == len(b) {
		return i, errIncomplete
	}
	if !isDigit(b[i]) {
		return i, &syntaxError{i, problem}
	}
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i, nil
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// onlySpace says whether anything but white space follows.
func onlySpace(b []byte, i int) error {
	if skipSpace(b, i) != len(b) {
		return &trailingError{i}
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	if i < len(b) && b[i] <= ' ' {
		return skipSpaces(b, i)
	}
	return i
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}
