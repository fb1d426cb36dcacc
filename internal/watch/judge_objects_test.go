package watch_test

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"watcher/internal/event"
)

// listed is an event of a snapshot or a repair.
func (j *judge) listed(ev *event.Event) {
	if ev.Gap != j.gap || (j.gap != "") != (ev.Origin == event.Repair) {
		j.fail(ev, "origin %s, gap %q, want gap %q", ev.Origin, ev.Gap, j.gap)
	}
	uid, rv := ev.Object.UID, version(ev.Object.ResourceVersion)
	was := j.view[uid]
	if ev.Type > event.Modified {
		j.departed(ev, was)
		return
	}
	f := j.state(uid, rv)
	for f == nil && j.follow(ev) {
		f = j.state(uid, rv)
	}
	if f == nil {
		if !j.goAstray(ev) {
			j.fail(ev, "there was no such state")
		}
		return
	}
	j.same(ev, f.JSON)
	switch {
	case was == rv && (!j.anew && !j.lenient || j.relisted[uid]):
		j.fail(ev, "it is written already")
	case ev.Type == event.Modified && (was == 0 || j.anew), ev.Type == event.Added && (was != 0 || j.anew):
		j.fail(ev, "before it was %d", was)
	case ev.Type == event.Modified:
		if !j.changedSince(uid, was, f, ev.Changed) {
			j.fail(ev, "changed %v", ev.Changed.Names())
		} else if j.only != 0 && ev.Changed&j.only == 0 {
			j.fail(ev, "it should have been filtered")
		}
	}
	j.relisted[uid] = true
	switch ev.Type {
	case event.Added:
		j.wrote.Added++
	case event.Modified:
		j.wrote.Modified++
	default:
		j.wrote.Present++
	}
	j.set(uid, rv)
}

// changedSince is whether these parts differ from the state before, or from a later one that the filter left out.
func (j *judge) changedSince(uid string, was uint64, f *fact, parts event.Parts) bool {
	for i := range j.all {
		between := &j.all[i]
		if between.UID == uid && between.is <= event.Modified && between.RV >= was && between.RV < f.RV &&
			(between.RV == was || j.only != 0 && differ(object(j.state(uid, was).JSON), object(between.JSON))&j.only == 0) &&
			differ(object(between.JSON), object(f.JSON)) == parts {
			return true
		}
	}
	return false
}

// departed is a deletion, or a departure from the selectors, that was not seen.
func (j *judge) departed(ev *event.Event, was uint64) {
	if was == 0 && j.goAstray(ev) {
		return
	}
	if was == 0 || !ev.Inferred {
		j.fail(ev, "it was at %d (inferred: %t)", was, ev.Inferred)
		return
	}
	if ev.Stale {
		j.count("stale")
		if f := j.state(ev.Object.UID, was); f == nil {
			j.fail(ev, "its state at %d is not known", was)
		} else {
			j.same(ev, f.JSON)
		}
	}
	if ev.Type == event.Left {
		j.wrote.Left++
	} else {
		j.wrote.Deleted++
	}
	j.departs(ev, version(ev.Object.ResourceVersion))
	j.set(ev.Object.UID, 0)
}

// departs checks what is said of why an object no longer comes, at a version.
func (j *judge) departs(ev *event.Event, rv uint64) {
	exists := false
	for _, c := range j.history[j.res.Name] {
		if c.UID == ev.Object.UID && c.RV <= rv && c.Epoch <= j.epoch && !slices.ContainsFunc(j.rewinds[c.Epoch:j.epoch], func(r rewind) bool { return c.RV > r.rv }) {
			exists = c.Type != "DELETED"
		}
	}
	switch {
	case j.pending(ev) > j.epoch && (ev.Type == event.Left) != exists: // it was asked after the rewind
	case ev.Ambiguous:
		j.count("ambiguous")
		if ev.Type != event.Left || !j.selects {
			j.fail(ev, "ambiguous")
		}
	case (ev.Type == event.Left) != exists:
		j.fail(ev, "it exists: %t", exists)
	case ev.Type == event.Left:
		j.count("left")
	}
}

// live is the very next change.
func (j *judge) live(ev *event.Event) {
	i := j.find(ev)
	for i < 0 && j.follow(ev) {
		i = j.find(ev)
	}
	if i < 0 {
		j.fail(ev, "it was written before, or never happened, or before it something is missing")
		return
	}
	f := &j.all[i]
	if ev.Origin != event.Live || ev.Gap != "" || ev.Inferred || ev.Stale {
		j.fail(ev, "it is live")
	}
	switch {
	case f.is == event.Deleted || f.is == event.Left:
		if !ev.Ambiguous && ev.Type != f.is && j.pending(ev) == j.epoch || ev.Type < event.Deleted {
			j.fail(ev, "it was %s", f.is)
		}
		j.departs(ev, f.RV)
	case ev.Type != f.is:
		j.fail(ev, "it was %s", f.is)
	case f.is == event.Modified && ev.Changed != f.parts:
		j.fail(ev, "changed %v, want %v", ev.Changed.Names(), f.parts.Names())
	case ev.Actor.Manager != f.actor:
		j.fail(ev, "actor %+v, want %q", ev.Actor, f.actor)
	case f.is == event.Modified && j.only != 0 && f.parts&j.only == 0:
		j.fail(ev, "it should have been filtered")
	}
	if f.is != event.Left { // of which the last state that matched is sent, not the next one
		j.same(ev, f.JSON)
	}
	f.done = true
	if f.is > event.Modified {
		j.set(f.UID, 0)
	} else {
		j.set(f.UID, f.RV)
	}
}

// whereabouts is what there is to know about an event that does not fit.
func (j *judge) whereabouts(ev *event.Event) string {
	out := fmt.Sprintf("at %v, selects %t, only %v, view %d; epoch %d of", ev.Time.Format(time.TimeOnly), j.selects, j.only.Names(), j.view[ev.Object.UID], j.epoch)
	for _, r := range j.rewinds {
		out += fmt.Sprintf(" [%v to %d]", r.at.Format(time.TimeOnly), r.rv)
	}
	for _, f := range j.all {
		if f.RV+10 > version(ev.Object.ResourceVersion) && f.RV < version(ev.Object.ResourceVersion)+3 || f.UID == ev.Object.UID {
			out += fmt.Sprintf(" %v %s@%d done %t", f.is, f.Name, f.RV, f.done)
		}
	}
	return out
}

// find is the index of the fact that a live event tells, if nothing before it is missing; changes of one version have no
// order among them.
func (j *judge) find(ev *event.Event) int {
	rv := version(ev.Object.ResourceVersion)
	if !j.covered(rv - 1) {
		return -1
	}
	return slices.IndexFunc(j.all, func(f fact) bool { return f.RV == rv && f.UID == ev.Object.UID && !f.done })
}

// same says whether an event carries the object's own bytes, but for managedFields and, in lists, order.
func (j *judge) same(ev *event.Event, want []byte) {
	if got, want := canonical(object(ev.Object.Body)), canonical(object(want)); !bytes.Equal(got, want) {
		j.fail(ev, "got %s, want %s", got, want)
	}
}
