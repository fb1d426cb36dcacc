package watch_test

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"watcher/internal/event"
	"watcher/internal/verify"
	"watcher/internal/watch/watchtest"
)

// verified holds all that was written against itself, as a user would, and whatever it claims to know against the server.
func (w *world) verified() {
	log := verify.New()
	var at []int // line behind which each comparison was made
	for i, line := range w.lines {
		log.Line([]byte(line))
		if strings.Contains(line, `"type":"watcher.stream.`) {
			for range w.compare(log, i == len(w.lines)-1) {
				at = append(at, i)
			}
		}
	}
	report := log.Report()
	first := len(w.lines)
	for _, f := range report.Findings {
		if f.Kind != verify.Restart { // it may be killed before anything was saved
			w.t.Errorf("verify: line %d: %s: %s: %s", f.Line, f.Kind, f.Stream, f.Problem)
			first = min(first, f.Line-1)
		}
	}
	for i, c := range report.Live {
		if !c.Equal {
			w.t.Errorf("verify: line %d: %s at %s: %+v", at[i]+1, c.Stream, c.ResourceVersion, c.Differences)
			first = min(first, at[i])
			break
		}
	}
	if first < len(w.lines) {
		w.t.Logf("%s", strings.Join(w.lines[max(0, first-40):first+1], "\n"))
	}
}

// compare holds what the log claims against the server, and says how often. In the middle it can do so only where no later
// rewind has made another history.
func (w *world) compare(log *verify.Log, all bool) (n int) {
	for _, c := range log.Claims() {
		position := version(c.ResourceVersion)
		if position == 0 || !all && slices.ContainsFunc(w.rewinds, func(r rewind) bool { return r.rv < position }) {
			continue
		}
		i := slices.IndexFunc(worldResources, func(r watchtest.Resource) bool { return r.Name == c.Stream.Resource })
		if err := log.Compare(c, w.existing(worldResources[i], position)); err != nil {
			w.t.Errorf("compare: %v", err)
		}
		n++
	}
	return n
}

// existing yields what existed at a position, as a list with the world's selector has it.
func (w *world) existing(res watchtest.Resource, position uint64) iter.Seq2[event.Object, error] {
	return func(yield func(event.Object, error) bool) {
		for _, o := range w.srv.StateAt(res, position) {
			var body struct {
				Metadata struct {
					Generation int64             `json:"generation"`
					Labels     map[string]string `json:"labels"`
				} `json:"metadata"`
			}
			if err := json.Unmarshal(o.JSON, &body); err != nil {
				yield(event.Object{}, err)
				return
			}
			if w.selects && body.Metadata.Labels["keep"] != "yes" {
				continue
			}
			ob := event.Object{
				Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: strconv.FormatUint(o.RV, 10),
				Generation: body.Metadata.Generation, Body: o.JSON,
			}
			if !yield(ob, nil) {
				return
			}
		}
	}
}
