package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"slices"
	"time"

	"go.uber.org/zap"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"watcher/internal/event"
	"watcher/internal/sink"
	watcher "watcher/internal/watch"
)

// A way reads the pods' changes after position and writes each, in an envelope, to nowhere. It tells the meter of each.
type way struct {
	name, does string
	run        func(ctx context.Context, c *rest.Config, position string, m *meter) error
}

// The first is the floor.
var ways = []way{
	{"copy", "io.Copy of the same stream", copyBytes},
	{"copy-1", "io.Copy, GOMAXPROCS=1", func(ctx context.Context, c *rest.Config, position string, m *meter) error {
		goruntime.GOMAXPROCS(1)
		return copyBytes(ctx, c, position, m)
	}},
	{"watcher", "watcher", viaWatcher},
	{"informer", "typed informer, protobuf + json.Marshal", viaInformer},
	{"retrywatcher", "RetryWatcher, protobuf + json.Marshal", viaRetryWatcher},
	{"dynamic", "dynamic watch + json.Marshal", viaDynamic},
}

func wayNamed(name string) (way, error) {
	for _, w := range slices.Concat(ways, informers, bare, []way{keep, hashing}) {
		if w.name == name {
			return w, nil
		}
	}
	return way{}, fmt.Errorf("there is no way named %q", name)
}

var pods = corev1.SchemeGroupVersion.WithResource("pods")

// copyBytes cannot tell events from each other: the meter knows how many bytes they are.
func copyBytes(ctx context.Context, c *rest.Config, position string, m *meter) error {
	body, err := stream(ctx, c, position)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // it was only read
	_, err = io.Copy(countBytes{m}, body)
	return err
}

type countBytes struct{ *meter }

func (c countBytes) Write(p []byte) (int, error) {
	c.bytes(len(p))
	return len(p), nil
}

// stream is a watch of all pods, in JSON.
func stream(ctx context.Context, c *rest.Config, position string) (io.ReadCloser, error) {
	client, err := restClient(c)
	if err != nil {
		return nil, err
	}
	return client.Get().Resource("pods").VersionedParams(options(position), scheme.ParameterCodec).Stream(ctx)
}

// restClient asks for JSON, uncompressed.
func restClient(c *rest.Config) (*rest.RESTClient, error) {
	c = rest.CopyConfig(c)
	c.APIPath, c.GroupVersion, c.ContentType = "/api", &corev1.SchemeGroupVersion, jsonType
	c.NegotiatedSerializer, c.DisableCompression = scheme.Codecs.WithoutConversion(), true
	return rest.RESTClientFor(c)
}

func options(position string) *metav1.ListOptions {
	return &metav1.ListOptions{Watch: true, ResourceVersion: position, AllowWatchBookmarks: true}
}

func viaWatcher(ctx context.Context, c *rest.Config, position string, m *meter) error {
	held := map[string]event.Checkpoint{
		event.NewStream(event.StreamName{Version: "v1", Resource: "pods"}).Key(): {Position: event.Position{ResourceVersion: position}},
	}
	return runWatcher(ctx, c, func(l *sink.Lines) watcher.Sink { return &countingSink{l, held, m} })
}

// runWatcher writes to nowhere, through a sink that is made of the usual one.
func runWatcher(ctx context.Context, c *rest.Config, through func(*sink.Lines) watcher.Sink) error {
	goruntime.GOMAXPROCS(1) // as the program does
	client, err := watcher.NewClient(c, 100, 200)
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close() //nolint:errcheck // nothing is in it
	return watcher.Run(ctx, watcher.Config{
		Client: client, Sink: through(sink.NewLines(null, sink.JSON(0), nil)), Log: zap.NewNop(), Cluster: "bench",
		Resources: []string{"pods"}, Initial: watcher.InitialSnapshot, BufferBytes: 16 << 20, Progress: time.Minute, Version: "bench",
	})
}

// A countingSink resumes from a position that it made up.
type countingSink struct {
	*sink.Lines
	held  map[string]event.Checkpoint
	meter *meter
}

func (s *countingSink) Recover(context.Context) (event.State, error) {
	return event.State{Streams: s.held}, nil
}

func (s *countingSink) Commit(ctx context.Context, b event.Batch) error {
	err := s.Lines.Commit(ctx, b)
	n := 0
	for _, ev := range b.Events {
		if ev.Type.OfObject() {
			n++
		}
	}
	s.meter.events(n)
	return err
}

// typed is a client that asks for protobuf, and for nothing else.
func typed(c *rest.Config) (*kubernetes.Clientset, error) {
	c = rest.CopyConfig(c)
	c.ContentType, c.AcceptContentTypes = protobufType, protobufType
	return kubernetes.NewForConfig(c)
}

// viaInformer starts from an empty list, since an informer takes no position.
func viaInformer(ctx context.Context, c *rest.Config, position string, m *meter) error {
	client, err := typed(c)
	if err != nil {
		return err
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(context.Context, metav1.ListOptions) (runtime.Object, error) {
			return &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: position}}, nil
		},
		WatchFuncWithContext: client.CoreV1().Pods("").Watch,
	}
	informer := cache.NewSharedInformer(cache.ToListWatcherWithWatchListSemantics(lw, noWatchList{}), &corev1.Pod{}, 0)
	if err := informer.SetTransform(strip); err != nil {
		return err
	}
	out := newEncoder(m)
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { out.write("added", obj) },
		UpdateFunc: func(_, obj any) { out.write("modified", obj) },
	})
	if err != nil {
		return err
	}
	informer.RunWithContext(ctx)
	return nil
}

type noWatchList struct{}

func (noWatchList) IsWatchListSemanticsUnSupported() bool { return true }

func viaRetryWatcher(ctx context.Context, c *rest.Config, position string, m *meter) error {
	client, err := typed(c)
	if err != nil {
		return err
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, position, &cache.ListWatch{WatchFuncWithContext: client.CoreV1().Pods("").Watch})
	if err != nil {
		return err
	}
	return drain(w, newEncoder(m))
}

func viaDynamic(ctx context.Context, c *rest.Config, position string, m *meter) error {
	client, err := dynamic.NewForConfig(c)
	if err != nil {
		return err
	}
	w, err := client.Resource(pods).Watch(ctx, *options(position))
	if err != nil {
		return err
	}
	return drain(w, newEncoder(m))
}

func drain(w watch.Interface, out *encoder) error {
	defer w.Stop()
	for ev := range w.ResultChan() {
		if ev.Type == watch.Error {
			return fmt.Errorf("the watch says %v", ev.Object)
		}
		if ev.Type == watch.Bookmark {
			continue
		}
		if _, err := strip(ev.Object); err != nil {
			return err
		}
		out.write(string(ev.Type), ev.Object)
	}
	return errors.New("the watch was closed")
}

// strip takes out what watcher leaves out.
func strip(obj any) (any, error) {
	o, err := meta.Accessor(obj)
	if err == nil {
		o.SetManagedFields(nil)
	}
	return obj, err
}

// An encoder writes what is most simply written of a change: an envelope and the object, by encoding/json.
type encoder struct {
	out   *bufio.Writer
	meter *meter
}

func newEncoder(m *meter) *encoder { return &encoder{bufio.NewWriterSize(io.Discard, 64<<10), m} }

type envelope struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	Data            data   `json:"data"`
}

type data struct {
	ResourceVersion string `json:"resourceVersion"`
	Object          any    `json:"object"`
}

func (e *encoder) write(typ string, obj any) {
	o, _ := meta.Accessor(obj) // of a pod there is one
	line, _ := json.Marshal(envelope{
		SpecVersion: "1.0", ID: string(o.GetUID()) + "." + o.GetResourceVersion(), Source: "/clusters/bench/api/v1/pods", Type: typ,
		Subject: o.GetNamespace() + "/" + o.GetName(), Time: time.Now().UTC().Format(time.RFC3339Nano), DataContentType: jsonType,
		Data: data{o.GetResourceVersion(), obj},
	}) // a pod can be marshalled
	_, _ = e.out.Write(append(line, '\n')) // to nowhere
	e.meter.events(1)
}
