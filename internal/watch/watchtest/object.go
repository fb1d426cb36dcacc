package watchtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// An Edit makes one change to an object that is being created, updated or deleted.
type Edit func(*draft)

// Raw sets a top-level member ("spec", "status", "data", anything) to the given JSON, which is kept as it is but for
// white space between tokens. An empty string takes the member away.
func Raw(member, value string) Edit {
	return func(d *draft) { d.body = d.body.with(d, member, value) }
}

// Spec is Raw("spec", value). A change of it moves metadata.generation.
func Spec(value string) Edit { return Raw("spec", value) }

// Status is Raw("status", value).
func Status(value string) Edit { return Raw("status", value) }

// Meta sets a member of metadata ("managedFields", "finalizers", "deletionTimestamp", also "uid") to the given JSON,
// or takes it away.
func Meta(member, value string) Edit {
	return func(d *draft) { d.meta = d.meta.with(d, member, value) }
}

// Labels sets labels, given as keys and values in turn. An empty value takes the label away.
func Labels(pairs ...string) Edit { return setPairs("labels", pairs) }

// Annotations sets annotations, given as keys and values in turn. An empty value takes the annotation away.
func Annotations(pairs ...string) Edit { return setPairs("annotations", pairs) }

func setPairs(member string, pairs []string) Edit {
	return func(d *draft) {
		set := map[string]string{}
		if raw := d.meta.get(member); raw != nil {
			d.check(json.Unmarshal(raw, &set))
		}
		for pair := range slices.Chunk(pairs, 2) {
			if len(pair) < 2 {
				d.check(fmt.Errorf("%s: the key %q has no value", member, pair[0]))
			} else if pair[1] == "" {
				delete(set, pair[0])
			} else {
				set[pair[0]] = pair[1]
			}
		}
		value := ""
		if len(set) > 0 {
			value = marshal(set)
		}
		d.meta = d.meta.with(d, member, value)
	}
}

// A draft is a state that is being edited; its first error is reported to the test.
type draft struct {
	state
	err error
}

func (d *draft) check(err error) {
	if d.err == nil {
		d.err = err
	}
}

// finish settles what follows from the edits: the uid, the labels as selectors see them, the generation.
func (d *draft) finish(prev *state) {
	d.labels = nil
	if raw := d.meta.get("labels"); raw != nil {
		d.check(json.Unmarshal(raw, &d.labels))
	}
	d.check(json.Unmarshal(d.meta.get("uid"), &d.uid))
	spec := d.body.get("spec")
	switch {
	case spec == nil:
	case prev == nil && d.meta.get("generation") == nil:
		d.meta = d.meta.with(d, "generation", "1")
	case prev != nil && !bytes.Equal(spec, prev.body.get("spec")) && bytes.Equal(d.meta.get("generation"), prev.meta.get("generation")):
		var n int64
		if raw := d.meta.get("generation"); raw != nil {
			d.check(json.Unmarshal(raw, &n))
		}
		d.meta = d.meta.with(d, "generation", strconv.FormatInt(n+1, 10))
	}
}

// A state is one object at one resourceVersion. It never changes once it is in the history.
type state struct {
	namespace, name, uid string
	rv                   uint64
	meta, body           members // without resourceVersion, kind and apiVersion
	labels               labels.Set
}

func (st *state) same(other *state) bool {
	return slices.EqualFunc(st.meta, other.meta, member.equal) && slices.EqualFunc(st.body, other.body, member.equal)
}

// render writes the object as a GET or a watch frame has it, with the given resourceVersion: a DELETED frame
// carries the last state with the deletion's.
func (st *state) render(r Resource, rv uint64) []byte {
	metadata := st.metadata(rv, r.Custom)
	var b bytes.Buffer
	if r.Custom {
		all := append(members{
			{"apiVersion", json.RawMessage(marshal(r.APIVersion()))},
			{"kind", json.RawMessage(marshal(r.Kind))},
			{"metadata", metadata},
		}, st.body...)
		all.sorted(strings.Compare).write(&b)
	} else {
		append(members{{"metadata", metadata}}, st.body...).write(&b)
		return append([]byte(typedHead(r)), b.Bytes()[1:]...)
	}
	return b.Bytes()
}

// item writes the object as a LIST has it: typed ones lack kind and apiVersion.
func (st *state) item(r Resource) []byte {
	full := st.render(r, st.rv)
	if r.Custom {
		return full
	}
	return append([]byte("{"), full[len(typedHead(r)):]...)
}

// partial writes the object as a PartialObjectMetadata.
func (st *state) partial(rv uint64) []byte {
	return fmt.Appendf(nil, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":%s}`, st.metadata(rv, false))
}

func typedHead(r Resource) string {
	return fmt.Sprintf(`{"kind":%q,"apiVersion":%q,`, r.Kind, r.APIVersion())
}

// metaOrder is the order of the fields of metav1.ObjectMeta.
var metaOrder = []string{"name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation",
	"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations",
	"ownerReferences", "finalizers", "managedFields"}

func (st *state) metadata(rv uint64, alphabetical bool) []byte {
	all := append(members{{"resourceVersion", json.RawMessage(`"` + strconv.FormatUint(rv, 10) + `"`)}}, st.meta...)
	order := strings.Compare
	if !alphabetical {
		order = func(a, b string) int { return metaRank(a) - metaRank(b) }
	}
	var b bytes.Buffer
	all.sorted(order).write(&b)
	return b.Bytes()
}

func metaRank(key string) int {
	if i := slices.Index(metaOrder, key); i >= 0 {
		return i
	}
	return len(metaOrder)
}

// A member is one member of a JSON object, its value compact.
type member struct {
	key string
	raw json.RawMessage
}

func (m member) equal(other member) bool { return m.key == other.key && bytes.Equal(m.raw, other.raw) }

type members []member

func (m members) get(key string) json.RawMessage {
	for _, x := range m {
		if x.key == key {
			return x.raw
		}
	}
	return nil
}

// with returns the members with one of them set, or gone when the value is empty.
func (m members) with(d *draft, key, value string) members {
	out := slices.Clone(m)
	i := slices.IndexFunc(out, func(x member) bool { return x.key == key })
	if value == "" {
		if i >= 0 {
			out = slices.Delete(out, i, i+1)
		}
		return out
	}
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(value)); err != nil {
		d.check(fmt.Errorf("%s: %w", key, err))
		return m
	}
	if i >= 0 {
		out[i].raw = b.Bytes()
		return out
	}
	return append(out, member{key, b.Bytes()})
}

func (m members) sorted(order func(a, b string) int) members {
	slices.SortStableFunc(m, func(a, b member) int { return order(a.key, b.key) })
	return m
}

func (m members) write(b *bytes.Buffer) {
	b.WriteByte('{')
	for i, x := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(marshal(x.key))
		b.WriteByte(':')
		b.Write(x.raw)
	}
	b.WriteByte('}')
}

// marshal is for values that always marshal: strings and maps of strings.
func marshal(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}
