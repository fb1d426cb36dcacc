package verify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"watcher/internal/event"
)

// A Kind sorts findings by what is wrong.
type Kind string

// What can be wrong with a log. The first five say that the log is not what was written, the others that it is, and that
// it says itself where it could not see.
const (
	Missing  Kind = "missing"  // lines that must have been there are not
	Repeated Kind = "repeated" // a line came again though nothing had begun anew
	Order    Kind = "order"    // a line is where it cannot be
	Altered  Kind = "altered"  // a line contradicts itself, or what was said before
	Torn     Kind = "torn"     // a line is cut, and no started follows

	Unhealed  Kind = "unhealed"  // a first list or a repair that did not finish
	Deletions Kind = "deletions" // what was deleted in a gap is not known
	Restart   Kind = "restart"   // a run began anew, behind one that had covered something
)

// A Finding is something that is not accounted for.
type Finding struct {
	Kind    Kind   `json:"kind"`
	Line    int    `json:"line"`             // counted from 1
	Stream  string `json:"stream,omitempty"` // as in Stream.Name; absent if the line does not tell
	Problem string `json:"problem"`
}

// A Report says what a log covers and what is wrong with it.
type Report struct {
	OK       bool         `json:"ok"` // everything is accounted for, and the cluster is as the log says if it was compared
	Lines    int          `json:"lines"`
	Events   int          `json:"events"`         // of objects
	Torn     []int        `json:"torn,omitempty"` // lines that a kill cut, which is no finding
	Streams  []Stream     `json:"streams"`        // in the order in which they appear
	Kinds    map[Kind]int `json:"kinds"`          // how many findings there are of each kind; no other has any
	Findings []Finding    `json:"findings"`       // in the order of the lines, the first 20 of each kind
	Live     []Comparison `json:"live,omitempty"` // with the cluster, one a stream
}

// A Stream is one resource × scope × selector, and what the log says of it.
type Stream struct {
	Cluster       string   `json:"cluster"`
	Group         string   `json:"group"`
	Version       string   `json:"version"`
	Resource      string   `json:"resource"`
	Kind          string   `json:"kind"`
	Namespace     string   `json:"namespace,omitempty"` // absent: all, or a cluster-scoped resource
	LabelSelector string   `json:"labelSelector,omitempty"`
	FieldSelector string   `json:"fieldSelector,omitempty"`
	Filter        []string `json:"filter,omitempty"` // --only of its last run
	Payload       string   `json:"payload"`          // of its last run

	Runs     int       `json:"runs"`     // how often it was started
	From     string    `json:"from"`     // resourceVersion at which coverage begins
	FromTime time.Time `json:"fromTime"` // when
	To       string    `json:"to"`       // resourceVersion up to which everything is written; empty: a first list did not finish
	ToTime   time.Time `json:"toTime,omitzero"`
	Stopped  bool      `json:"stopped"` // cleanly, at the end

	Events    int    `json:"events"`    // of objects
	Missing   int    `json:"missing"`   // events that are not in the log, as seq tells
	Repeated  int    `json:"repeated"`  // events behind which a crash went back: they came again, or were repaired
	Misplaced int    `json:"misplaced"` // events that came again or out of order otherwise
	Objects   int    `json:"objects"`   // that exist at To
	Gaps      []Gap  `json:"gaps"`      // in order
	Epoch     uint64 `json:"epoch"`     // how often the API server was restored from a backup
}

// Name is what a finding calls the stream: as a user would tell run what to watch.
func (s *Stream) Name() string {
	name := s.Resource
	if s.Group != "" {
		name += "." + s.Group
	}
	if s.Namespace != "" {
		name += " -n " + s.Namespace
	}
	if s.LabelSelector != "" {
		name += " -l " + s.LabelSelector
	}
	if s.FieldSelector != "" {
		name += " --field-selector " + s.FieldSelector
	}
	return name
}

// A Gap is a time in which changes may have gone unseen, and what became of it.
type Gap struct {
	Line     int       `json:"line"`
	Reason   string    `json:"reason"`
	From     string    `json:"from"` // resourceVersion
	FromTime time.Time `json:"fromTime"`
	ToTime   time.Time `json:"toTime"`
	// Superseded is the line at which it was begun again, or at which a run resumed before it; 0: none.
	Superseded int `json:"superseded,omitempty"`
	// Synced is the line at which its repair was complete; 0: it was not.
	Synced int `json:"synced,omitempty"`
	// Repair is what the repair says that it wrote.
	Repair *event.SyncedData `json:"repair,omitempty"`
}

// mostFindings is how many findings of one kind are kept: a log that lost a gigabyte is not described line by line.
const mostFindings = 20

// findings keeps the first of each kind, and counts the rest.
type findings struct {
	kept   []Finding
	counts map[Kind]int
}

func (f *findings) add(k Kind, line int, stream, format string, args ...any) {
	f.counts[k]++
	if f.counts[k] <= mostFindings {
		f.kept = append(f.kept, Finding{k, line, stream, fmt.Sprintf(format, args...)})
	}
}

// Report says what was found so far. Reading may go on afterwards.
func (l *Log) Report() *Report {
	r := &Report{Lines: l.lines, Streams: []Stream{}, Torn: slices.Concat(l.torn, l.cut), Live: l.compared}
	all := findings{slices.Clone(l.found.kept), maps.Clone(l.found.counts)}
	for _, s := range l.streams {
		s.unfinished(&all)
		sum := s.sum
		sum.Epoch = s.epoch
		sum.Gaps, sum.Objects = slices.Clone(s.sum.Gaps), s.objects.count()
		r.Events += sum.Events
		r.Streams = append(r.Streams, sum)
	}
	slices.SortStableFunc(all.kept, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	r.Findings, r.Kinds = append([]Finding{}, all.kept...), all.counts
	r.OK = len(r.Findings) == 0 && !slices.ContainsFunc(r.Live, func(c Comparison) bool { return !c.Equal })
	return r
}
