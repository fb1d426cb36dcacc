package watchtest

import (
	"slices"
	"sort"
	"strconv"
	"time"
)

// An Object is one object as it was at one resourceVersion.
type Object struct {
	Namespace, Name, UID string
	RV                   uint64
	JSON                 []byte // as a GET or a watch frame has it
}

// A Change is one entry of the true history. Of a deletion, Object is the last state with the deletion's own
// resourceVersion, as its frame has it.
type Change struct {
	Object
	Type  string // ADDED, MODIFIED or DELETED
	At    time.Time
	Epoch int  // how many rewinds came before it
	Lost  bool // undone by a Rewind
}

type change struct {
	typ       string
	cur, prev *state // nil where the object is not there
	rv        uint64
	at        time.Time
	epoch     int
	lost      bool
}

// last is the state that a frame about this change shows: of a deletion the one before it.
func (c *change) last() *state {
	if c.cur != nil {
		return c.cur
	}
	return c.prev
}

// A table is the history of one resource.
type table struct {
	res     Resource
	all     []*change            // everything that ever happened
	log     []*change            // what happened, as etcd knows it now: less than all after a Rewind
	byKey   map[string][]*change // log, by object
	keys    []string             // of byKey, in order
	horizon uint64               // the watch cache knows nothing below
	face    Face
	removed bool
}

func newTable(r Resource) *table {
	return &table{res: r, byKey: map[string][]*change{}}
}

func (t *table) append(c *change) {
	st := c.last()
	key := t.res.key(st.namespace, st.name)
	if _, ok := t.byKey[key]; !ok {
		i, _ := slices.BinarySearch(t.keys, key)
		t.keys = slices.Insert(t.keys, i, key)
	}
	t.log = append(t.log, c)
	t.byKey[key] = append(t.byKey[key], c)
}

// at returns the object under key as it was at rv, or nil.
func (t *table) at(key string, rv uint64) *state {
	log := t.byKey[key]
	if i := after(log, rv); i > 0 {
		return log[i-1].cur
	}
	return nil
}

// after is the index of the first change above rv.
func after(log []*change, rv uint64) int {
	return sort.Search(len(log), func(i int) bool { return log[i].rv > rv })
}

// Create adds an object and returns its resourceVersion. The key is "namespace/name", or "name" for a resource of
// the whole cluster.
func (s *Server) Create(r Resource, key string, edits ...Edit) uint64 {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.create(r, key, edits)
}

func (s *Server) create(r Resource, key string, edits []Edit) uint64 {
	s.tb.Helper()
	t := s.table(r)
	namespace, name, ok := r.split(key)
	if !ok {
		s.tb.Fatalf("create %s %q: the key is no namespace/name, or no name if it belongs to the whole cluster", r, key)
	}
	if t.at(key, s.rv) != nil {
		s.tb.Fatalf("create %s %q: it is there already", r, key)
	}
	s.uids++
	d := &draft{state: state{namespace: namespace, name: name}}
	d.meta = d.meta.with(d, "name", marshal(name))
	if namespace != "" {
		d.meta = d.meta.with(d, "namespace", marshal(namespace))
	}
	d.meta = d.meta.with(d, "uid", `"00000000-0000-4000-8000-`+leftPad(strconv.FormatUint(s.uids, 16), 12)+`"`)
	d.meta = d.meta.with(d, "creationTimestamp", marshal(time.Now().UTC().Format(time.RFC3339)))
	return s.write(t, "ADDED", d, nil, edits)
}

// Update changes an object and returns its new resourceVersion. As with a real server an update that changes
// nothing is none: the old resourceVersion is returned and nobody is told.
func (s *Server) Update(r Resource, key string, edits ...Edit) uint64 {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(r)
	prev := t.at(key, s.rv)
	if prev == nil {
		s.tb.Fatalf("update %s %q: there is none", r, key)
	}
	return s.write(t, "MODIFIED", &draft{state: *prev}, prev, edits)
}

// Apply creates the object, or updates it if it is there.
func (s *Server) Apply(r Resource, key string, edits ...Edit) uint64 {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(r)
	if prev := t.at(key, s.rv); prev != nil {
		return s.write(t, "MODIFIED", &draft{state: *prev}, prev, edits)
	}
	return s.create(r, key, edits)
}

func (s *Server) write(t *table, typ string, d *draft, prev *state, edits []Edit) uint64 {
	s.tb.Helper()
	for _, edit := range edits {
		edit(d)
	}
	d.finish(prev)
	if d.err != nil {
		s.tb.Fatalf("write %s %q: %v", t.res, t.res.key(d.namespace, d.name), d.err)
	}
	if prev != nil && prev.same(&d.state) {
		return prev.rv
	}
	s.rv++
	d.rv = s.rv
	s.record(t, &change{typ: typ, cur: &d.state, prev: prev, rv: s.rv})
	return s.rv
}

// Delete removes an object and returns the deletion's resourceVersion.
func (s *Server) Delete(r Resource, key string) uint64 {
	s.tb.Helper()
	return s.DeleteTogether(r, key)
}

// DeleteTogether removes several objects at one resourceVersion, as an expiring lease of etcd does.
func (s *Server) DeleteTogether(r Resource, keys ...string) uint64 {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(r)
	for _, key := range keys {
		if t.at(key, s.rv) == nil {
			s.tb.Fatalf("delete %s %q: there is none", r, key)
		}
	}
	s.rv++
	for _, key := range keys {
		s.record(t, &change{typ: "DELETED", prev: t.at(key, s.rv), rv: s.rv})
	}
	return s.rv
}

func (s *Server) record(t *table, c *change) {
	c.at, c.epoch = time.Now(), s.epoch
	t.all = append(t.all, c)
	t.append(c)
	for _, lw := range s.watches {
		if lw.table == t {
			if s.backlog > 0 && len(t.log)-lw.next > s.backlog {
				s.order(lw, act{name: "slow", end: endClean})
			}
			lw.rouse()
		}
	}
	s.moved()
}

// RV is the resourceVersion of the newest write.
func (s *Server) RV() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rv
}

// Advance moves the resourceVersion by n without a change to any of the resources, as writes to others do, and
// returns the new one.
func (s *Server) Advance(n uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rv += n
	return s.rv
}

// History is everything that ever happened to the resource, in order, with what a Rewind undid.
func (s *Server) History(r Resource) []Change {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(r)
	out := make([]Change, 0, len(t.all))
	for _, c := range t.all {
		out = append(out, Change{Object: c.last().object(t.res, c.rv), Type: c.typ, At: c.at, Epoch: c.epoch, Lost: c.lost})
	}
	return out
}

// StateAt is every object of the resource as it was at rv, in the order of a LIST. It knows also what is compacted.
func (s *Server) StateAt(r Resource, rv uint64) []Object {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.table(r)
	var out []Object
	for _, key := range t.keys {
		if st := t.at(key, rv); st != nil {
			out = append(out, st.object(t.res, st.rv))
		}
	}
	return out
}

func (st *state) object(r Resource, rv uint64) Object {
	return Object{Namespace: st.namespace, Name: st.name, UID: st.uid, RV: rv, JSON: st.render(r, rv)}
}

func leftPad(s string, n int) string {
	for len(s) < n {
		s = "0" + s
	}
	return s
}
