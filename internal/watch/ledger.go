package watch

import (
	"encoding/hex"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"watcher/internal/event"
)

// A ledger is what a stream remembers of the objects that exist: who they are, in which version, and what is needed to
// tell what a change touched and who made it. No object is kept; an entry takes about 160 bytes, its name included. It
// is of one goroutine. A nil ledger remembers nothing, and knows no object.
type ledger struct {
	objects map[string]map[string]*entry // by namespace and name
	odd     map[*entry]oddity            // what does not fit an entry
	size    int
	round   uint32 // of mark
}

// An entry packs an event.Object as API servers make them: the uid a UUID, the version a number of at most 64 bits.
type entry struct {
	uid         [16]byte
	version     uint64
	hashes      event.Hashes
	attribution event.Attribution
	round       uint32 // in which it was marked last
	isOdd       bool   // uid and version are in odd
}

// An oddity is a uid or a version that only some aggregated API gives out.
type oddity struct{ uid, version string }

func newLedger() *ledger {
	return &ledger{objects: map[string]map[string]*entry{}, odd: map[*entry]oddity{}}
}

// load fills the ledger with what a sink held.
func (l *ledger) load(held iter.Seq2[event.Object, error]) error {
	for o, err := range held {
		if err != nil {
			return fmt.Errorf("read the ledger: %w", err)
		}
		l.put(&o)
	}
	return nil
}

func (l *ledger) get(namespace, name string) *entry {
	if l == nil {
		return nil
	}
	return l.objects[namespace][name]
}

// put remembers a state, which is there in this round. It keeps nothing of o, whose strings may be part of something larger.
func (l *ledger) put(o *event.Object) {
	if l == nil {
		return
	}
	e := l.get(o.Namespace, o.Name)
	if e == nil {
		e = &entry{}
		in := l.objects[o.Namespace]
		if in == nil {
			in = map[string]*entry{}
			l.objects[strings.Clone(o.Namespace)] = in
		}
		in[strings.Clone(o.Name)] = e
		l.size++
	}
	e.round = l.round
	l.pack(e, o)
}

func (l *ledger) pack(e *entry, o *event.Object) {
	e.hashes, e.attribution = o.Hashes, o.Attribution
	var ok bool
	if e.version, ok = packVersion(o.ResourceVersion); ok && packUID(&e.uid, o.UID) {
		if e.isOdd {
			delete(l.odd, e)
			e.isOdd = false
		}
		return
	}
	e.isOdd = true
	l.odd[e] = oddity{strings.Clone(o.UID), strings.Clone(o.ResourceVersion)}
}

// remove forgets an object that is gone. A later one of the same name stays.
func (l *ledger) remove(o *event.Object) {
	e := l.get(o.Namespace, o.Name)
	if e == nil || !l.is(e, o.UID) {
		return
	}
	delete(l.odd, e)
	in := l.objects[o.Namespace]
	if delete(in, o.Name); len(in) == 0 {
		delete(l.objects, o.Namespace)
	}
	l.size--
}

// is reports whether the entry is of the object with that uid.
func (l *ledger) is(e *entry, uid string) bool {
	if e.isOdd {
		return l.odd[e].uid == uid
	}
	var packed [16]byte
	return packUID(&packed, uid) && packed == e.uid
}

// at reports whether the entry is at that version.
func (l *ledger) at(e *entry, version string) bool {
	if e.isOdd {
		return l.odd[e].version == version
	}
	packed, ok := packVersion(version)
	return ok && packed == e.version
}

// object is what is remembered of an object.
func (l *ledger) object(namespace, name string, e *entry) event.Object {
	o := event.Object{Namespace: namespace, Name: name, Hashes: e.hashes, Attribution: e.attribution}
	if e.isOdd {
		o.UID, o.ResourceVersion = l.odd[e].uid, l.odd[e].version
	} else {
		o.UID, o.ResourceVersion = unpackUID(e.uid), unpackVersion(e.version)
	}
	return o
}

// all yields what is remembered. The entry that is yielded may be removed meanwhile.
func (l *ledger) all() iter.Seq2[event.Object, *entry] {
	return func(yield func(event.Object, *entry) bool) {
		if l == nil {
			return
		}
		for namespace, in := range l.objects {
			for name, e := range in {
				if !yield(l.object(namespace, name, e), e) {
					return
				}
			}
		}
	}
}

// A relation is how a state that exists compares to what is remembered under its name.
type relation uint8

const (
	unknown   relation = iota // nothing is remembered
	same                      // this very state
	changed                   // another state of this object
	recreated                 // another object
	forged                    // another state of the same version, or an older one: this is another history
)

// relate compares a state to what is remembered, and marks that in this round as being there.
func (l *ledger) relate(o *event.Object) relation {
	e := l.get(o.Namespace, o.Name)
	if e == nil {
		return unknown
	}
	if !l.is(e, o.UID) {
		return recreated
	}
	e.round = l.round
	at := l.at(e, o.ResourceVersion)
	version, ordered := packVersion(o.ResourceVersion)
	switch {
	case at && e.attribution == o.Attribution:
		return same
	case at, ordered && !e.isOdd && version < e.version:
		return forged
	}
	return changed
}

// newRound takes all marks away.
func (l *ledger) newRound() {
	if l != nil {
		l.round++
	}
}

// unmarked yields what is remembered and was not found to be there in this round. It may be removed meanwhile.
func (l *ledger) unmarked() iter.Seq[event.Object] {
	return func(yield func(event.Object) bool) {
		for o, e := range l.all() {
			if e.round != l.round && !yield(o) {
				return
			}
		}
	}
}

// newest is the state with the highest version.
func (l *ledger) newest() event.Witness {
	var w event.Witness
	for o := range l.all() {
		if newer(o.ResourceVersion, w.ResourceVersion) {
			w = witness(&o)
		}
	}
	return w
}

// forgetVersions keeps who exists: after a rewind the versions are those of another history.
func (l *ledger) forgetVersions() {
	for o, e := range l.all() {
		o.ResourceVersion, o.Hashes, o.Attribution = "", event.Hashes{}, 0
		l.pack(e, &o)
	}
}

// packVersion and packUID are exact: what they do not give back as it was they refuse.
func packVersion(s string) (uint64, bool) {
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && s[0] != '0' && s[0] != '+'
}

func unpackVersion(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func packUID(dst *[16]byte, s string) bool {
	if s == "" {
		*dst = [16]byte{}
		return true
	}
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	at := 0
	for i := 0; i < len(s); i += 2 {
		if s[i] == '-' {
			i++
		}
		high, low := hexDigit(s[i]), hexDigit(s[i+1])
		if high > 15 || low > 15 {
			return false
		}
		dst[at] = high<<4 | low
		at++
	}
	return *dst != [16]byte{}
}

// hexDigit is the value of a lower-case digit, or more than 15.
func hexDigit(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case c-'a' < 6:
		return c - 'a' + 10
	}
	return 255
}

func unpackUID(b [16]byte) string {
	if b == [16]byte{} {
		return ""
	}
	var s [36]byte
	at := 0
	for _, part := range [...][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if at > 0 {
			s[at] = '-'
			at++
		}
		at += hex.Encode(s[at:], part)
	}
	return string(s[:])
}
