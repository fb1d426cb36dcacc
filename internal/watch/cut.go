package watch

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"watcher/internal/event"
)

const lastAppliedKey = "kubectl.kubernetes.io/last-applied-configuration"

// read fills o from the object that b begins with, and returns where the object ends.
func (o *object) read(b []byte) (end int, err error) {
	*o = object{hashes: event.Hashes{Spec: emptyHash, Metadata: emptyHash, Status: emptyHash}}
	i, err := openObject(b)
	if err != nil {
		return 0, err
	}
	var spec part
	for first := true; ; first = false {
		name, key, at, err := nextMember(b, i, first)
		if err != nil || name == nil {
			o.hashes.Spec = spec.sum(b)
			return at, err
		}
		if string(name) == "metadata" {
			i, err = o.readMetadata(b, at)
		} else {
			i, err = skipValue(b, at, 1)
		}
		if err != nil {
			return 0, err
		}
		switch string(name) {
		case "kind":
			o.kind = text(b[at:i])
		case "apiVersion":
			o.apiVersion = text(b[at:i])
		case "metadata":
		case "status":
			o.hashes.Status = hash(b[key:i])
		default:
			spec.add(b, span{key, i})
		}
	}
}

// readMetadata fills o from the value at b[i].
func (o *object) readMetadata(b []byte, i int) (end int, err error) {
	o.metadata, o.hashes.Metadata = metadata{}, emptyHash
	if b[i] != '{' {
		return skipValue(b, i, 1)
	}
	i++
	kept := false
	var meta part
	for first := true; ; first = false {
		name, key, at, err := nextMember(b, i, first)
		if err != nil || name == nil {
			o.hashes.Metadata = meta.sum(b)
			return at, err
		}
		switch string(name) {
		case "annotations":
			end, err = o.readAnnotations(b, at)
		case "managedFields":
			end, err = o.readManagedFields(b, at)
		default:
			end, err = skipValue(b, at, 2)
		}
		if err != nil {
			return 0, err
		}
		if string(name) == "managedFields" {
			o.managedFields.add(cut(b, i, key, end, kept))
		} else {
			kept = true
			if o.metadata.set(name, b[at:end]) {
				meta.add(b, span{key, end})
			}
		}
		i = end
	}
}

// metadata is what matters of an object's member metadata.
type metadata struct {
	namespace, name, uid, resourceVersion []byte
	deletionTimestamp                     []byte
	generation                            int64
	newest                                newest
}

// set stores the value of the member name if it is one of those that matter. It says whether the hash counts it in: the
// version moves with every change, and the generation with the spec.
func (m *metadata) set(name, value []byte) (hashed bool) {
	switch string(name) {
	case "namespace":
		m.namespace = text(value)
	case "name":
		m.name = text(value)
	case "uid":
		m.uid = text(value)
	case "resourceVersion":
		m.resourceVersion = text(value)
		return false
	case "deletionTimestamp":
		m.deletionTimestamp = text(value)
	case "generation":
		m.generation = integer(value)
		return false
	}
	return true
}

// readAnnotations looks for the annotation to leave out in the value at b[i].
func (o *object) readAnnotations(b []byte, i int) (end int, err error) {
	if b[i] != '{' {
		return skipValue(b, i, 2)
	}
	i++
	kept := false
	for first := true; ; first = false {
		name, key, at, err := nextMember(b, i, first)
		if err != nil || name == nil {
			return at, err
		}
		end, err := skipValue(b, at, 3)
		if err != nil {
			return 0, err
		}
		if string(name) == lastAppliedKey {
			o.lastApplied.add(cut(b, i, key, end, kept))
		} else {
			kept = true
		}
		i = end
	}
}

// text is the unescaped text of a valid JSON value, or nil if that is not a string.
func text(value []byte) []byte {
	if value[0] != '"' {
		return nil
	}
	return unescaped(value[1 : len(value)-1])
}

// integer is the value of a JSON number, or 0 if it is not an integer that int64 can hold.
func integer(b []byte) int64 {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// unescaped is the text that s, the valid inside of a JSON string, stands for. It copies only if there are escapes. What
// stands for no character, an unpaired surrogate, becomes U+FFFD, as in encoding/json.
func unescaped(s []byte) []byte {
	i := bytes.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	out := append(make([]byte, 0, len(s)), s[:i]...)
	for i < len(s) {
		switch {
		case s[i] != '\\':
			out = append(out, s[i])
			i++
		case s[i+1] != 'u':
			out = append(out, escape[s[i+1]])
			i += 2
		default:
			r := codeUnit(s[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				pair := utf16.DecodeRune(r, codeUnit(s[i:]))
				if pair != utf8.RuneError {
					i += 6
				}
				r = pair
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

// escape holds what the letter after a backslash stands for.
var escape = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// codeUnit is the UTF-16 code unit of the escape \uXXXX that s begins with, or 0.
func codeUnit(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0
	}
	n, _ := strconv.ParseUint(string(s[2:6]), 16, 16) // the scan saw four hexadecimal digits
	return rune(n)
}

// A span is a part of some bytes, half open. The zero span is none.
type span struct{ start, end int }

// spans are the places of one member in an object. As keys seldom repeat, the usual one takes no memory of its own.
type spans struct {
	first span
	more  []span
}

func (s *spans) add(p span) {
	if s.first.end == 0 {
		s.first = p
		return
	}
	s.more = append(s.more, p)
}

// size is how many bytes there are in them. They do not overlap.
func (s *spans) size() int {
	n := s.first.end - s.first.start
	for _, p := range s.more {
		n += p.end - p.start
	}
	return n
}

// cut is the span to leave out for the member whose key begins at key and whose value ends at end. before is where the
// value before it ends, or where its object begins. kept says whether any member before it stays. The member takes
// the comma before it along if so, else the comma behind it: then any number of them can go.
func cut(b []byte, before, key, end int, kept bool) span {
	if kept {
		return span{before, end}
	}
	if i := skipSpace(b, end); i < len(b) && b[i] == ',' {
		end = i + 1
	}
	return span{key, end}
}

// appendWithout appends b to dst without the given members. What is left is valid JSON and says the same but for them.
func appendWithout(dst, b []byte, members ...spans) []byte {
	var few [4]span
	out := few[:0]
	for _, m := range members {
		if m.first.end > 0 {
			out = append(append(out, m.first), m.more...)
		}
	}
	slices.SortFunc(out, func(a, b span) int { return a.start - b.start })
	i := 0
	for _, s := range out {
		dst = append(dst, b[i:s.start]...)
		i = s.end
	}
	return append(dst, b[i:]...)
}
