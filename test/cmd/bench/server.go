package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// ring is how many pods there are that differ in more than name, uid and version: so many are encoded beforehand.
const ring = 2000

// A loadServer is an HTTPS server that answers as an API server with a number of pods does, and whose watches deliver
// changes for ever. Over HTTP/2, as a real one.
type loadServer struct {
	*httptest.Server
	pods   int
	order  []int // in which they are listed: that of their keys, as etcd's
	course atomic.Pointer[course]
	at     atomic.Int64 // the version of the last change that a watch delivered

	frames   map[string]func() []frame // by media type
	items    func() []frame            // of lists in JSON
	metadata func() []frame            // of lists of metadata in protobuf
}

// A course is what happens to the pods.
type course struct {
	Pace    time.Duration // between changes; 0: they come as fast as they are taken
	Expired bool          // what position was is forgotten; since then
	Changed int           // one in so many pods has changed
	Deleted int           // one in so many is gone; 0: none
}

// A quiet server has no changes.
const quiet = 1000 * time.Hour

func newLoadServer(pods int) *loadServer {
	s := &loadServer{pods: pods, order: inOrder(pods), frames: map[string]func() []frame{}}
	s.course.Store(&course{})
	encodings := func(encoding func(p *corev1.Pod) []byte) func() []frame {
		return sync.OnceValue(func() []frame {
			var all []frame
			for i := range ring {
				all = append(all, frameOf(encoding(pod(i)), i))
			}
			return all
		})
	}
	for _, mediaType := range []string{jsonType, protobufType} {
		s.frames[mediaType] = encodings(func(p *corev1.Pod) []byte { return newFrame(mediaType, "MODIFIED", p) })
	}
	s.items = encodings(func(p *corev1.Pod) []byte {
		p.TypeMeta = metav1.TypeMeta{} // typed lists leave it out
		return encode(jsonType, p)
	})
	s.metadata = encodings(func(p *corev1.Pod) []byte { return listItem(partial(p)) })
	mux := http.NewServeMux()
	for path, answer := range map[string]string{
		"GET /api":                           `{"kind":"APIVersions","versions":["v1"]}`,
		"GET /apis":                          `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`,
		"GET /api/v1":                        `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["list","watch"]}]}`,
		"GET /api/v1/namespaces/kube-system": `{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"6a0f2b1c-0000-4000-a000-000000000001"}}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", jsonType)
			_, _ = w.Write([]byte(answer)) // a client that is gone needs none
		})
	}
	mux.HandleFunc("GET /api/v1/pods", s.serve)
	mux.HandleFunc("GET /api/v1/namespaces/{namespace}/pods", s.one)
	s.Server = httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	return s
}

// inOrder are the first n pods by namespace and name. Those that differ in the last digits alone come one after the other.
func inOrder(n int) (order []int) {
	first := make([]*corev1.Pod, ring)
	ranks := make([]int, ring)
	for i := range ring {
		first[i], ranks[i] = pod(i), i
	}
	slices.SortFunc(ranks, func(a, b int) int {
		return cmp.Or(cmp.Compare(first[a].Namespace, first[b].Namespace), cmp.Compare(first[a].Name, first[b].Name))
	})
	for _, rank := range ranks {
		for i := rank; i < n; i += ring {
			order = append(order, i)
		}
	}
	return order
}

// position is a version to watch from: everything after it is delivered.
func (s *loadServer) position() int {
	if s.course.Load().Expired {
		return firstVersion + 2*s.pods
	}
	return firstVersion + s.pods
}

// version is that of the i-th pod, 0 if it is gone.
func (s *loadServer) version(i int) int {
	switch c := s.course.Load(); {
	case !c.Expired:
	case c.Changed > 0 && i%c.Changed == 0:
		return firstVersion + s.pods + i + 1
	case c.Deleted > 0 && i%c.Deleted == 1:
		return 0
	}
	return firstVersion + i
}

func (s *loadServer) config() *rest.Config {
	return &rest.Config{Host: s.URL, QPS: -1, TLSClientConfig: rest.TLSClientConfig{CAData: pemOf(s.Certificate())}}
}

func (s *loadServer) serve(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	mediaType := jsonType
	if strings.HasPrefix(r.Header.Get("Accept"), protobufType) {
		mediaType = protobufType
	}
	out := bufio.NewWriterSize(w, 16<<10)
	defer out.Flush() //nolint:errcheck // a client that is gone needs none
	if isWatch, _ := strconv.ParseBool(q.Get("watch")); !isWatch {
		w.Header().Set("Content-Type", mediaType)
		switch p := s.page(q); {
		case mediaType != protobufType:
			s.list(out, p)
		case strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadataList"):
			s.metadataList(out, p)
		default:
			s.typedList(out, p)
		}
		return
	}
	at, err := strconv.Atoi(q.Get("resourceVersion"))
	if initial, _ := strconv.ParseBool(q.Get("sendInitialEvents")); initial {
		w.Header().Set("Content-Type", mediaType+";stream=watch")
		err = s.initial(out, mediaType)
		at = s.position()
	}
	switch {
	case err != nil:
	case at < s.position():
		expired(w)
	default:
		w.Header().Set("Content-Type", mediaType+";stream=watch")
		w.(http.Flusher).Flush()
		s.changes(w, r, mediaType, at)
	}
}

func expired(w http.ResponseWriter) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(http.StatusGone)
	_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old resource version"}`))
}

// one answers for a single pod at a version. Of the past it knows nothing.
func (s *loadServer) one(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("resourceVersion") != strconv.Itoa(s.position()) {
		expired(w)
		return
	}
	name := q.Get("fieldSelector")
	i, _ := strconv.ParseInt(name[max(0, len(name)-5):], 16, 64) // as all names end
	w.Header().Set("Content-Type", jsonType)
	out := bufio.NewWriter(w)
	s.list(out, page{pods: []int{int(i)}})
	_ = out.Flush() // a client that is gone needs none
}

// changes writes changes without end. One Write a frame, not flushed if the client is behind: so does an API server.
func (s *loadServer) changes(w http.ResponseWriter, r *http.Request, mediaType string, version int) {
	frames, pace, begin, first := s.frames[mediaType](), s.course.Load().Pace, time.Now(), version
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var buf []byte
	for {
		for pace == 0 || version-first < int(time.Since(begin)/pace) {
			version++
			i := s.next(version)
			buf = frames[i%ring].append(buf[:0], i, version)
			if _, err := w.Write(buf); err != nil {
				return
			}
			s.at.Store(int64(version))
		}
		w.(http.Flusher).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// next is which pod changes at a version: one far from the last one.
func (s *loadServer) next(version int) int {
	if s.pods == 0 {
		return version % ring
	}
	return version * 7919 % s.pods
}

// initial writes all pods as a watch list does.
func (s *loadServer) initial(out *bufio.Writer, mediaType string) error {
	for i := range s.pods {
		if _, err := out.Write(newFrame(mediaType, "ADDED", pod(i))); err != nil {
			return err
		}
	}
	end := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}}
	end.ResourceVersion = fmt.Sprint(s.position())
	end.Annotations = map[string]string{metav1.InitialEventsAnnotationKey: "true"}
	_, _ = out.Write(newFrame(mediaType, "BOOKMARK", end))
	return out.Flush()
}

// list writes a page in JSON.
func (s *loadServer) list(out *bufio.Writer, p page) {
	meta, _ := json.Marshal(metav1.ListMeta{ResourceVersion: strconv.Itoa(s.position()), Continue: p.next})
	fmt.Fprintf(out, `{"kind":"PodList","metadata":%s,"items":[`, meta)
	items, comma := s.items(), ""
	var buf []byte
	for _, i := range p.pods {
		if version := s.version(i); version > 0 {
			buf = items[i%ring].append(append(buf[:0], comma...), i, version)
			_, _ = out.Write(buf)
			comma = ","
		}
	}
	_, _ = out.WriteString("]}\n")
}

// typedList writes a page in protobuf.
func (s *loadServer) typedList(out *bufio.Writer, p page) {
	list := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"},
		ListMeta: metav1.ListMeta{ResourceVersion: strconv.Itoa(s.position()), Continue: p.next}}
	for _, i := range p.pods {
		list.Items = append(list.Items, *pod(i))
	}
	_, _ = out.Write(encode(protobufType, list))
}

// metadataList writes a page of metadata in protobuf.
func (s *loadServer) metadataList(out *bufio.Writer, p page) {
	meta, _ := (&metav1.ListMeta{ResourceVersion: strconv.Itoa(s.position()), Continue: p.next}).Marshal() // strings can be marshalled
	head := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), meta)
	items, size := s.metadata(), len(head)
	for _, i := range p.pods {
		if s.version(i) > 0 {
			size += len(items[i%ring].bytes)
		}
	}
	buf := protowire.AppendVarint([]byte("k8s\x00\x12"), uint64(size))
	_, _ = out.Write(append(buf, head...))
	for _, i := range p.pods {
		if version := s.version(i); version > 0 {
			buf = items[i%ring].append(buf[:0], i, version)
			_, _ = out.Write(buf)
		}
	}
}

// A page is which pods a page of a list shows, and the token of the next one.
type page struct {
	pods []int
	next string
}

func (s *loadServer) page(q url.Values) page {
	from, _ := strconv.Atoi(q.Get("continue")) // none: from the first
	if n, _ := strconv.Atoi(q.Get("limit")); n > 0 && from+n < s.pods {
		return page{s.order[from : from+n], strconv.Itoa(from + n)}
	}
	return page{s.order[from:], ""}
}
