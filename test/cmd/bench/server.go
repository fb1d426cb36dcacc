package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// ring is how many pods change, one after the other.
const ring = 2000

// A loadServer is an HTTPS server that answers as an API server with a number of pods does, and whose watches deliver
// changes as fast as they are taken, for ever. Over HTTP/2, as a real one.
type loadServer struct {
	*httptest.Server
	pods int

	frames map[string]func() []frame // by media type
}

func newLoadServer(pods int) *loadServer {
	s := &loadServer{pods: pods, frames: map[string]func() []frame{}}
	for _, mediaType := range []string{jsonType, protobufType} {
		s.frames[mediaType] = sync.OnceValue(func() []frame {
			var all []frame
			for i := range ring {
				all = append(all, modified(mediaType, i))
			}
			return all
		})
	}
	mux := http.NewServeMux()
	for path, answer := range map[string]string{
		"GET /api":    `{"kind":"APIVersions","versions":["v1"]}`,
		"GET /apis":   `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`,
		"GET /api/v1": `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["list","watch"]}]}`,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", jsonType)
			_, _ = w.Write([]byte(answer)) // a client that is gone needs none
		})
	}
	mux.HandleFunc("GET /api/v1/pods", s.serve)
	s.Server = httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	return s
}

// position is a version to watch from: everything after it is delivered.
func (s *loadServer) position() int { return firstVersion + s.pods }

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
		s.list(out, mediaType, q.Get("continue"), q.Get("limit"))
		return
	}
	w.Header().Set("Content-Type", mediaType+";stream=watch")
	at, err := strconv.Atoi(q.Get("resourceVersion"))
	if initial, _ := strconv.ParseBool(q.Get("sendInitialEvents")); initial {
		err = s.initial(out, mediaType)
		at = s.position()
	}
	if err == nil {
		w.(http.Flusher).Flush()
		s.changes(w, mediaType, at)
	}
}

// changes writes changes without end. One Write a frame, not flushed: so does an API server whose client is behind.
func (s *loadServer) changes(w http.ResponseWriter, mediaType string, version int) {
	frames := s.frames[mediaType]()
	var buf []byte
	for {
		version++
		f := frames[version%ring]
		buf = append(buf[:0], f.bytes...)
		strconv.AppendInt(buf[:f.version], int64(version), 10)
		if _, err := w.Write(buf); err != nil {
			return
		}
	}
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

func (s *loadServer) list(out *bufio.Writer, mediaType, token, limit string) {
	from, _ := strconv.Atoi(token) // none: from the first
	to := s.pods
	meta := metav1.ListMeta{ResourceVersion: fmt.Sprint(s.position())}
	if n, _ := strconv.Atoi(limit); n > 0 && from+n < to {
		to = from + n
		meta.Continue = strconv.Itoa(to)
	}
	if mediaType == protobufType {
		list := &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, ListMeta: meta}
		for i := from; i < to; i++ {
			list.Items = append(list.Items, *pod(i))
		}
		_, _ = out.Write(encode(mediaType, list))
		return
	}
	head, _ := json.Marshal(meta)
	fmt.Fprintf(out, `{"kind":"PodList","apiVersion":"v1","metadata":%s,"items":[`, head)
	for i := from; i < to; i++ {
		if i > from {
			_ = out.WriteByte(',')
		}
		item := pod(i)
		item.TypeMeta = metav1.TypeMeta{} // typed lists leave it out
		_, _ = out.Write(encode(mediaType, item))
	}
	_, _ = out.WriteString("]}\n")
}
