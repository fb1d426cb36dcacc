package verify

import (
	"fmt"
	"hash/maphash"
	"slices"

	"watcher/internal/event"
)

// objects is the fold of a stream's events: which objects exist, and in which version. It knows them as of its last
// event, and as of the last position that was stated, for that is where the cluster can be asked.
type objects struct {
	seed    maphash.Seed
	byID    map[string]*record // by incarnation
	touched []*record          // since the position
	// ahead are live changes of one version, the newest: there may be more of it, so a position may still be before it.
	ahead   []change
	applied string // newest version in the records
	at      string // the position; "": none was stated
	dead    graves
	since   int // line at which the first list or the repair under way began
}

// A change is what an event does to an object.
type change struct {
	id, key string
	state
	gone bool
}

// A state is what is remembered of an object's state.
type state struct {
	version string
	line    int
	seq     uint64
	parts   parts
	doubt   doubt
}

// A doubt says why an object may be otherwise than its last event says.
type doubt uint8

const (
	blind doubt = iota + 1 // what was deleted in a gap since is not known
	void                   // its last event is not what the run goes on from: it comes again, or what has become of it does
)

// A record is an object that exists, or did at the position.
type record struct {
	id, key string
	now     state
	gone    bool
	touched bool   // since the position
	at      *state // what it was there, if it was touched; nil: it did not exist
	seen    bool   // in the list that it is compared with
}

// newRun begins a run, which goes on from the event with this seq.
func (o *objects) newRun(seq uint64) {
	o.flush()
	for _, r := range o.byID {
		if r.now.seq > seq {
			o.touch(r)
			r.now.doubt = void
		}
	}
	o.dead.void(seq)
}

// forgetParts forgets digests that are of another payload than those that come.
func (o *objects) forgetParts() {
	for _, r := range o.byID {
		r.now.parts = parts{}
		if r.at != nil {
			r.at.parts = parts{}
		}
	}
}

// rewind begins another history: ids and versions of the old one mean nothing in it.
func (o *objects) rewind() {
	o.newRun(0)
	o.dead = graves{}
	o.applied, o.at = "", ""
}

// check holds an event against what is known of its object. all: the log names every object that exists.
func (o *objects) check(t event.Type, origin string, c *change, all bool) (Kind, string) {
	if len(o.ahead) > 0 && (origin != event.Live.String() || c.version != o.ahead[0].version) {
		o.flush()
	}
	g, buried := o.dead.find(o.hash(c.id))
	if g.final && g.seq > 0 {
		if t == event.Deleted {
			return Repeated, "it was deleted before"
		}
		return Order, "it comes after the object's deletion"
	}
	for i := range o.ahead {
		if o.ahead[i].id == c.id {
			return Repeated, fmt.Sprintf("line %d has this version of the object", o.ahead[i].line)
		}
	}
	r := o.byID[c.id]
	if r == nil || r.gone {
		if again := buried && g.seq == 0; all && !again && t != event.Present && t != event.Added {
			return Missing, "the log does not say before that the object exists"
		}
		return "", ""
	}
	if r.now.doubt != 0 {
		return "", ""
	}
	switch order := compare(c.version, r.now.version); {
	case order < 0:
		return Order, fmt.Sprintf("version %s of the object comes after %s in line %d", c.version, r.now.version, r.now.line)
	case t == event.Added:
		return Order, fmt.Sprintf("the object is added, and exists since line %d at the latest", r.now.line)
	case order == 0 && (t == event.Modified || t == event.Present && origin == event.Snapshot.String()):
		return Repeated, fmt.Sprintf("line %d has this version of the object", r.now.line)
	}
	return "", ""
}

// put takes in an event that was checked.
func (o *objects) put(c change, live bool) {
	if live {
		o.ahead = append(o.ahead, c)
		return
	}
	o.apply(&c)
}

// flush applies what is ahead: something later has come.
func (o *objects) flush() {
	for i := range o.ahead {
		o.apply(&o.ahead[i])
	}
	clear(o.ahead)
	o.ahead = o.ahead[:0]
}

func (o *objects) apply(c *change) {
	if o.applied == "" || compare(c.version, o.applied) > 0 {
		o.applied = c.version
	}
	r := o.byID[c.id]
	switch {
	case r == nil && c.gone:
		return
	case r == nil:
		r = &record{id: c.id, gone: true}
		o.byID[c.id] = r
	}
	o.touch(r)
	r.now, r.gone, r.key = c.state, c.gone, c.key
	if r.gone && r.at == nil {
		delete(o.byID, r.id)
	}
}

// bury remembers that an object is gone, and whether for good.
func (o *objects) bury(c *change, final bool) { o.dead.add(o.hash(c.id), grave{c.seq, final}) }

// touch keeps what the object was at the position.
func (o *objects) touch(r *record) {
	if r.touched {
		return
	}
	if !r.gone {
		was := r.now
		r.at = &was
	}
	r.touched = true
	if len(o.touched) > 2*len(o.byID) { // most of them came and went
		o.touched = slices.DeleteFunc(o.touched, func(r *record) bool { return o.byID[r.id] != r })
	}
	o.touched = append(o.touched, r)
}

// reach takes a position: everything up to it has been written. One that lies before what is applied is an old one,
// which a run repeats while it repairs or resumes.
func (o *objects) reach(position string) {
	if len(o.ahead) > 0 && compare(o.ahead[0].version, position) <= 0 {
		o.flush()
	}
	if o.applied == "" || compare(o.applied, position) <= 0 {
		o.settle(position)
	}
}

// settle makes what is known the state at the position.
func (o *objects) settle(position string) {
	for _, r := range o.touched {
		if r.gone && o.byID[r.id] == r {
			delete(o.byID, r.id)
		}
		r.touched, r.at = false, nil
	}
	clear(o.touched)
	o.touched, o.at = o.touched[:0], position
}

// synced ends a list or a repair: what the run knew of and was not written in it is as it was, unless deletions are not
// known. What is void and did not come again is gone, or with a filter has changed in what is filtered.
func (o *objects) synced(position string, deletions, filtered bool) {
	o.flush()
	for _, r := range o.byID {
		if r.now.line >= o.since || r.now.doubt != void && deletions {
			continue
		}
		o.touch(r)
		if r.now.doubt == void {
			r.gone, r.now.parts = r.gone || !filtered, parts{}
		}
		r.now.doubt = blind
	}
	o.applied = position
	o.settle(position)
}

// state is the record's at the position.
func (r *record) state() (state, bool) {
	switch {
	case !r.touched:
		return r.now, !r.gone
	case r.at == nil:
		return state{}, false
	default:
		return *r.at, true
	}
}

// count is how many objects exist at the position.
func (o *objects) count() int {
	n := 0
	for _, r := range o.byID {
		if s, ok := r.state(); ok && s.doubt == 0 {
			n++
		}
	}
	return n
}

// undecided reports whether the last that is known of an object is that it is gone, and that is void.
func (o *objects) undecided(id string) bool {
	g, buried := o.dead.find(o.hash(id))
	return buried && g.seq == 0
}

func (o *objects) hash(id string) uint64 { return maphash.String(o.seed, id) }

// graves remember who is gone: of those, the last so many for certain.
type graves struct{ young, old map[uint64]grave }

// A grave is the last event of an object.
type grave struct {
	seq   uint64 // 0: it is void
	final bool   // it cannot come back
}

const mostGraves = 1 << 16

func (g *graves) add(id uint64, dead grave) {
	if g.young == nil || len(g.young) == mostGraves {
		g.young, g.old = map[uint64]grave{}, g.young
	}
	g.young[id] = dead
}

func (g *graves) find(id uint64) (grave, bool) {
	dead, ok := g.young[id]
	if !ok {
		dead, ok = g.old[id]
	}
	return dead, ok
}

// void takes back what was buried behind an event.
func (g *graves) void(seq uint64) {
	for _, some := range []map[uint64]grave{g.young, g.old} {
		for id, dead := range some {
			if dead.seq > seq {
				some[id] = grave{final: dead.final}
			}
		}
	}
}
