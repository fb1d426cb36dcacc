package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// An api is the test's own way to the API server, through client-go's ordinary clients.
type api struct {
	*kubernetes.Clientset
	config  *rest.Config
	http    *http.Client
	dynamic dynamic.Interface
}

func connect(t *testing.T, config *rest.Config) *api {
	t.Helper()
	h, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	typed, err := kubernetes.NewForConfigAndClient(config, h)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, h)
	if err != nil {
		t.Fatal(err)
	}
	return &api{typed, config, h, dyn}
}

// must returns v, or fails the test.
func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// get returns the API server's own bytes.
func (a *api) get(t *testing.T, path string) []byte {
	t.Helper()
	uri, query, _ := strings.Cut(path, "?")
	req := a.CoreV1().RESTClient().Get().AbsPath(uri).SetHeader("Accept", "application/json")
	for pair := range strings.SplitSeq(query, "&") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			req.Param(k, v)
		}
	}
	raw, err := req.Do(t.Context()).Raw()
	return must(t, raw, err)
}

func (a *api) namespace(t *testing.T, name string) {
	t.Helper()
	ns, err := a.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	must(t, ns, err)
}

// configMap creates one, with labels if any are given.
func (a *api) configMap(t *testing.T, namespace, name string, labels map[string]string) *corev1.ConfigMap {
	t.Helper()
	cm, err := a.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"colour": "blue"},
	}, metav1.CreateOptions{})
	return must(t, cm, err)
}

// label sets a label of a ConfigMap, or removes it if the value is "".
func (a *api) label(t *testing.T, namespace, name, key, value string) *corev1.ConfigMap {
	t.Helper()
	patch := map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}}
	if value == "" {
		patch = map[string]any{"metadata": map[string]any{"labels": map[string]any{key: nil}}}
	}
	body, err := json.Marshal(patch)
	must(t, body, err)
	cm, err := a.CoreV1().ConfigMaps(namespace).Patch(t.Context(), name, types.MergePatchType, body, metav1.PatchOptions{})
	return must(t, cm, err)
}

func (a *api) deleteConfigMap(t *testing.T, namespace, name string) {
	t.Helper()
	if err := a.CoreV1().ConfigMaps(namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "shop/web:1.0"}}},
	}
}

func (a *api) pod(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	p, err := a.CoreV1().Pods(namespace).Create(t.Context(), pod(name), metav1.CreateOptions{})
	return must(t, p, err)
}

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// installWidgets makes the API server serve widgets of this group, and returns when it does.
func (a *api) installWidgets(t *testing.T, group string) schema.GroupVersionResource {
	t.Helper()
	definition := map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "widgets." + group},
		"spec": map[string]any{
			"group": group, "scope": "Namespaced",
			"names": map[string]any{"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}},
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}
	crd, err := a.dynamic.Resource(crds).Create(t.Context(), &unstructured.Unstructured{Object: definition}, metav1.CreateOptions{})
	must(t, crd, err)
	gvr := schema.GroupVersionResource{Group: group, Version: "v1", Resource: "widgets"}
	eventually(t, patience, gvr.String()+" is served", func() bool {
		_, err := a.dynamic.Resource(gvr).List(t.Context(), metav1.ListOptions{})
		_, found := a.Discovery().ServerResourcesForGroupVersion(gvr.GroupVersion().String())
		return err == nil && found == nil
	})
	return gvr
}

// removeWidgets returns when the definition is gone, and with it all widgets.
func (a *api) removeWidgets(t *testing.T, group string) {
	t.Helper()
	client := a.dynamic.Resource(crds)
	if err := client.Delete(t.Context(), "widgets."+group, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the definition is gone", func() bool {
		_, err := client.Get(t.Context(), "widgets."+group, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func (a *api) widget(t *testing.T, gvr schema.GroupVersionResource, name string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": gvr.GroupVersion().String(), "kind": "Widget", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"size": int64(9007199254740993), "ratio": 0.1, "z": "<&>", "a": []any{nil, map[string]any{}}},
	}}
	obj, err := a.dynamic.Resource(gvr).Namespace("default").Create(t.Context(), obj, metav1.CreateOptions{})
	return must(t, obj, err)
}

// A frame is one message of a raw watch.
type frame struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
	meta   meta
}

// meta is what identifies an object.
type meta struct {
	Namespace       string `json:"namespace"`
	Name            string `json:"name"`
	UID             string `json:"uid"`
	ResourceVersion string `json:"resourceVersion"`
}

// record watches path from there with nothing but net/http, until the test ends. What it returns gives all frames so far.
func (a *api) record(t *testing.T, path, resourceVersion string) func() []frame {
	t.Helper()
	ls := &lines{}
	stop := background(t, func(ctx context.Context) error {
		err := a.stream(ctx, path+"?watch=1&timeoutSeconds=600&resourceVersion="+resourceVersion, ls)
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	t.Cleanup(stop)
	return func() []frame {
		var frames []frame
		for _, l := range ls.all() {
			var f frame
			if err := json.Unmarshal([]byte(l), &f); err != nil {
				t.Fatalf("raw watch of %s: %v\n%s", path, err, short(l))
			}
			f.meta = metaOf(t, f.Object)
			frames = append(frames, f)
		}
		return frames
	}
}

func (a *api) stream(ctx context.Context, uri string, to *lines) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.config.Host+uri, nil)
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	var status bytes.Buffer
	if resp.StatusCode != http.StatusOK {
		_, _ = status.ReadFrom(resp.Body)
		return apierrors.NewGenericServerResponse(resp.StatusCode, "watch", schema.GroupResource{}, uri, status.String(), 0, true)
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buf)
		_, _ = to.Write(buf[:n])
		if err != nil {
			return err
		}
	}
}

func metaOf(t *testing.T, object []byte) meta {
	t.Helper()
	var o struct {
		Metadata meta `json:"metadata"`
	}
	if err := json.Unmarshal(object, &o); err != nil {
		t.Fatalf("%v\n%s", err, short(string(object)))
	}
	return o.Metadata
}

// normal returns what the object says, less metadata.managedFields, so that two can be compared; numbers stay text.
func normal(t *testing.T, object []byte) map[string]any {
	t.Helper()
	var o map[string]any
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		t.Fatalf("%v\n%s", err, short(string(object)))
	}
	if m, ok := o["metadata"].(map[string]any); ok {
		delete(m, "managedFields")
	}
	return o
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
