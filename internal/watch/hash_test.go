package watch

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"

	"github.com/cespare/xxhash/v2"

	"watcher/internal/event"
)

// wantHashes hashes what encoding/json finds.
func wantHashes(t *testing.T, b []byte) event.Hashes {
	var spec, status, meta [][]byte
	eachMember(t, b, func(key string, _, whole []byte) {
		switch key {
		case "kind", "apiVersion", "metadata":
		case "status":
			status = [][]byte{whole}
		default:
			spec = append(spec, whole)
		}
	})
	if m := lastMember(t, b, "metadata"); bytes.HasPrefix(m, []byte("{")) {
		eachMember(t, m, func(key string, _, whole []byte) {
			if key != "resourceVersion" && key != "generation" && key != "managedFields" {
				meta = append(meta, whole)
			}
		})
	}
	sum := func(members [][]byte) uint64 { return xxhash.Sum64(bytes.Join(members, []byte(","))) }
	return event.Hashes{Spec: sum(spec), Metadata: sum(meta), Status: sum(status)}
}

func hashesOf(t *testing.T, obj string) event.Hashes {
	t.Helper()
	checkScan(t, []byte(obj))
	var o object
	if err := o.scan([]byte(obj)); err != nil {
		t.Fatal(err)
	}
	return o.hashes
}

// Stored hashes must mean the same to every later version: these numbers are not to change. The reference is xxhsum.
func TestHashesAreFrozen(t *testing.T) {
	for obj, want := range map[string]event.Hashes{
		`{"metadata":{}}`: {Spec: 0xef46db3751d8e999, Metadata: 0xef46db3751d8e999, Status: 0xef46db3751d8e999},
		`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"7","generation":1,"labels":{"b":"c"},"managedFields":[]},"spec":{"nodeName":"n"},"status":{"phase":"Running"}}`: {
			Spec: 0x2f2e839b4844e8e6, Metadata: 0x24e65c4e81a19dbe, Status: 0x1e489d8ae959e0cf, // of "spec":{"nodeName":"n"}, "name":"a","labels":{"b":"c"} and "status":{"phase":"Running"}
		},
	} {
		if got := hashesOf(t, obj); got != want {
			t.Errorf("%s: %#x", obj, got)
		}
	}
}

// sameHashes are one state of an object each, as watches and LISTs bring it.
var sameHashes = map[string][]string{
	"typed": {
		`{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"b","uid":"c","resourceVersion":"7","generation":1,"labels":{"d":"e"},"managedFields":[{"manager":"f"}]},"spec":{"nodeName":"n"},"status":{"phase":"Running"}}`,
		`{"metadata":{"name":"a","namespace":"b","uid":"c","resourceVersion":"7","generation":1,"labels":{"d":"e"},"managedFields":[{"manager":"f"}]},"spec":{"nodeName":"n"},"status":{"phase":"Running"}}`,
	},
	"typed, several members": {
		`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"7"},"immutable":true,"data":{"a":"b"},"binaryData":{"c":"ZA=="}}`,
		`{"metadata":{"name":"a","resourceVersion":"7"},"immutable":true,"data":{"a":"b"},"binaryData":{"c":"ZA=="}}`,
		`{"metadata":{"resourceVersion":"8","name":"a"},"immutable":true,"data":{"a":"b"},"apiVersion":"v1","binaryData":{"c":"ZA=="},"kind":"ConfigMap"}`,
	},
	"custom, members around kind and metadata": {
		`{"apiVersion":"example.com/v1","data":1,"kind":"Widget","limits":[2],"metadata":{"generation":3,"labels":{"a":"b"},"managedFields":[{}],"name":"c","resourceVersion":"9","uid":"d"},"spec":{"e":4},"status":{"f":5},"zone":"g"}`,
		`{"data":1,"limits":[2],"metadata":{"labels":{"a":"b"},"name":"c","resourceVersion":"10","uid":"d"},"spec":{"e":4},"status":{"f":5},"zone":"g"}`,
		`{"data":1 , "limits":[2], "spec":{"e":4}, "zone":"g", "metadata":{"labels":{"a":"b"} , "name":"c", "uid":"d"}, "status":{"f":5}}`,
	},
	"only the last metadata and the last status": {
		`{"metadata":{"name":"a","labels":{}},"status":1,"metadata":{"name":"b"},"status":2}`,
		`{"status":2,"metadata":{"name":"b"}}`,
	},
	"metadata without members": {
		`{"metadata":{}}`, `{}`, `{"metadata":null}`, `{"metadata":{"name":"a"},"metadata":[]}`, `{"metadata":{"resourceVersion":"1","generation":2,"managedFields":[]}}`,
	},
}

// What differs between a LIST and a watch, and what moves with every write, is in no hash.
func TestOneStateHasTheSameHashesHoweverItCame(t *testing.T) {
	for name, objects := range sameHashes {
		t.Run(name, func(t *testing.T) {
			want := hashesOf(t, objects[0])
			for _, obj := range objects[1:] {
				if got := hashesOf(t, obj); got != want {
					t.Errorf("%s\nhas %x, want %x", obj, got, want)
				}
			}
		})
	}
}

// A change is seen in the hash of its part, and in no other.
func TestAChangeMovesOnlyItsPart(t *testing.T) {
	const before = `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"1"},"spec":{"a":1},"status":{"a":1}}`
	was := hashesOf(t, before)
	for _, c := range []struct{ part, after string }{
		{"spec", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"2"},"spec":{"a":2},"status":{"a":1}}`},
		{"spec", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"2"},"spec":{"a":1},"rules":[],"status":{"a":1}}`},
		{"spec", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"2"},"status":{"a":1}}`},
		{"metadata", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"2"},"resourceVersion":"2"},"spec":{"a":1},"status":{"a":1}}`},
		{"metadata", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"2","deletionTimestamp":"x"},"spec":{"a":1},"status":{"a":1}}`},
		{"status", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"2"},"spec":{"a":1},"status":{"a":2}}`},
		{"status", `{"kind":"A","apiVersion":"v1","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"2"},"spec":{"a":1}}`},
		{"nothing", `{"kind":"A","apiVersion":"v2","metadata":{"name":"a","annotations":{"LAST":"1"},"resourceVersion":"2","generation":2,"managedFields":[{}]},"spec":{"a":1},"status":{"a":1}}`},
	} {
		is, want := hashesOf(t, c.after), was
		switch c.part {
		case "spec":
			want.Spec = is.Spec
		case "metadata":
			want.Metadata = is.Metadata
		case "status":
			want.Status = is.Status
		}
		if is != want || (is == was) != (c.part == "nothing") {
			t.Errorf("%s moved\n%x to\n%x, not only the %s", c.after, was, is, c.part)
		}
	}
}

// An API server writes compact JSON. What was pretty printed has other hashes, but the same each time.
func TestPrettyPrintedObjectsHaveHashesOfTheirOwn(t *testing.T) {
	for _, kind := range kinds {
		obj := samples(t, kind, 1)[0]
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, obj, "", "  "); err != nil {
			t.Fatal(err)
		}
		compact, once, again := hashesOf(t, string(obj)), hashesOf(t, pretty.String()), hashesOf(t, pretty.String())
		if once != again || once == compact {
			t.Errorf("%s: compact %x, pretty %x and %x", kind, compact, once, again)
		}
	}
}

func TestNoHashIsZero(t *testing.T) {
	if known(0) != 1 || known(1) != 1 || known(math.MaxUint64) != math.MaxUint64 {
		t.Errorf("%d, %d, %d", known(0), known(1), known(math.MaxUint64))
	}
}

// Without a spec its generation tells whether it changed; an object that has none is not one whose state is not known.
func TestMetadataAloneTellsTheSpecByItsGeneration(t *testing.T) {
	for _, c := range []struct {
		payload Payload
		meta    string
		want    uint64 // 0: the spec's own
	}{
		{PayloadFull, `"generation":7`, 0},
		{PayloadMetadata, `"generation":7`, 8},
		{PayloadNone, `"generation":7`, 8},
		{PayloadMetadata, `"name":"a"`, 1},
		{PayloadMetadata, `"generation":-1`, 1},
		{PayloadMetadata, `"generation":9223372036854775807`, 1 << 63},
	} {
		obj := `{"metadata":{` + c.meta + `},"spec":{}}`
		want := hashesOf(t, obj)
		if c.want != 0 {
			want = event.Hashes{Spec: c.want, Metadata: want.Metadata}
		}
		if f := frameOf(t, Selection{Payload: c.payload}, obj); f.Object.Hashes != want {
			t.Errorf("%s, %s: %x, want %x", c.payload, obj, f.Object.Hashes, want)
		}
	}
}

func frameOf(t *testing.T, sel Selection, obj string) *frame {
	t.Helper()
	cutter := newCutter(Resource{}, sel, &framePool{})
	b := []byte(obj)
	var o object
	if err := o.scan(b); err != nil {
		t.Fatal(err)
	}
	f := cutter.frame(&o, b, &names{})
	clear(b) // nothing in the frame is in here
	return f
}
