package watchtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// options are the query of a LIST or WATCH.
type options struct {
	res       Resource
	namespace string
	labels    labels.Selector
	fields    fields.Selector

	rvSet     bool
	rv        uint64
	exact     bool
	limit     int
	continues string

	timeout   time.Duration
	bookmarks bool
	form
}

// defaultTimeout is where the API server ends a watch that asks for no end.
const defaultTimeout = 30 * time.Minute

func (c *call) options() (*options, *metav1.Status) {
	o := &options{res: c.table.res, namespace: c.q.Namespace, timeout: defaultTimeout}
	get := c.q.Query.Get
	for _, err := range []error{
		o.parseSelectors(get("labelSelector"), get("fieldSelector")),
		parseNumber(&o.rv, get("resourceVersion")),
		parseNumber(&o.limit, get("limit")),
		parseNumber(&o.timeout, get("timeoutSeconds")),
	} {
		if err != nil {
			return nil, NewStatus(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
		}
	}
	if get("timeoutSeconds") != "" {
		o.timeout *= time.Second
	}
	o.rvSet = get("resourceVersion") != ""
	o.continues = get("continue")
	o.bookmarks = get("allowWatchBookmarks") == "true" || get("allowWatchBookmarks") == "1"

	match := metav1.ResourceVersionMatch(get("resourceVersionMatch"))
	watching := c.q.Verb == "watch"
	switch {
	case get("sendInitialEvents") != "" && watching:
		return nil, invalidStatus("sendInitialEvents", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
	case get("sendInitialEvents") != "":
		return nil, invalidStatus("sendInitialEvents", "sendInitialEvents is forbidden for list")
	case match != "" && watching:
		return nil, invalidStatus("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
	case match != "" && !o.rvSet:
		return nil, invalidStatus("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
	case match != "" && o.continues != "":
		return nil, invalidStatus("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided")
	case match == metav1.ResourceVersionMatchExact && o.rv == 0:
		return nil, invalidStatus("resourceVersionMatch", `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`)
	case o.continues != "" && o.rv != 0:
		return nil, NewStatus(http.StatusBadRequest, metav1.StatusReasonBadRequest, "specifying resource version is not allowed when using continue")
	}
	o.exact = match == metav1.ResourceVersionMatchExact || match == "" && o.limit > 0 && o.rv != 0
	if o.rvSet && o.rv == 0 && !o.res.Uncached {
		o.limit = 0 // served from the watch cache, which does not page
	}
	var status *metav1.Status
	o.form, status = c.negotiate()
	return o, status
}

// parseSelectors refuses what the resource cannot be selected by.
func (o *options) parseSelectors(byLabel, byField string) (err error) {
	if o.labels, err = labels.Parse(byLabel); err != nil {
		return err
	}
	if o.fields, err = fields.ParseSelector(byField); err != nil {
		return err
	}
	known := append([]string{"metadata.name", "metadata.namespace"}, o.res.Fields...)
	for _, req := range o.fields.Requirements() {
		if !slices.Contains(known, req.Field) {
			return fmt.Errorf("field label not supported: %s", req.Field)
		}
	}
	return nil
}

func parseNumber[T ~int | ~int64 | ~uint64](into *T, value string) error {
	if value == "" {
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return fmt.Errorf("invalid number: %w", err)
	}
	*into = T(n)
	return nil
}

// matches tells whether a state is in what was asked for.
func (o *options) matches(st *state) bool {
	if st == nil || o.namespace != "" && st.namespace != o.namespace || !o.labels.Matches(st.labels) {
		return false
	}
	return o.fields.Empty() || o.fields.Matches(o.fieldsOf(st))
}

// single is the key of the only object that can match, if there is one.
func (o *options) single() (key string, ok bool) {
	name, ok := o.fields.RequiresExactMatch("metadata.name")
	if o.namespace == "" && o.res.Namespaced {
		return "", false
	}
	return o.res.key(o.namespace, name), ok
}

// fieldsOf looks up the fields that selectors may name. The resource's own are read from the JSON.
func (o *options) fieldsOf(st *state) fields.Set {
	set := fields.Set{"metadata.name": st.name, "metadata.namespace": st.namespace}
	for _, req := range o.fields.Requirements() {
		if _, ok := set[req.Field]; ok {
			continue
		}
		path := strings.Split(req.Field, ".")
		var value any
		raw := st.body.get(path[0])
		_ = json.Unmarshal(raw, &value) // absent is ""
		for _, step := range path[1:] {
			m, _ := value.(map[string]any)
			value = m[step]
		}
		set[req.Field], _ = value.(string)
	}
	return set
}

// A form is what the Accept header asks for.
type form struct {
	partial  bool // metadata only
	protobuf bool // else JSON
}

func (f form) mediaType() string {
	if f.protobuf {
		return runtime.ContentTypeProtobuf
	}
	return runtime.ContentTypeJSON
}

// negotiate reads the Accept header: JSON, whole or metadata only; lists of metadata are also to be had in protobuf.
func (c *call) negotiate() (form, *metav1.Status) {
	want := "PartialObjectMetadata"
	if c.q.Verb == "list" {
		want += "List"
	}
	for clause := range strings.SplitSeq(c.q.Header.Get("Accept"), ",") {
		mediaType, params, err := mime.ParseMediaType(clause)
		if clause == "" || err == nil && params["as"] == "" && (mediaType == runtime.ContentTypeJSON || mediaType == "*/*" || mediaType == "application/*") {
			return form{}, nil
		}
		if err != nil || params["as"] != want || params["g"] != "meta.k8s.io" || params["v"] != "v1" {
			continue
		}
		switch {
		case mediaType == runtime.ContentTypeJSON:
			return form{partial: true}, nil
		case mediaType == runtime.ContentTypeProtobuf && c.q.Verb == "list" && !c.s.knowsOnlyJSON():
			return form{partial: true, protobuf: true}, nil
		}
	}
	return form{}, NewStatus(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: application/json")
}

// object writes one state as the request wants it.
func (o *options) object(st *state, rv uint64) []byte {
	if o.partial {
		return st.partial(rv)
	}
	return st.render(o.res, rv)
}

// frame is one line of a watch.
func frame(typ string, object []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"type":%q,"object":%s}`+"\n", typ, object)
	return b.Bytes()
}
