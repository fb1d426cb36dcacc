package watch_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"watcher/internal/event"
	"watcher/internal/watch/watchtest"
)

// A judge reads the events of one stream in order, and holds them against the facts.
type judge struct {
	*world
	res   watchtest.Resource
	epoch int    // of the server, as far as the log has followed it
	ids   uint64 // what ids begin with
	told  []int  // by ids: how many rewinds the log has told of
	all   []fact
	view  map[string]uint64 // uid → version, as who reads the log knows it
	undo  []undo
	seq   uint64

	listing  bool
	gap      string
	anew     bool // everything is listed again
	lenient  bool // everything may be listed again
	since    string
	astray   bool // what is written is of an epoch that the log has not told of yet: it must, next
	relisted map[string]bool
	wrote    event.SyncedData
}

type undo struct {
	uid  string
	rv   uint64 // 0: it was not there
	left bool   // the filter left it out: it has no event
}

// judge holds what was written of a resource against what happened to it.
func (w *world) judge(res watchtest.Resource) {
	j := &judge{world: w, res: res, all: w.facts(res, 0), told: []int{0}, view: map[string]uint64{}}
	for _, ev := range w.of(res.Name) {
		j.read(ev)
		if w.t.Failed() {
			all := w.said(res.Name)
			i := slices.Index(w.of(res.Name), ev)
			w.t.Logf("%s", strings.Join(all[max(0, i-40):i+1], "\n"))
			return
		}
	}
	for more := true; more && !j.covered(1<<62); { // the last rewinds may have changed nothing that was seen
		more = j.follow(nil)
	}
	if j.astray {
		w.t.Errorf("%s: the log never tells of the rewind: astray since %s, of %v", res.Name, j.since, w.rewinds)
	}
	if !j.covered(1 << 62) {
		c := j.all[j.first()]
		w.t.Errorf("%s: never written: %v %s@%d", res.Name, c.is, c.Name, c.RV)
	}
}

func (j *judge) fail(ev *event.Event, format string, args ...any) {
	j.t.Helper()
	j.t.Errorf("%s: %s: %s; %s", j.res.Name, short(ev), fmt.Sprintf(format, args...), j.whereabouts(ev))
}

func version(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64) // "" is 0: no position yet
	return n
}

// first is the index of the first fact that is not done.
func (j *judge) first() int {
	return slices.IndexFunc(j.all, func(f fact) bool { return !f.done })
}

// covered is whether everything up to rv is written, or rightly filtered.
func (j *judge) covered(rv uint64) bool {
	for i := range j.all {
		f := &j.all[i]
		if f.RV > rv {
			break
		}
		if !f.done && !j.leaveOut(f) {
			return false
		}
	}
	return true
}

// leaveOut passes over a fact that --only leaves out.
func (j *judge) leaveOut(f *fact) bool {
	if j.only == 0 || f.is != event.Modified || f.parts&j.only != 0 {
		return false
	}
	f.done = true
	j.undo = append(j.undo, undo{f.UID, j.view[f.UID], true})
	j.view[f.UID] = f.RV
	j.count("filtered")
	return true
}

// follow takes the log over into the server's next epoch, if nothing that the log holds was undone by it.
func (j *judge) follow(ev *event.Event) bool {
	if j.epoch == len(j.rewinds) || ev != nil && j.pending(ev) <= j.epoch {
		return false
	}
	for _, f := range j.all {
		if f.done && f.RV > j.rewinds[j.epoch].rv {
			return false
		}
	}
	j.epoch++
	old := j.all
	j.all = j.facts(j.res, j.epoch)
	for i := range j.all {
		j.all[i].done = i < len(old) && old[i].RV == j.all[i].RV && old[i].UID == j.all[i].UID && old[i].done
	}
	return true
}

func (j *judge) read(ev *event.Event) {
	j.t.Helper()
	if ev.Epoch != j.ids && ev.Type != event.Started {
		j.fail(ev, "epoch %d, want %d", ev.Epoch, j.ids)
	}
	if ev.Type.OfObject() {
		if j.seq++; ev.Seq != j.seq {
			j.fail(ev, "seq is %d, want %d", ev.Seq, j.seq)
		}
		switch {
		case j.astray:
			j.note(ev)
		case j.listing:
			j.listed(ev)
		default:
			j.live(ev)
		}
		return
	}
	switch d := ev.Data.(type) {
	case event.StartedData:
		j.started(ev, d)
	case event.GapData:
		j.gapped(ev, d)
	case event.SyncedData:
		j.synced(ev, d)
	case event.ProgressData:
		j.at(ev, d.ResourceVersion)
		if d.Seq != j.seq {
			j.fail(ev, "seq is %d, want %d", d.Seq, j.seq)
		}
	case event.StoppedData:
		j.at(ev, d.ResourceVersion)
	}
}

// note takes an event as it is.
func (j *judge) note(ev *event.Event) {
	if ev.Type > event.Modified {
		j.set(ev.Object.UID, 0)
	} else {
		j.set(ev.Object.UID, version(ev.Object.ResourceVersion))
	}
}

// goAstray is whether an event of a repair is of an epoch that the log does not know of yet: the API server was restored
// while it was asked.
func (j *judge) goAstray(ev *event.Event) bool {
	if j.pending(ev) <= j.epoch || ev.Origin == event.Live {
		return false
	}
	j.astray, j.since = true, short(ev)+"; "+j.whereabouts(ev)
	j.count("astray")
	if ev.Type.OfObject() {
		j.note(ev)
	}
	return true
}

// at is a claim that everything up to a version is written.
func (j *judge) at(ev *event.Event, rv string) {
	if j.listing || j.astray {
		return
	}
	for !j.covered(version(rv)) {
		if !j.follow(ev) {
			j.fail(ev, "%d is not written", j.all[j.first()].RV)
			return
		}
	}
}

// set changes the view, so that it can be taken back.
func (j *judge) set(uid string, rv uint64) {
	j.undo = append(j.undo, undo{uid, j.view[uid], false})
	if rv == 0 {
		delete(j.view, uid)
	} else {
		j.view[uid] = rv
	}
}

// started goes on from what was durable when the process started, and nowhere else; what comes after that may come again.
func (j *judge) started(ev *event.Event, d event.StartedData) {
	life := j.life(ev)
	from := life.from[ev.Stream.Key()]
	for j.seq > from.Seq || len(j.undo) > 0 && j.undo[len(j.undo)-1].left {
		last := j.undo[len(j.undo)-1]
		if j.undo = j.undo[:len(j.undo)-1]; !last.left {
			j.seq--
		}
		if last.rv == 0 {
			delete(j.view, last.uid)
		} else {
			j.view[last.uid] = last.rv
		}
		j.count("repeated")
	}
	if j.seq != from.Seq {
		j.fail(ev, "the state knows %d events, of which %d are written", from.Seq, j.seq)
	}
	if from.Epoch < j.ids { // the rewind that it told of comes again
		j.count("rewind told again")
		j.epoch = j.told[from.Epoch]
		j.all = j.facts(j.res, j.epoch)
	}
	j.ids = from.Epoch
	if ev.Epoch != from.Epoch {
		j.fail(ev, "epoch %d, want the saved %d", ev.Epoch, from.Epoch)
	}
	if d.Seq != from.Seq {
		j.fail(ev, "seq %d, want the saved %d", d.Seq, from.Seq)
	}
	if d.Resumed != (from.ResourceVersion != "") || d.Resumed && d.ResourceVersion != from.ResourceVersion {
		j.fail(ev, "what was saved is %+v", from)
	}
	j.wrote, j.gap, j.listing, j.anew, j.relisted = event.SyncedData{}, "", !d.Resumed, from.Healing == "rewind" && !d.Resumed, map[string]bool{}
	if j.lenient = !d.Resumed && life.rewinds > j.epoch; j.lenient { // nothing is covered
		j.epoch, j.astray = life.rewinds, false
		j.all = j.facts(j.res, j.epoch)
	}
	j.back(from)
	if d.Resumed {
		j.count("resumed")
	}
}

// back takes back what was written after a checkpoint.
func (j *judge) back(c event.Checkpoint) {
	for i := range j.all {
		f := &j.all[i]
		f.done = f.RV <= version(c.ResourceVersion) || f.RV == version(c.AheadAt) && slices.Contains(c.Ahead, f.UID)
		if f.done && j.view[f.UID] != 0 && j.view[f.UID] < f.RV {
			j.leaveOut(f) // the saved ledger knows of it
		}
	}
}

func (j *judge) gapped(ev *event.Event, d event.GapData) {
	j.count("gap")
	switch {
	case d.Reason == "rewind":
		j.count("gap of a rewind")
		if j.pending(ev) <= j.told[j.ids] {
			j.fail(ev, "there was no rewind")
		}
		j.epoch = j.pending(ev)
		j.told = append(j.told[:j.ids+1], j.epoch)
		j.all = j.facts(j.res, j.epoch)
		j.anew, j.astray, j.relisted = true, false, map[string]bool{}
		j.ids++
	case j.listing && j.gap == "": // a snapshot begins again
	case j.listing:
		j.fail(ev, "in the middle of a repair")
	default:
		j.at(ev, d.From)
	}
	j.listing, j.gap, j.wrote = true, ev.ID, event.SyncedData{}
}

// pending is how many rewinds there were until an event.
func (j *judge) pending(ev *event.Event) int {
	n := 0
	for n < len(j.rewinds) && !j.rewinds[n].at.After(ev.Time) {
		n++
	}
	return n
}

// state is an object in one version.
func (j *judge) state(uid string, rv uint64) *fact {
	for i := range j.all {
		if f := &j.all[i]; f.UID == uid && f.RV == rv && f.is <= event.Modified {
			return f
		}
	}
	return nil
}

// synced is complete: who reads the log knows what existed at its version, no more and no less.
func (j *judge) synced(ev *event.Event, d event.SyncedData) {
	rv := version(d.ResourceVersion)
	if j.astray {
		j.listing, j.anew = false, false
		return
	}
	wrong := j.unlike(rv)
	for wrong != "" && j.follow(ev) {
		wrong = j.unlike(rv)
	}
	if wrong != "" && j.goAstray(ev) {
		return
	}
	if wrong != "" {
		j.fail(ev, "%s", wrong)
	}
	if !j.listing {
		j.fail(ev, "of what?")
	}
	w := j.wrote
	if d.Present != w.Present || d.Added != w.Added || d.Modified != w.Modified || d.Deleted != w.Deleted || d.Left != w.Left {
		j.fail(ev, "it counts %+v, written were %+v", d, w)
	}
	if (d.Healed != nil) != (j.gap != "") || d.Healed != nil && d.Deletions != "known" {
		j.fail(ev, "healed is %+v", d.Healed)
	}
	for i := range j.all {
		j.all[i].done = j.all[i].RV <= rv
	}
	j.listing, j.anew, j.lenient = false, false, false
}

// unlike compares the view with what existed at a version; "" is no difference.
func (j *judge) unlike(rv uint64) string {
	exists := map[string]fact{}
	for _, f := range j.all {
		switch {
		case f.RV > rv:
		case f.is <= event.Modified:
			exists[f.UID] = f
		default:
			delete(exists, f.UID)
		}
	}
	for uid, f := range exists {
		switch was := j.view[uid]; {
		case was == f.RV && (!j.anew || j.relisted[uid]):
		case was != 0 && !j.anew && j.only != 0 && j.filteredBetween(uid, was, f):
			j.undo = append(j.undo, undo{uid, was, true})
			j.view[uid] = f.RV
		default:
			return fmt.Sprintf("%s@%d existed, the log knows it at %d", f.Name, f.RV, was)
		}
	}
	for uid, was := range j.view {
		if _, ok := exists[uid]; !ok {
			return fmt.Sprintf("%s@%d was gone, and that is not in the log", uid, was)
		}
	}
	return ""
}

func (j *judge) filteredBetween(uid string, was uint64, f fact) bool {
	old := j.state(uid, was)
	if old == nil || differ(object(old.JSON), object(f.JSON))&j.only != 0 {
		return false
	}
	j.count("filtered in a repair")
	return true
}
