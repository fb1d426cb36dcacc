package watch

import (
	"bytes"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"watcher/internal/event"
)

// A frame is one undecoded watch message, or one item of a LIST: who it is, and its bytes less what is left out.
type frame struct{ event.Object }

// GetObjectKind implements runtime.Object, which client-go's Watch demands.
func (f *frame) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object.
func (f *frame) DeepCopyObject() runtime.Object {
	c := *f
	c.Body = bytes.Clone(f.Body)
	return &c
}

// A cutter makes frames of objects: it knows what stays in, and what the items of a typed LIST lack.
type cutter struct {
	body, managedFields, lastApplied bool
	typeMeta                         typeMeta
}

type typeMeta struct{ apiVersion, kind string }

// newCutter says what is kept of the objects of res.
func newCutter(res Resource, sel Selection) cutter {
	c := cutter{
		body:          sel.Payload != PayloadNone,
		managedFields: sel.ManagedFields,
		// kubectl apply keeps the whole secret in an annotation: metadata alone would give it away.
		lastApplied: res.GroupResource() != secrets || sel.Payload == PayloadFull,
		typeMeta:    typeMeta{res.GroupVersion().String(), res.Kind},
	}
	if sel.Payload != PayloadFull {
		c.typeMeta = typeMeta{"meta.k8s.io/v1", "PartialObjectMetadata"}
	}
	return c
}

// frame copies what is kept of raw, whose scan is o. Nothing in the frame aliases raw.
func (c *cutter) frame(o *object, raw []byte) *frame {
	fields := [...][]byte{o.namespace, o.name, o.uid, o.resourceVersion, o.deletionTimestamp}
	text := string(bytes.Join(fields[:], nil)) // one string for all of them
	next := func(b []byte) string {
		s := text[:len(b)]
		text = text[len(b):]
		return s
	}
	f := &frame{event.Object{
		Namespace: next(o.namespace), Name: next(o.name), UID: next(o.uid), ResourceVersion: next(o.resourceVersion),
		DeletionTimestamp: next(o.deletionTimestamp), Generation: o.generation,
	}}
	if c.body {
		f.Body = oneLine(c.cut(o, raw))
	}
	return f
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

// cut returns the API server's own bytes, less what is left out, plus the type that items of typed LISTs lack.
func (c *cutter) cut(o *object, raw []byte) []byte {
	var managed, applied spans
	if !c.managedFields {
		managed = o.managedFields
	}
	if !c.lastApplied {
		applied = o.lastApplied
	}
	var typ []byte
	if o.kind == nil {
		typ = fmt.Appendf(typ, `"kind":%q,`, c.typeMeta.kind)
	}
	if o.apiVersion == nil {
		typ = fmt.Appendf(typ, `"apiVersion":%q,`, c.typeMeta.apiVersion)
	}
	body := make([]byte, 0, len(raw)+len(typ))
	if len(typ) == 0 {
		return appendWithout(body, raw, managed, applied)
	}
	// The last comma takes the place of the object's own brace. An object that was let in has members: its metadata.
	body = append(append(body, '{'), typ[:len(typ)-1]...)
	brace := len(body)
	body = appendWithout(body, raw, managed, applied)
	body[brace] = ','
	return body
}

// check refuses what cannot be an object of the Kubernetes API: without a version it has no place in the order.
func (o *object) check() error {
	if _, err := compare(string(o.resourceVersion), "1"); err != nil {
		return fmt.Errorf("object %q: %w", o.name, err)
	}
	return nil
}

var secrets = schema.GroupResource{Resource: "secrets"}
