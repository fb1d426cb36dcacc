package verify

import (
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"watcher/internal/event"
)

// A Claim is what the log says of one stream at the last position that it states, to be held against the cluster.
type Claim struct {
	Stream Stream
	// ResourceVersion is that position; empty if the log states none.
	ResourceVersion string
	// Bodies says that the objects must have theirs: with --only the version alone tells nothing.
	Bodies bool
	s      *stream
}

// Claims are those of all streams but the ones that another with other selectors has taken the place of.
func (l *Log) Claims() []Claim {
	var all []Claim
	for _, s := range l.streams {
		if l.places[s.place] == s {
			all = append(all, Claim{s.sum, s.objects.at, len(s.sum.Filter) > 0, s})
		}
	}
	return all
}

// A Comparison says whether the cluster is, at a version, as the log says.
type Comparison struct {
	Stream          string `json:"stream"` // as in Stream.Name
	ResourceVersion string `json:"resourceVersion"`
	Equal           bool   `json:"equal"`
	Objects         int    `json:"objects"` // in the cluster
	// Unlisted is how many of them the log need not know: it does not begin with a list.
	Unlisted    int          `json:"unlisted,omitempty"`
	Different   int          `json:"different"`
	Differences []Difference `json:"differences"` // the first 20
}

// A Difference is an object that is not as the log says.
type Difference struct {
	Object  string `json:"object"` // namespace/name
	UID     string `json:"uid"`
	Line    int    `json:"line,omitempty"` // of its last event; 0: there is none
	Problem string `json:"problem"`
}

func (c *Comparison) differ(object, uid string, line int, format string, args ...any) {
	c.Different++
	if c.Different <= mostFindings {
		c.Differences = append(c.Differences, Difference{object, uid, line, fmt.Sprintf(format, args...)})
	}
}

// Compare holds a claim against the objects that exist in the cluster at its version. The report has what came out. The
// error is the objects'.
func (l *Log) Compare(c Claim, objects iter.Seq2[event.Object, error]) error {
	r := Comparison{Stream: c.Stream.Name(), ResourceVersion: c.ResourceVersion, Differences: []Difference{}}
	known := &c.s.objects
	for _, rec := range known.byID {
		rec.seen = false
	}
	for o, err := range objects {
		if err != nil {
			return err
		}
		r.Objects++
		rec := known.byID[o.Incarnation()]
		said, exists := state{}, false
		if rec != nil {
			rec.seen = true
			said, exists = rec.state()
		}
		switch {
		case exists:
			c.s.held(&r, said, &o)
		case c.s.listed && !known.undecided(o.Incarnation()):
			r.differ(o.Key(), o.UID, 0, "exists in version %s, and by the log it does not", o.ResourceVersion)
		default:
			r.Unlisted++
		}
	}
	c.s.unseen(&r)
	r.Equal = r.Different == 0
	l.compared = append(l.compared, r)
	return nil
}

// held holds an object against what the log says of it.
func (s *stream) held(r *Comparison, said state, o *event.Object) {
	if len(s.sum.Filter) == 0 {
		if o.ResourceVersion != said.version {
			r.differ(o.Key(), o.UID, said.line, "is in version %s, and by the log in %s", o.ResourceVersion, said.version)
		}
		return
	}
	is := digest(s.objects.seed, s.sum.Payload, o.Generation, o.Body)
	for _, name := range s.sum.Filter {
		if a, b := is.of(name), said.parts.of(name); a != 0 && b != 0 && a != b {
			r.differ(o.Key(), o.UID, said.line, "has another %s in version %s than in %s, the last one in the log", name, o.ResourceVersion, said.version)
			return
		}
	}
}

// unseen finds what the log has and the cluster has not.
func (s *stream) unseen(r *Comparison) {
	var gone []*record
	for _, rec := range s.objects.byID {
		if said, exists := rec.state(); exists && said.doubt == 0 && !rec.seen {
			gone = append(gone, rec)
		}
	}
	slices.SortFunc(gone, func(a, b *record) int { return a.now.line - b.now.line })
	for _, rec := range gone {
		said, _ := rec.state()
		r.differ(rec.key, rec.id, said.line, "does not exist, and by the log it does, in version %s", said.version)
	}
}

// parts are digests of the parts of an object, as `changed` names them; 0 is one that is not known.
type parts struct{ spec, metadata, status uint64 }

func (p *parts) of(name string) uint64 {
	switch name {
	case "spec":
		return p.spec
	case "metadata":
		return p.metadata
	default:
		return p.status
	}
}

// parts are those of an event's object, if they will be needed.
func (s *stream) parts(d *data) parts {
	if len(s.sum.Filter) == 0 {
		return parts{}
	}
	return digest(s.objects.seed, s.sum.Payload, d.Generation, d.Object)
}

// digest is about the API server's own bytes. Where it sends metadata only, a change of the rest shows in the generation.
func digest(seed maphash.Seed, payload string, generation int64, body []byte) parts {
	var p parts
	var object map[string]jsontext.Value
	if len(body) > 0 && json.Unmarshal(body, &object) == nil {
		p.metadata = members(seed, object["metadata"], "resourceVersion", "generation", "managedFields")
		p.status = maphash.Bytes(seed, object["status"])
		p.spec = members(seed, body, "metadata", "status", "kind", "apiVersion")
	}
	if payload != "full" {
		p.spec, p.status = maphash.String(seed, strconv.FormatInt(generation, 10)), 0
	}
	return p
}

// members is the digest of the members of a JSON object but for some.
func members(seed maphash.Seed, object []byte, without ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var all map[string]jsontext.Value
	if json.Unmarshal(object, &all) != nil {
		return 0
	}
	var sum uint64
	for name, value := range all {
		if slices.Contains(without, name) {
			continue
		}
		h.Reset()
		_, _ = h.WriteString(name)
		_ = h.WriteByte(0)
		_, _ = h.Write(value)
		sum += h.Sum64() // their order says nothing
	}
	return sum
}
