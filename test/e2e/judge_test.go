package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// A verdict is what a log turned out to be beside what happened.
type verdict struct {
	problems []string
	runs     []runOf // in the order in which watcher was started
	torn     int     // lines
	reasons  string  // that gaps may have
	streams  map[string]*judge
}

// A runOf is what one run of watcher found and wrote.
type runOf struct {
	unsaved     int           // events of the runs before that the saved positions did not cover
	age         time.Duration // of the oldest of them, when the run before wrote its last line
	repeats     int
	gaps, heals int // how many were begun, and how many ended
	void        int // objects that a run before has written about without saving it, and that went in the gap
	net         int // objects healed, by how much was found out
	inferred    int
}

// judgeLog holds a log against what happened to each resource, by name. Gaps may have those reasons.
func judgeLog(t *testing.T, path string, pasts map[string]*past, reasons string) *verdict {
	t.Helper()
	v := &verdict{streams: map[string]*judge{}, reasons: reasons}
	for resource, p := range pasts {
		v.streams[resource] = &judge{verdict: v, resource: resource, past: p, seen: map[string]int{}, fold: map[string]line{}, doubtful: map[string]bool{}}
	}
	f, err := os.Open(path)
	must(t, f, err)
	defer func() { _ = f.Close() }()
	broken := false // the line before has no end, or is none
	for n, r := 1, bufio.NewReaderSize(f, 1<<20); ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				v.problem("line %d has no end", n)
			}
			break
		}
		must(t, line, err)
		var ev event
		if json.Unmarshal(line, &ev) != nil {
			broken = true
			if len(line) > 1 {
				v.torn++
			}
			continue
		}
		if broken && !ev.is("started") {
			v.problem("line %d: a torn line, and no start behind it but %s", n, ev.ID)
		}
		broken = false
		v.follow(n, &ev)
	}
	for _, j := range v.streams {
		j.end()
	}
	return v
}

func (v *verdict) problem(format string, args ...any) {
	if len(v.problems) < 50 {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) follow(n int, ev *event) {
	j := v.streams[ev.Data.Resource]
	if j == nil {
		v.problem("line %d, %s: nobody recorded %s", n, ev.ID, ev.Data.Resource)
		return
	}
	j.check = func(ok bool, format string, args ...any) {
		if !ok {
			v.problem("line %d, run %d, %s of %s: %s", n, j.run, ev.ID, j.resource, fmt.Sprintf(format, args...))
		}
	}
	switch {
	case ev.ofObject():
		j.object(ev)
	case ev.is("started"):
		j.started(ev)
	case ev.is("gap"):
		j.gapBegins(ev)
	case ev.is("synced"):
		j.synced(ev)
	case ev.is("stopped"):
		j.stopped = true
		j.covered(number(ev.Data.ResourceVersion))
	case ev.is("progress"):
		j.covered(number(ev.Data.ResourceVersion))
	}
	j.lastTime = ev.Time
}

// A judge follows one stream through all runs.
type judge struct {
	*verdict
	resource string
	past     *past
	check    func(ok bool, format string, args ...any) // of the line at hand

	run      int             // counted from 1
	seq      uint64          // of the last event of an object, or from which this run counts on
	from     uint64          // where this run was started
	seen     map[string]int  // ids, and the run that wrote them last
	unique   []said          // every event of an object, when it was written first
	next     int             // what of unique this run has to repeat next
	ahead    uint64          // the version of the first that it had to: what else has it may be saved by its id
	loose    bool            // this run had a gap, and repeats in another order
	fold     map[string]line // what exists by the log, by key
	doubtful map[string]bool // keys that a run before has written about, which did not come to save it, and nobody has since
	gap      string          // the id of the open one, or ""
	holes    []hole          // those that are closed; the last one may be open
	account  int             // the first change of the past that is not accounted for
	newest   uint64          // version written, or covered
	stopped  bool
	begun    time.Time // this run
	lastTime time.Time // of any event
}

// A line is what the log says of an object that exists.
type line struct {
	id  string
	seq uint64
}

type said struct {
	id      string
	version uint64
	at      time.Time
}

func (j *judge) started(ev *event) {
	j.run++
	for len(j.runs) < j.run {
		j.runs = append(j.runs, runOf{})
	}
	j.check(ev.Data.Resumed == (j.run > 1), "resumed %t (%s)", ev.Data.Resumed, ev.Data.Reason)
	j.check(ev.Data.Seq <= j.seq, "counts on from %d, written are %d", ev.Data.Seq, j.seq)
	j.loose, j.stopped, j.gap, j.seq, j.doubtful = false, false, "", ev.Data.Seq, map[string]bool{}
	for key, l := range j.fold {
		if l.seq > j.seq {
			j.doubtful[key] = true
		}
	}
	j.from = number(ev.Data.ResourceVersion)
	for j.next = len(j.unique); j.next > 0 && j.unique[j.next-1].version > j.from; {
		j.next--
	}
	if unsaved := j.unique[j.next:]; len(unsaved) > 0 {
		j.ahead = unsaved[0].version
		r := &j.runs[j.run-1]
		r.unsaved += len(unsaved)
		if healing := len(j.holes) > 0 && j.holes[len(j.holes)-1].to == 0; !healing { // while it heals, the position stays
			r.age = max(r.age, min(j.lastTime.Sub(unsaved[0].at), j.lastTime.Sub(j.begun)))
		}
	}
	j.begun = ev.Time
}

func (j *judge) object(ev *event) {
	d, version := &ev.Data, number(ev.Data.ResourceVersion)
	j.check(j.run > 0 && !j.stopped, "comes without a started")
	j.check(d.Seq == j.seq+1, "seq %d after %d", d.Seq, j.seq)
	j.seq, j.newest = d.Seq, max(j.newest, version)
	j.happened(ev, version)
	j.once(ev, version)
	key := strings.TrimPrefix(d.Namespace+"/"+d.Name, "/")
	if d.Op != "deleted" {
		j.fold[key] = line{ev.ID, d.Seq}
	} else if strings.HasPrefix(j.fold[key].id, d.UID+".") { // else it is about somebody who had the name before
		delete(j.fold, key)
	} else {
		return
	}
	delete(j.doubtful, key)
}

// happened demands that the API server told of it, and that it is called what it was.
func (j *judge) happened(ev *event, version uint64) {
	d := &ev.Data
	op, told := j.past.ops[ev.ID]
	j.check(told, "the API server told of no such %s at %d", d.Op, version)
	j.check((d.Origin == "repair") == (j.gap != "") && d.Gap == j.gap, "origin %s for gap %q, open is %q", d.Origin, d.Gap, j.gap)
	switch {
	case !told:
	case d.Origin == "snapshot":
		j.check(d.Op == "present" && j.run == 1, "%s from a snapshot in run %d", d.Op, j.run)
	case d.Origin == "live":
		j.check(d.Op == op, "is called %s, was %s", d.Op, op)
	default: // the net change of an object has the version of another kind of change
		j.check((d.Op == "deleted") == (op == "deleted") && d.Op != "present", "is called %s, was %s", d.Op, op)
	}
	if d.Op == "deleted" && told {
		died := j.past.died[d.UID]
		j.check(died == version || d.inferred() && died < version, "died at %d, not %d", died, version)
	}
}

// once demands that nothing is repeated but what lies behind the position that this run was started from, from there on
// and up to the last line of the run before.
func (j *judge) once(ev *event, version uint64) {
	in, again := j.seen[ev.ID]
	j.seen[ev.ID] = j.run
	if again {
		j.runs[j.run-1].repeats++
		j.check(in < j.run, "is written twice in one run")
		j.check(version > j.from, "is repeated; the saved position %d covered it", j.from)
		j.check(j.loose || j.repeats(ev.ID), "is not what this run had to repeat next")
		return
	}
	j.check(j.loose || j.repeats(""), "is new, and what lies behind the saved position %d is not repeated yet", j.from)
	j.unique = append(j.unique, said{ev.ID, version, ev.Time})
	j.next = len(j.unique)
}

// repeats moves behind what this run repeats next and reports whether that has this id; "" is the end of it all.
func (j *judge) repeats(id string) bool {
	for ; j.next < len(j.unique); j.next++ {
		if u := j.unique[j.next]; u.id == id {
			j.next++
			return true
		} else if u.version != j.ahead {
			return false
		}
	}
	return id == ""
}

func (j *judge) gapBegins(ev *event) {
	from := number(ev.Data.From)
	j.check(j.gap == "", "begins in gap %s", j.gap)
	j.check(strings.Contains(j.reasons, ev.Data.Reason), "the reason is %s", ev.Data.Reason)
	j.covered(from)
	j.runs[j.run-1].gaps++
	j.gap, j.loose = ev.ID, true
	j.holes = append(j.holes, hole{from: from})
}

func (j *judge) synced(ev *event) {
	to := number(ev.Data.ResourceVersion)
	if j.gap == "" {
		j.holes = append(j.holes, hole{to: to}) // a snapshot tells of states, not of changes
	} else {
		j.holes[len(j.holes)-1].to = to
		r := &j.runs[j.run-1]
		r.heals, r.net, r.inferred = r.heals+1, r.net+ev.Data.Net, r.inferred+ev.Data.inferences()
		j.check(ev.Data.Deletions == "known", "deletions are %s", ev.Data.Deletions)
	}
	j.gap = ""
	j.covered(to)
	for key := range j.doubtful { // who reads the log takes it for unsaid at started, and the repair has not said it again
		delete(j.fold, key)
		j.runs[j.run-1].void++
	}
	clear(j.doubtful)
	j.compare(to)
}

// compare demands that who reads the log knows what existed at the version.
func (j *judge) compare(version uint64) {
	ids := map[string]string{}
	for key, l := range j.fold {
		ids[key] = l.id
	}
	wrong := differ(ids, j.past.at(version))
	j.check(len(wrong) == 0, "%d objects are not what they were at %d: %q", len(wrong), version, wrong[:min(3, len(wrong))])
}

// covered demands that every change up to the version is written, or lies in a gap that is closed.
func (j *judge) covered(version uint64) {
	j.newest = max(j.newest, version)
	for ; j.account < len(j.past.records) && j.past.records[j.account].version <= version; j.account++ {
		rec := j.past.records[j.account]
		if _, written := j.seen[rec.id]; !written {
			in := func(h hole) bool { return h.from < rec.version && rec.version <= h.to }
			j.check(slices.ContainsFunc(j.holes, in), "lost before it: %s of %s at %d; the gaps are %v", rec.op, rec.key, rec.version, j.holes)
		}
	}
}

// end demands that the log ends well, and that who reads it knows now what exists.
func (j *judge) end() {
	if !j.stopped {
		j.problem("%s: no stopped at the end", j.resource)
		return
	}
	j.check = func(ok bool, format string, args ...any) {
		if !ok {
			j.problem("end of %s: %s", j.resource, fmt.Sprintf(format, args...))
		}
	}
	j.covered(j.newest)
	j.compare(j.newest)
}
