package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
)

const timeLayout = "2006-01-02T15:04:05.000000000Z"

// AppendID appends the event's id. Within one epoch the same state has the same id however often and by whomever it is
// sent: uid and version name a state, the uid alone a deletion, since a uid dies once.
func (e *Event) AppendID(dst []byte) []byte {
	if !e.Type.OfObject() {
		return append(dst, e.ID...)
	}
	dst = append(dst, e.Prefix()...)
	dst = append(dst, e.Object.Incarnation()...)
	dst = append(dst, '.')
	switch e.Type {
	case Deleted:
		return append(dst, "deleted"...)
	case Left:
		dst = append(dst, e.Object.ResourceVersion...)
		return append(dst, ".left"...)
	default:
		return append(dst, e.Object.ResourceVersion...)
	}
}

// Prefix is what ids begin with after a rewind, which gives the same versions out again: "e1.", "e2.".
func (e *Event) Prefix() string {
	if e.Epoch == 0 {
		return ""
	}
	return "e" + strconv.FormatUint(e.Epoch, 10) + "."
}

// AppendLine appends the event as one CloudEvent in structured JSON mode, without a newline. Above limit bytes (0: no
// limit) the object is left out and its length and SHA-256 are given instead: an event is never dropped and never cut.
//
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
func (e *Event) AppendLine(dst []byte, limit int) []byte {
	start := len(dst)
	dst = e.appendHead(dst)
	if !e.Type.OfObject() {
		return e.appendStreamData(dst)
	}
	dst = e.appendObjectData(dst)
	if e.Object.Body != nil {
		if whole := len(dst) - start + len(`,"object":}}`) + len(e.Object.Body); limit > 0 && whole > limit {
			dst = appendOmitted(dst, e.Object.Body)
		} else {
			dst = append(dst, `,"object":`...)
			dst = append(dst, e.Object.Body...)
		}
	}
	return append(dst, "}}"...)
}

func (e *Event) appendHead(dst []byte) []byte {
	var id [96]byte
	dst = append(dst, `{"specversion":"1.0","id":`...)
	dst = appendString(dst, e.AppendID(id[:0]))
	dst = append(dst, `,"source":`...)
	dst = appendString(dst, e.Stream.source)
	if e.Type.OfObject() {
		dst = append(dst, `,"type":"watcher.object.`...)
		dst = append(dst, e.Type.String()...)
		dst = append(dst, `","subject":`...)
		key := append(id[:0], e.Object.Namespace...)
		if len(key) > 0 {
			key = append(key, '/')
		}
		dst = appendString(dst, append(key, e.Object.Name...))
	} else {
		dst = append(dst, `,"type":"watcher.stream.`...)
		dst = append(dst, e.Type.String()...)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"time":"`...)
	dst = e.Time.UTC().AppendFormat(dst, timeLayout)
	return append(dst, `","datacontenttype":"application/json","data":{`...)
}

func (e *Event) appendObjectData(dst []byte) []byte {
	o := &e.Object
	dst = append(dst, `"op":"`...)
	dst = append(dst, e.Type.String()...)
	dst = append(dst, `","seq":`...)
	dst = strconv.AppendUint(dst, e.Seq, 10)
	dst = append(dst, `,"origin":"`...)
	dst = append(dst, e.Origin.String()...)
	dst = append(dst, '"')
	dst = appendMember(dst, "gap", e.Gap)
	dst = append(dst, ',')
	dst = e.Stream.appendResource(dst)
	dst = appendMember(dst, "namespace", o.Namespace)
	dst = append(dst, `,"name":`...)
	dst = appendString(dst, o.Name)
	dst = appendMember(dst, "uid", o.UID)
	dst = append(dst, `,"resourceVersion":`...)
	dst = appendString(dst, o.ResourceVersion)
	if o.Generation != 0 {
		dst = append(dst, `,"generation":`...)
		dst = strconv.AppendInt(dst, o.Generation, 10)
	}
	dst = appendMember(dst, "deletionTimestamp", o.DeletionTimestamp)
	if e.Changed&Told != 0 {
		dst = e.Changed.append(append(dst, `,"changed":`...))
	}
	dst = e.Actor.append(dst)
	for _, f := range [...]struct {
		is   bool
		name string
	}{{e.Ambiguous, `,"ambiguous":true`}, {e.Inferred, `,"inferred":true`}, {e.Stale, `,"stale":true`}} {
		if f.is {
			dst = append(dst, f.name...)
		}
	}
	return dst
}

// append appends the parts as a JSON array.
func (p Parts) append(dst []byte) []byte {
	dst = append(dst, '[')
	for i, name := range partNames {
		if p&(1<<i) == 0 {
			continue
		}
		if dst[len(dst)-1] != '[' {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), '"')
	}
	return append(dst, ']')
}

var partNames = [...]string{"spec", "metadata", "status"}

// PartNamed is the part that a word names, or 0.
func PartNamed(name string) Parts {
	if i := slices.Index(partNames[:], name); i >= 0 {
		return 1 << i
	}
	return 0
}

// Names are the words for the parts.
func (p Parts) Names() []string {
	var names []string
	for i, name := range partNames {
		if p&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// append appends the member actor, or nothing if nobody is known.
func (a *Actor) append(dst []byte) []byte {
	if a.Manager == "" {
		return dst
	}
	dst = append(dst, `,"actor":{"manager":`...)
	dst = appendString(dst, a.Manager)
	dst = appendMember(dst, "operation", a.Operation)
	dst = appendMember(dst, "time", a.Time)
	return append(dst, '}')
}

func (e *Event) appendStreamData(dst []byte) []byte {
	dst = e.Stream.appendResource(dst)
	dst = appendMember(dst, "namespace", e.Stream.Namespace)
	data, _ := json.Marshal(e.Data) // strings, numbers and times of this century: none can be refused
	dst = append(dst, ',')
	return append(append(dst, data[1:]...), '}')
}

func (s *Stream) appendResource(dst []byte) []byte {
	dst = append(dst, `"group":`...)
	dst = appendString(dst, s.Group)
	dst = append(dst, `,"version":`...)
	dst = appendString(dst, s.Version)
	dst = append(dst, `,"resource":`...)
	dst = appendString(dst, s.Resource)
	dst = append(dst, `,"kind":`...)
	return appendString(dst, s.Kind)
}

func appendOmitted(dst, body []byte) []byte {
	sum := sha256.Sum256(body)
	dst = append(dst, `,"objectOmitted":{"bytes":`...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, `,"sha256":"`...)
	dst = hex.AppendEncode(dst, sum[:])
	return append(dst, `"}`...)
}

// appendMember appends a further member, or nothing if its value is empty.
func appendMember(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, key...)
	dst = append(dst, `":`...)
	return appendString(dst, value)
}

// appendString appends s as a JSON string. Names are nearly always plain ASCII, so the rest is left to encoding/json.
func appendString[T string | []byte](dst []byte, s T) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(string(s)) // a string is never refused
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
