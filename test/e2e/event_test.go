package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// An event is one line of watcher's.
type event struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            data      `json:"data"`
}

// data has the members of all types of events.
type data struct {
	Op              string          `json:"op"`
	Seq             uint64          `json:"seq"`
	Origin          string          `json:"origin"`
	Gap             string          `json:"gap"`
	Group           string          `json:"group"`
	Version         string          `json:"version"`
	Resource        string          `json:"resource"`
	Kind            string          `json:"kind"`
	Namespace       string          `json:"namespace"`
	Name            string          `json:"name"`
	UID             string          `json:"uid"`
	ResourceVersion string          `json:"resourceVersion"`
	Generation      int64           `json:"generation"`
	Changed         []string        `json:"changed"`  // nil: absent
	Actor           *actorData      `json:"actor"`    // nil: absent
	Inferred        json.RawMessage `json:"inferred"` // of an object event true, of synced a number
	Stale           bool            `json:"stale"`
	Ambiguous       bool            `json:"ambiguous"`
	Object          json.RawMessage `json:"object"`
	ObjectOmitted   *struct {
		Bytes  int    `json:"bytes"`
		SHA256 string `json:"sha256"`
	} `json:"objectOmitted"`

	Namespaces    []string `json:"namespaces"`
	LabelSelector string   `json:"labelSelector"`
	FieldSelector string   `json:"fieldSelector"`
	Payload       string   `json:"payload"`
	Resumed       bool     `json:"resumed"`
	Reason        string   `json:"reason"`
	From          string   `json:"from"`
	Present       int      `json:"present"`
	Added         int      `json:"added"`
	Modified      int      `json:"modified"`
	Deleted       int      `json:"deleted"`
	Left          int      `json:"left"`
	Net           int      `json:"net"`
	Deletions     string   `json:"deletions"`
}

type actorData struct{ Manager, Operation, Time string }

func (d *data) inferred() bool { return string(d.Inferred) == "true" }

// inferences are how many objects a repair knows of only that they are gone.
func (d *data) inferences() int {
	n, err := strconv.Atoi(string(d.Inferred))
	if err != nil {
		return 0 // absent
	}
	return n
}

func (e *event) is(typ string) bool {
	return e.Type == "watcher.stream."+typ || e.Type == "watcher.object."+typ
}
func (e *event) ofObject() bool { return strings.HasPrefix(e.Type, "watcher.object.") }
func (e *event) live() bool     { return e.Data.Origin == "live" }

// of reports whether the event is about that object.
func (e *event) of(op, namespace, name string) bool {
	return e.Data.Op == op && e.Data.Namespace == namespace && e.Data.Name == name
}

func count(evs []event, match func(*event) bool) int {
	return len(pick(evs, match))
}

func pick(evs []event, match func(*event) bool) []event {
	var found []event
	for i := range evs {
		if match(&evs[i]) {
			found = append(found, evs[i])
		}
	}
	return found
}

// whole returns the events of a log. Lines that are none, torn by a kill, are left out.
func whole(log []byte) (evs []event) {
	for line := range bytes.Lines(log) {
		var ev event
		if json.Unmarshal(line, &ev) == nil {
			evs = append(evs, ev)
		}
	}
	return evs
}

func only(typ string) func(*event) bool { return func(ev *event) bool { return ev.is(typ) } }

// has returns a condition on events: that there is such a one.
func has(op, namespace, name string) func([]event) bool {
	return func(evs []event) bool {
		return count(evs, func(ev *event) bool { return ev.of(op, namespace, name) }) > 0
	}
}

// A trail is what audit remembers of one stream.
type trail struct {
	seq, statements  uint64
	started, stopped bool
	resumed          bool           // its first seq is the next one of the run before
	gap              string         // since a gap, until its synced
	seen             map[string]int // events, by id
	wrote            map[string]int // since the last gap, by op
	last             time.Time
}

// audit returns what is wrong with the log of one process that has ended, whatever it was told to watch.
func audit(evs []event) (problems []string) {
	narrow := map[string]bool{} // sources with a stream a namespace
	for _, ev := range evs {
		if ev.is("started") && ev.Data.Namespace != "" {
			narrow[ev.Source] = true
		}
	}
	trails := map[string]*trail{}
	for i := range evs {
		ev := &evs[i]
		key := ev.Source
		if narrow[key] {
			key += " in " + ev.Data.Namespace
		}
		tr := trails[key]
		if tr == nil {
			tr = &trail{seen: map[string]int{}, wrote: map[string]int{}}
			trails[key] = tr
		}
		for _, p := range tr.follow(ev) {
			problems = append(problems, fmt.Sprintf("event %d, %s of %s: %s", i+1, ev.ID, key, p))
		}
	}
	for key, tr := range trails {
		if !tr.stopped {
			problems = append(problems, key+": no stopped at the end")
		}
	}
	return problems
}

func (tr *trail) follow(ev *event) (problems []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	check(ev.SpecVersion == "1.0" && ev.DataContentType == "application/json", "is no CloudEvent")
	check(ev.Source == source(&ev.Data), "source %s", ev.Source)
	check(!tr.stopped, "comes after stopped")
	check(tr.started || ev.is("started"), "comes before started")
	check(!ev.Time.Before(tr.last), "is older than the event before it")
	tr.last = ev.Time
	if ev.ofObject() {
		tr.object(ev, check)
	} else {
		tr.statement(ev, check)
	}
	return problems
}

func (tr *trail) object(ev *event, check func(bool, string, ...any)) {
	d := &ev.Data
	if tr.resumed && tr.seq == 0 {
		tr.seq = d.Seq - 1
	}
	tr.seq++
	check(d.Seq == tr.seq, "seq %d, want %d", d.Seq, tr.seq)
	check(ev.Type == "watcher.object."+d.Op, "type %s of op %s", ev.Type, d.Op)
	check(ev.Subject == strings.TrimPrefix(d.Namespace+"/"+d.Name, "/"), "subject %s", ev.Subject)
	check(ev.ID == id(d.Op, d.UID, d.ResourceVersion), "has not the id of %s %s at %s", d.Op, d.UID, d.ResourceVersion)
	check((d.Op == "present") == (d.Origin == "snapshot"), "op %s of origin %s", d.Op, d.Origin)
	check((d.Origin == "repair") == (tr.gap != "") && d.Gap == tr.gap, "origin %s for gap %q; open is %q", d.Origin, d.Gap, tr.gap)
	check(!d.inferred() || (d.Op == "deleted" || d.Op == "left") && d.Origin == "repair", "is inferred")
	check(!d.Stale || d.inferred() && len(d.Object) > 0, "is stale")
	tr.seen[ev.ID]++
	check(tr.seen[ev.ID] == 1, "was written before")
	tr.wrote[d.Op]++
}

func (tr *trail) statement(ev *event, check func(bool, string, ...any)) {
	tr.statements++
	n, err := strconv.ParseUint(ev.ID[strings.LastIndexByte(ev.ID, '.')+1:], 10, 64)
	check(err == nil && n == tr.statements, "want number %d", tr.statements)
	d := &ev.Data
	switch strings.TrimPrefix(ev.Type, "watcher.stream.") {
	case "started":
		check(!tr.started, "a second one")
		tr.started, tr.resumed = true, d.Resumed
	case "gap":
		tr.gap, tr.wrote = ev.ID, map[string]int{}
	case "synced":
		got := [...]int{d.Present, d.Added, d.Modified, d.Deleted, d.Left}
		want := [...]int{tr.wrote["present"], tr.wrote["added"], tr.wrote["modified"], tr.wrote["deleted"], tr.wrote["left"]}
		check(got == want, "counts %v objects, %v were written", got, want)
		check((d.Deletions != "") == (tr.gap != ""), "deletions %q", d.Deletions)
		tr.gap = ""
	case "progress":
		check(d.Seq == tr.seq || tr.resumed && tr.seq == 0, "seq %d, the last one was %d", d.Seq, tr.seq)
	case "stopped":
		tr.stopped = true
	default:
		check(false, "unknown type %s", ev.Type)
	}
}

// id is what the contract says an object event's id is.
func id(op, uid, resourceVersion string) string {
	switch op {
	case "deleted":
		return uid + ".deleted"
	case "left":
		return uid + "." + resourceVersion + ".left"
	default:
		return uid + "." + resourceVersion
	}
}

// source is what the contract says an event's source is. All clusters here are named dev.
func source(d *data) string {
	if d.Group == "" {
		return "/clusters/dev/api/" + url.PathEscape(d.Version) + "/" + d.Resource
	}
	return "/clusters/dev/apis/" + d.Group + "/" + d.Version + "/" + d.Resource
}
