package watch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// identities is what is read of a list that comes in one page.
func identities(r io.Reader) (read []string, l *list, err error) {
	src := &source{cutter: cutter{pool: &framePool{}}}
	l = src.list()
	p := page{list: l, input: newInput(r, pageSize), yield: func(f *frame) bool {
		o := &f.Object
		read = append(read, fmt.Sprintf("%q %q %q %q %x", o.Namespace, o.Name, o.UID, o.ResourceVersion, o.Attribution))
		return true
	}}
	return read, l, p.parse()
}

func inJSON(l *metav1.PartialObjectMetadataList) []byte {
	b, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	return b
}

func inProtobuf(l *metav1.PartialObjectMetadataList) []byte {
	raw, err := l.Marshal()
	if err != nil {
		panic(err)
	}
	list := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}, Raw: raw}
	b, err := list.Marshal()
	if err != nil {
		panic(err)
	}
	return append([]byte(protobufMagic), b...)
}

// sample is a list of objects with all that objects have.
func sample() *metav1.PartialObjectMetadataList {
	at := func(second int64) *metav1.Time { return &metav1.Time{Time: time.Unix(second, 0).UTC()} }
	remaining, grace := int64(7), int64(30)
	full := metav1.ObjectMeta{
		Name: "web", GenerateName: "w", Namespace: "shop", UID: "6a0f2b1c-0000-4000-a000-000000000001", ResourceVersion: "48213", Generation: 7,
		CreationTimestamp: *at(1_700_000_000), DeletionTimestamp: at(1_800_000_000), DeletionGracePeriodSeconds: &grace,
		Labels: map[string]string{"app": "ü", "": ""}, Annotations: map[string]string{"a": "\"\n"}, Finalizers: []string{"f"},
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "rs", UID: "x", Controller: new(true)}},
		ManagedFields: []metav1.ManagedFieldsEntry{
			{Manager: "kubectl", Operation: "Apply", Time: at(1_750_000_000), FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)},
			{Manager: "kubelet", Operation: "Update", Time: at(1_760_000_000), Subresource: "status"},
			{Manager: "other", Operation: "Update", Time: at(1_760_000_000)},
			{Manager: "nobody", Operation: "Update"},
		},
	}
	return &metav1.PartialObjectMetadataList{
		TypeMeta: metav1.TypeMeta{Kind: "PartialObjectMetadataList", APIVersion: "meta.k8s.io/v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: "50000", Continue: "token", RemainingItemCount: &remaining},
		Items: []metav1.PartialObjectMetadata{
			{ObjectMeta: full},
			{ObjectMeta: metav1.ObjectMeta{Name: "node", ResourceVersion: "1"}},
			{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "odd", UID: "no UUID", ResourceVersion: "18446744073709551615"}},
		},
	}
}

// FuzzProtobufSaysWhatJSONSays: of a list that is written in both, the same is read.
func FuzzProtobufSaysWhatJSONSays(f *testing.F) {
	f.Add("shop", "web", "6a0f2b1c-0000-4000-a000-000000000001", "48213", "kubectl", "Apply", "status", int64(1_750_000_000), int64(1_750_000_000))
	f.Add("", "", "", "1", "", "", "", int64(0), int64(-1))
	f.Add("ü", "\"\\\n", "x", "0", "\u2028", "Update", "", int64(1<<32-1), int64(1<<32))
	f.Add("a", "b", "c", "7", "\xff\xfe", "\xc3", "\xe2\x80", int64(1), int64(0))
	f.Fuzz(func(t *testing.T, namespace, name, uid, version, manager, operation, subresource string, first, second int64) {
		const year10000 = 253402300800 // RFC 3339 ends there
		o := metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid), ResourceVersion: version}
		for i, at := range []int64{first % year10000, second % year10000} {
			e := metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationType(operation), Subresource: subresource}
			if at > 0 { // a Time of 1970 and before is none to an API server
				e.Time = &metav1.Time{Time: time.Unix(at, 0).UTC()}
			}
			if i == 1 {
				e.Manager = "another"
			}
			o.ManagedFields = append(o.ManagedFields, e)
		}
		l := sample()
		l.Items = append(l.Items, metav1.PartialObjectMetadata{ObjectMeta: o})
		want, _, wrong := identities(bytes.NewReader(inJSON(l)))
		got, _, err := identities(bytes.NewReader(inProtobuf(l)))
		if fmt.Sprint(got) != fmt.Sprint(want) || (err == nil) != (wrong == nil) {
			t.Errorf("%v %v\nwant %v %v", got, err, want, wrong)
		}
	})
}

// However a list in protobuf arrives, and wherever it breaks off, what was read is right, and nothing is taken for its end.
func TestAListInProtobufIsWholeOrAnError(t *testing.T) {
	whole := inProtobuf(sample())
	want, _, err := identities(bytes.NewReader(inJSON(sample())))
	if len(want) != 3 || err != nil {
		t.Fatalf("%v %v", want, err)
	}
	for name, r := range map[string]io.Reader{"at once": bytes.NewReader(whole), "byte by byte": iotest.OneByteReader(bytes.NewReader(whole))} {
		got, l, err := identities(r)
		if fmt.Sprint(got) != fmt.Sprint(want) || err != nil || l.version != "50000" || l.next != "token" || l.done {
			t.Errorf("%s: %v %v, at %s, then %q\nwant %v", name, got, err, l.version, l.next, want)
		}
	}
	items := bytes.Index(whole, []byte("18446744073709551615")) + 20 // where the last one's version ends
	for n := range items {
		if got, l, err := identities(bytes.NewReader(whole[:n])); err == nil || len(got) > 2 || l.next != "" {
			t.Fatalf("cut after %d of %d bytes: %v %v, then %q", n, len(whole), got, err, l.next)
		}
	}
	raw, _ := sample().Marshal() // as above
	shorter := append(protowire.AppendVarint([]byte(protobufMagic+"\x12"), uint64(len(raw)-1)), raw...)
	if got, _, err := identities(bytes.NewReader(shorter)); err == nil || len(got) > 2 {
		t.Errorf("the last item reaches beyond the list: %v %v", got, err)
	}
}

// FuzzListMessage: whatever comes in the place of a list, it is read or refused.
func FuzzListMessage(f *testing.F) {
	f.Add(inProtobuf(sample()))
	f.Add([]byte(protobufMagic + "\x12\x04\x0a\xff\xff\x01"))
	f.Add([]byte(protobufMagic + "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if read, l, err := identities(bytes.NewReader(b)); err == nil && l.version == "" {
			t.Errorf("it has no version: %v", read)
		}
	})
}
