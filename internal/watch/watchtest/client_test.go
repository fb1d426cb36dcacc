package watchtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	jsonserializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A client reads the server as client-go does.
type client struct {
	t   *testing.T
	cfg *rest.Config
}

func (c client) rest(r Resource) *rest.RESTClient {
	c.t.Helper()
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	cfg := rest.CopyConfig(c.cfg)
	cfg.GroupVersion = &schema.GroupVersion{Group: r.Group, Version: r.Version}
	cfg.APIPath = "/apis"
	if r.Group == "" {
		cfg.APIPath = "/api"
	}
	cfg.QPS = -1
	cfg.NegotiatedSerializer = serializer.NegotiatedSerializerWrapper(runtime.SerializerInfo{
		MediaType:  "application/json",
		Serializer: codec{unstructured.UnstructuredJSONScheme},
		StreamSerializer: &runtime.StreamSerializerInfo{
			Serializer: jsonserializer.NewSerializerWithOptions(jsonserializer.DefaultMetaFactory, scheme, scheme, jsonserializer.SerializerOptions{}),
			Framer:     jsonserializer.Framer,
		},
	})
	rc, err := rest.RESTClientFor(cfg)
	if err != nil {
		c.t.Fatalf("make a client: %v", err)
	}
	return rc
}

// A codec yields unstructured objects, and a Status as itself.
type codec struct{ runtime.Codec }

func (c codec) Decode(data []byte, gvk *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	var status metav1.Status
	if err := json.Unmarshal(data, &status); err == nil && status.Kind == "Status" {
		kind := status.GroupVersionKind()
		return &status, &kind, nil
	}
	return c.Codec.Decode(data, gvk, into)
}

func request(rc *rest.RESTClient, r Resource, query string) *rest.Request {
	req := rc.Get().Resource(r.Name).MaxRetries(0)
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			req = req.Param(key, value)
		}
	}
	return req
}

// list reads a LIST. The query is written unescaped.
func (c client) list(r Resource, query string) (*unstructured.UnstructuredList, error) {
	result := request(c.rest(r), r, query).Do(c.t.Context())
	if err := result.Error(); err != nil { // not Raw's, which forgets the Status
		return nil, err
	}
	raw, err := result.Raw()
	if err != nil {
		return nil, err
	}
	list := &unstructured.UnstructuredList{}
	return list, list.UnmarshalJSON(raw)
}

// names are the keys of a list's items.
func names(list *unstructured.UnstructuredList) string {
	var out []string
	for _, item := range list.Items {
		out = append(out, item.GetNamespace()+"/"+item.GetName())
	}
	return strings.Join(out, " ")
}

func (c client) watch(ctx context.Context, r Resource, query string) (watch.Interface, error) {
	return request(c.rest(r), r, "watch=true&"+query).Watch(ctx)
}

// mustWatch is watch, and stops with the test.
func (c client) mustWatch(r Resource, query string) watch.Interface {
	c.t.Helper()
	w, err := c.watch(c.t.Context(), r, query)
	if err != nil {
		c.t.Fatalf("watch %s: %v", r, err)
	}
	c.t.Cleanup(w.Stop)
	return w
}

// show writes an event as "ADDED shop/web 101".
func show(ev watch.Event) string {
	if st, ok := ev.Object.(*metav1.Status); ok {
		return fmt.Sprintf("%s %d %s", ev.Type, st.Code, st.Reason)
	}
	u := ev.Object.(*unstructured.Unstructured)
	if ev.Type == watch.Bookmark {
		return "BOOKMARK " + u.GetResourceVersion()
	}
	return fmt.Sprintf("%s %s/%s %s", ev.Type, u.GetNamespace(), u.GetName(), u.GetResourceVersion())
}

// settled reads what a watch has to tell until nothing moves in the bubble any more; "end" when it is closed.
func settled(w watch.Interface) []string {
	var out []string
	for {
		synctest.Wait()
		select {
		case ev, ok := <-w.ResultChan():
			if !ok {
				return append(out, "end")
			}
			out = append(out, show(ev))
		default:
			return out
		}
	}
}

// next reads n events outside of a bubble.
func next(t *testing.T, w watch.Interface, n int) []string {
	t.Helper()
	var out []string
	late := time.After(30 * time.Second)
	for range n {
		select {
		case ev, ok := <-w.ResultChan():
			if !ok {
				return append(out, "end")
			}
			out = append(out, show(ev))
		case <-late:
			t.Fatalf("after %v nothing came", out)
		}
	}
	return out
}

func want(t *testing.T, got []string, expected ...string) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(expected) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(expected, "\n  "))
	}
}

// get reads a path as it is.
func (c client) get(path, accept string) (*http.Response, string, error) {
	c.t.Helper()
	hc, err := rest.HTTPClientFor(c.cfg)
	if err != nil {
		c.t.Fatalf("make a client: %v", err)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.cfg.Host+path, nil)
	if err != nil {
		c.t.Fatalf("make a request: %v", err)
	}
	req.Header.Set("Accept", accept)
	resp, err := hc.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// bubble runs a test with fake time against a server in memory.
func bubble(t *testing.T, rs []Resource, f func(t *testing.T, s *Server, c client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := New(t, rs...)
		f(t, s, client{t, s.Config()})
	})
}

func decoded(t *testing.T, raw string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatalf("decode %.200s: %v", raw, err)
	}
	return m
}
