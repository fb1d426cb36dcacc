package watchtest

import (
	"encoding/json"
	"fmt"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// protobuf is a page of metadata as the API server writes it in protobuf.
func (p page) protobuf() []byte {
	l := metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{ResourceVersion: strconv.FormatUint(p.rv, 10), Continue: p.continues}}
	if p.remaining >= 0 {
		remaining := int64(p.remaining)
		l.RemainingItemCount = &remaining
	}
	for _, st := range p.states {
		var o metav1.PartialObjectMetadata
		if err := json.Unmarshal(st.metadata(st.rv, false), &o.ObjectMeta); err != nil {
			panic(fmt.Sprintf("the metadata of %s/%s: %v", st.namespace, st.name, err)) // no API server would have taken it
		}
		l.Items = append(l.Items, o)
	}
	list := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadataList"}}
	var err error
	if list.Raw, err = l.Marshal(); err != nil {
		panic(err)
	}
	b, err := list.Marshal()
	if err != nil {
		panic(err)
	}
	return append([]byte("k8s\x00"), b...)
}
