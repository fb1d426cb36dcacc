package watch

import (
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"watcher/internal/event"
)

// A managedEntry is what matters of an entry of managedFields: who last wrote some of the object's fields, and when.
type managedEntry struct {
	manager, operation, subresource []byte
	time                            []byte // RFC 3339, UTC, whole seconds
	second                          int64  // of that time; 0: it has none
}

// newest is the entry with the highest second. It need not be the last one: entries are sorted by operation first.
type newest struct {
	managedEntry
	tied   bool   // others have the same second, and nobody knows which of them came last
	others uint32 // the sum of their hashes: they may change places
}

// readManagedFields finds the newest entry in the value at b[i].
func (o *object) readManagedFields(b []byte, i int) (end int, err error) {
	o.newest = newest{}
	if b[i] != '[' {
		return skipValue(b, i, 2)
	}
	i++
	for first := true; ; first = false {
		at, more, err := next(b, i, ']', first)
		if err != nil || !more {
			return at, err
		}
		var e managedEntry
		if i, err = e.read(b, at); err != nil {
			return 0, err
		}
		o.newest.take(&e)
	}
}

// read fills e from the value at b[i].
func (e *managedEntry) read(b []byte, i int) (end int, err error) {
	if b[i] != '{' {
		return skipValue(b, i, 3)
	}
	i++
	for first := true; ; first = false {
		name, _, at, err := nextMember(b, i, first)
		if err != nil || name == nil {
			e.time, e.second = wholeSecond(e.time)
			return at, err
		}
		if i, err = skipValue(b, at, 4); err != nil {
			return 0, err
		}
		e.set(name, b[at:i])
	}
}

// set stores the value of the member name if it is one of those that matter.
func (e *managedEntry) set(name, value []byte) {
	switch string(name) {
	case "manager":
		e.manager = text(value)
	case "operation":
		e.operation = text(value)
	case "subresource":
		e.subresource = text(value)
	case "time":
		e.time = text(value)
	}
}

// take makes e the newest entry if it is. One without a time never is: it ties at most with nothing.
func (n *newest) take(e *managedEntry) {
	switch {
	case e.second < n.second:
	case e.second == n.second:
		n.tied = n.tied || string(e.manager) != string(n.manager) || string(e.operation) != string(n.operation)
		n.others += e.hash()
	default:
		*n = newest{managedEntry: *e}
	}
}

// hash is part of every stored format.
func (e *managedEntry) hash() uint32 {
	var few [256]byte // more than the API server lets them have
	b := append(append(few[:0], e.manager...), '\n')
	b = append(append(b, e.operation...), '\n')
	return uint32(xxhash.Sum64(append(b, e.subresource...)))
}

// attribution is what a ledger remembers of the newest entry.
func (n *newest) attribution() event.Attribution {
	if n.second == 0 {
		return 0
	}
	return event.Attribution(n.second)<<32 | event.Attribution(n.hash()+n.others)
}

// actor is whom the newest entries name, if it is only one: a controller often writes spec and status in one second.
func (n *newest) actor(names *names) event.Actor {
	if n.second == 0 || n.tied {
		return event.Actor{}
	}
	return event.Actor{Manager: names.add(n.manager), Operation: names.add(n.operation), Time: names.add(n.time)}
}

// wholeSecond is the time that text says, in RFC 3339, UTC and without a fraction, and as Unix time. Nil and 0 are no time,
// or one outside of 1970 to 2106: 32 bits hold the others.
func wholeSecond(text []byte) ([]byte, int64) {
	if len(text) == 0 {
		return nil, 0
	}
	t, plain := plainTime(text)
	if !plain {
		var err error
		if t, err = time.Parse(time.RFC3339, string(text)); err != nil {
			return nil, 0
		}
		text = t.UTC().AppendFormat(nil, time.RFC3339)
	}
	if s := t.Unix(); s > 0 && s <= math.MaxUint32 {
		return text, s
	}
	return nil, 0
}

// plainTime is time.Parse for times as the API server writes them, in half the time.
func plainTime(text []byte) (t time.Time, plain bool) {
	const form = "2006-01-02T15:04:05Z"
	if len(text) != len(form) || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' || text[16] != ':' || text[19] != 'Z' {
		return t, false
	}
	var n [7]int
	for i, at := range [...]int{0, 2, 5, 8, 11, 14, 17} {
		if !isDigit(text[at]) || !isDigit(text[at+1]) {
			return t, false
		}
		n[i] = int(text[at]-'0')*10 + int(text[at+1]-'0')
	}
	year, month, day, hour, minute, second := n[0]*100+n[1], time.Month(n[2]), n[3], n[4], n[5], n[6]
	t = time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	return t, t.Month() == month && hour < 24 && minute < 60 && second < 60
}
