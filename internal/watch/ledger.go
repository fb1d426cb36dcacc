package watch

import (
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
	uid     [16]byte
	version uint64
	memory
	round uint32 // in which it was marked last
	isOdd bool   // uid and version are in odd
}

// A memory is what a change is compared with.
type memory struct {
	hashes      event.Hashes
	attribution event.Attribution
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

// A key names an object within its resource.
type key struct{ namespace, name string }

func keyOf(o *event.Object) key { return key{o.Namespace, o.Name} }

func (l *ledger) get(k key) *entry {
	if l == nil {
		return nil
	}
	return l.objects[k.namespace][k.name]
}

// find is what is remembered under a name.
func (l *ledger) find(k key) (o event.Object, ok bool) {
	e := l.get(k)
	if e == nil {
		return o, false
	}
	return l.object(k, e), true
}

// holds reports whether a state is the one that is remembered.
func (l *ledger) holds(o *event.Object) bool {
	e := l.get(keyOf(o))
	return e != nil && l.is(e, o.UID) && l.at(e, o.ResourceVersion)
}

// put remembers a state, which is there in this round, and returns what was remembered of the object before. It keeps
// nothing of o, whose strings may be part of something larger.
func (l *ledger) put(o *event.Object) (was memory, known bool) {
	if l == nil {
		return memory{}, false
	}
	e := l.get(keyOf(o))
	if e != nil {
		was, known = e.memory, l.is(e, o.UID)
	} else {
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
	return was, known
}

func (l *ledger) pack(e *entry, o *event.Object) {
	e.memory = memory{o.Hashes, o.Attribution}
	var plain, known bool
	e.version, plain = packVersion(o.ResourceVersion)
	if e.uid, known = packUID(o.UID); plain && known {
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
	e := l.get(keyOf(o))
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
	packed, ok := packUID(uid)
	return ok && packed == e.uid
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
func (l *ledger) object(k key, e *entry) event.Object {
	o := event.Object{Namespace: k.namespace, Name: k.name, Hashes: e.hashes, Attribution: e.attribution}
	if e.isOdd {
		o.UID, o.ResourceVersion = l.odd[e].uid, l.odd[e].version
	} else {
		o.UID, o.ResourceVersion = unpackUID(e.uid), unpackVersion(e.version)
	}
	return o
}

// all yields what is remembered. The entry that is yielded may be removed meanwhile.
func (l *ledger) all() iter.Seq2[key, *entry] {
	return func(yield func(key, *entry) bool) {
		if l == nil {
			return
		}
		for namespace, in := range l.objects {
			for name, e := range in {
				if !yield(key{namespace, name}, e) {
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
	e := l.get(keyOf(o))
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
		for k, e := range l.all() {
			if e.round != l.round && !yield(l.object(k, e)) {
				return
			}
		}
	}
}

// newest is the state with the highest version.
func (l *ledger) newest() event.Witness {
	var w event.Witness
	for k, e := range l.all() {
		o := l.object(k, e)
		testify(&w, &o)
	}
	return w
}

// forgetVersions keeps who exists: after a rewind the versions are those of another history.
func (l *ledger) forgetVersions() {
	for k, e := range l.all() {
		o := l.object(k, e)
		o.ResourceVersion, o.Hashes, o.Attribution = "", event.Hashes{}, 0
		l.pack(e, &o)
	}
}

// packVersion and packUID are exact, as event's: what they do not give back as it was they refuse. 0 stands for none.
func packVersion(s string) (uint64, bool) {
	n, ok := event.PackVersion(s)
	return n, s == "" || ok && n > 0
}

func unpackVersion(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}

func packUID(s string) (id [16]byte, ok bool) {
	id, ok = event.PackUID(s)
	return id, s == "" || ok && id != [16]byte{}
}

func unpackUID(id [16]byte) string {
	if id == [16]byte{} {
		return ""
	}
	return event.FormatUID(id)
}
