package watch

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/fields"

	"watcher/internal/event"
)

// errInexact says that the API server ignores which version it is asked for, as some aggregated APIs do. What it answers
// is of another time, and proves nothing.
var errInexact = errors.New("the API server does not answer for exact versions")

// sparse reads the same objects without their bodies.
func (s *source) sparse() *source {
	c := *s
	c.sel.Payload, c.cutter.body = PayloadMetadata, false
	return &c
}

// terse reads who they are, their versions and attributions, and nothing else: in protobuf, where that is to be had.
func (s *source) terse() *source {
	c := s.sparse()
	c.protobuf = true
	return c
}

// named reads one object, whatever the selectors say of it.
func (s *source) named(k key) *source {
	c := *s
	c.sel.Namespace, c.sel.LabelSelector = k.namespace, ""
	c.sel.FieldSelector = fields.OneTermEqualSelector("metadata.name", k.name).String()
	return &c
}

// selected reads one object, if the selectors let it through.
func (s *source) selected(k key) *source {
	c := s.named(k)
	c.sel.LabelSelector = s.sel.LabelSelector
	if s.sel.FieldSelector != "" {
		c.sel.FieldSelector += "," + s.sel.FieldSelector
	}
	return c
}

// at returns the object that the source selects as it was at a version, or nil if it did not exist. The error may be
// errInexact. etcd reads one key, and the API server answers as long as it remembers the version, 5 to 10 minutes (KEP-365,
// "exact" in https://kubernetes.io/docs/reference/using-api/api-concepts/#resourceversion-in-lists).
func (s *source) at(ctx context.Context, version string) (*frame, error) {
	return s.listAt(version).first(ctx)
}

// A departure is what it means that an object no longer comes with the selectors; the zero value, that it was deleted.
type departure struct {
	left      bool // it exists
	ambiguous bool // or was deleted: nobody can tell
}

// as is the type of the event that says so.
func (d departure) as() event.Type {
	if d.left {
		return event.Left
	}
	return event.Deleted
}

// departurePatience is how long an API server is asked that does not answer; meanwhile nothing is read. After that, for a
// minute, it is a tenth.
const departurePatience = 5 * time.Second

// departure finds out whether an object that is gone at a version was deleted, or left the selectors. A read of the present
// would not do: it may have left, come back and been deleted since.
func (s *stream) departure(ctx context.Context, o *event.Object, version string) departure {
	if !s.mayLeave {
		return departure{}
	}
	patience := departurePatience
	if time.Since(time.Unix(0, s.deaf.Load())) < time.Minute {
		patience /= 10
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	src := s.src.named(keyOf(o))
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		f, err := src.at(ctx, version)
		switch {
		case err == nil && (f == nil || f.Object.UID != o.UID):
			return departure{}
		case err == nil:
			return departure{left: true}
		case classify(err) != retry, errors.Is(err, errInexact):
			return departure{left: true, ambiguous: true}
		case ctx.Err() != nil:
			s.deaf.Store(time.Now().UnixNano())
			return departure{left: true, ambiguous: true}
		}
		sleep(ctx, max(wait, retryAfter(err)))
	}
}
