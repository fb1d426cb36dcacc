package watch

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"

	"watcher/internal/event"
)

// A frame is one undecoded watch message, or one item of a LIST: the event that it will be. Its memory is used again once
// the sink has it.
type frame struct {
	event.Event
	verb  watch.EventType // of a watch message
	actor event.Actor     // who the object says changed it last; whether that was this change is another question
	buf   []byte          // holds the object's body
	home  *sync.Pool      // nil: it is too large to be kept
}

// frames are the messages of a watch that arrived together. client-go hands them over as one object.
type frames []*frame

// GetObjectKind implements runtime.Object, which client-go's Watch demands.
func (*frames) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. Nobody asks for copies of what a watch delivers.
func (fs *frames) DeepCopyObject() runtime.Object {
	c := slices.Clone(*fs)
	return &c
}

// A framePool keeps what has been used, for what comes. Any number of goroutines may use it.
type framePool struct {
	single   [8]sync.Pool // whose events are written, by the size of their buffers: 512 bytes, 1 KiB, … 64 KiB
	together sync.Pool    // empty ones
}

const leastFrame = 512

// get returns a frame for a body of n bytes.
func (p *framePool) get(n int) *frame {
	class := bits.Len(uint(max(n-1, 0)) / leastFrame)
	if class >= len(p.single) {
		return &frame{buf: make([]byte, 0, n)}
	}
	if f, ok := p.single[class].Get().(*frame); ok {
		return f
	}
	return &frame{buf: make([]byte, 0, leastFrame<<class), home: &p.single[class]}
}

// none returns frames to append to.
func (p *framePool) none() *frames {
	if fs, ok := p.together.Get().(*frames); ok {
		return fs
	}
	return &frames{}
}

// passed takes back frames that are handed on one by one.
func (p *framePool) passed(fs *frames) {
	clear(*fs)
	*fs = (*fs)[:0]
	p.together.Put(fs)
}

// free gives the frame back. Nothing may use its event any more.
func (f *frame) free() {
	if f.home != nil {
		*f = frame{buf: f.buf[:0], home: f.home}
		f.home.Put(f)
	}
}

// A cutter makes frames of objects: it knows what stays in, and what the items of a typed LIST lack.
type cutter struct {
	pool                             *framePool
	body, managedFields, lastApplied bool
	metadataOnly                     bool   // there is no spec and no status
	kind, apiVersion                 string // members
}

// newCutter says what is kept of the objects of res.
func newCutter(res Resource, sel Selection, pool *framePool) cutter {
	kind, apiVersion := res.Kind, res.GroupVersion().String()
	if sel.Payload != PayloadFull {
		kind, apiVersion = "PartialObjectMetadata", "meta.k8s.io/v1"
	}
	return cutter{
		pool:          pool,
		body:          sel.Payload != PayloadNone,
		managedFields: sel.ManagedFields,
		// kubectl apply keeps the whole secret in an annotation: metadata alone would give it away.
		lastApplied:  res.GroupResource() != secrets || sel.Payload == PayloadFull,
		metadataOnly: sel.Payload != PayloadFull,
		kind:         fmt.Sprintf(`"kind":%q,`, kind),
		apiVersion:   fmt.Sprintf(`"apiVersion":%q,`, apiVersion),
	}
}

// frame copies what is kept of raw, whose scan is o. Nothing in the frame aliases raw.
func (c *cutter) frame(o *object, raw []byte, names *names) *frame {
	f := c.cut(o, raw)
	f.Object = event.Object{
		Namespace: names.add(o.namespace), Name: names.add(o.name), UID: names.add(o.uid), ResourceVersion: names.add(o.resourceVersion),
		DeletionTimestamp: names.add(o.deletionTimestamp), Generation: o.generation,
		Hashes: c.hashes(o), Attribution: o.newest.attribution(),
	}
	f.actor = o.newest.actor(names)
	if c.body {
		f.Object.Body = oneLine(f.buf)
	}
	return f
}

// noGeneration is Hashes.Spec of an object that was sent without its spec, and has no generation.
const noGeneration = 1

// hashes are those of o as far as they say something. Without its spec an object has its generation, which moves with it.
func (c *cutter) hashes(o *object) event.Hashes {
	if c.metadataOnly {
		return event.Hashes{Spec: known(uint64(o.generation) + 1), Metadata: o.hashes.Metadata}
	}
	return o.hashes
}

// names makes strings, many of them in one piece of memory.
type names struct{ piece strings.Builder }

func (n *names) add(b []byte) string {
	if n.piece.Cap()-n.piece.Len() < len(b) {
		n.piece.Reset() // those who have strings in the old one keep it
		n.piece.Grow(max(4096, len(b)))
	}
	n.piece.Write(b)
	return n.piece.String()[n.piece.Len()-len(b):]
}

// oneLine replaces the line breaks of an object that was pretty printed: they can only be between tokens.
func oneLine(body []byte) []byte {
	if bytes.IndexByte(body, '\n') < 0 && bytes.IndexByte(body, '\r') < 0 {
		return body
	}
	for i, c := range body {
		if c == '\n' || c == '\r' {
			body[i] = ' '
		}
	}
	return body
}

// cut returns a frame that holds the API server's own bytes, less what is left out, plus the type that items of typed
// LISTs lack.
func (c *cutter) cut(o *object, raw []byte) *frame {
	if !c.body {
		return c.pool.get(0)
	}
	var managed, applied spans
	if !c.managedFields {
		managed = o.managedFields
	}
	if !c.lastApplied {
		applied = o.lastApplied
	}
	kind, apiVersion := c.kind, c.apiVersion
	if o.kind != nil {
		kind = ""
	}
	if o.apiVersion != nil {
		apiVersion = ""
	}
	f := c.pool.get(len(kind) + len(apiVersion) + len(raw) - managed.size() - applied.size())
	if len(kind)+len(apiVersion) == 0 {
		f.buf = appendWithout(f.buf, raw, managed, applied)
		return f
	}
	// The last comma takes the place of the object's own brace. An object that was let in has members: its metadata.
	f.buf = append(append(append(f.buf, '{'), kind...), apiVersion...)
	brace := len(f.buf) - 1
	f.buf = appendWithout(f.buf[:brace], raw, managed, applied)
	f.buf[brace] = ','
	return f
}

// check refuses what cannot be an object of the Kubernetes API: without a version it has no place in the order.
func (o *object) check() error {
	if v := o.resourceVersion; len(v) > 0 && v[0] != '0' && !bytes.ContainsFunc(v, notDigit) {
		return nil // as compare would say, without an allocation
	}
	if _, err := compare(string(o.resourceVersion), "1"); err != nil {
		return fmt.Errorf("object %q: %w", o.name, err)
	}
	return nil
}

func notDigit(r rune) bool { return r < '0' || r > '9' }

var secrets = schema.GroupResource{Resource: "secrets"}
