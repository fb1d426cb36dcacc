package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A kind of object that a load creates, changes and deletes.
type kind struct {
	resource, path string // %s is the namespace
	perSecond      int
	object         string // what %s, the name, begins as
	patches        []patch
}

// A patch is a merge patch with a number in it, of the object or of its subresource.
type patch struct{ subresource, body string }

const loadSpec = `"spec":{"containers":[{"name":"main","image":"shop/web:1.0"}]}`

// kinds are changed at 250 a second together, most of them cheap.
var kinds = []kind{
	{"configmaps", "/api/v1/namespaces/%s/configmaps", 130, `{"metadata":{"name":"%s"}}`, []patch{{"", `{"data":{"n":"%d"}}`}}},
	{"pods", "/api/v1/namespaces/%s/pods", 45, `{"metadata":{"name":"%s"},` + loadSpec + `}`, []patch{
		{"", `{"metadata":{"labels":{"n":"%d"}}}`}, {"/status", `{"status":{"phase":"Running","message":"%d"}}`},
	}},
	{"deployments", "/apis/apps/v1/namespaces/%s/deployments", 25,
		`{"metadata":{"name":"%s"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},` + loadSpec + `}}}`,
		[]patch{{"", `{"spec":{"replicas":%d}}`}, {"/status", `{"status":{"observedGeneration":%d}}`}}},
	{"services", "/api/v1/namespaces/%s/services", 20, `{"metadata":{"name":"%s"},"spec":{"ports":[{"port":80}]}}`,
		[]patch{{"", `{"metadata":{"annotations":{"n":"%d"}}}`}}},
	{"events", "/api/v1/namespaces/%s/events", 30, `{"metadata":{"name":"%s"},"involvedObject":{"namespace":"load"}}`, []patch{{"", `{"count":%d}`}}},
}

// resources are the names of the kinds, and paths where they are listed in all namespaces.
func resources() (names []string, paths map[string]string) {
	paths = map[string]string{}
	for _, k := range kinds {
		path := "/api/v1/" + k.resource
		if k.resource == "deployments" {
			path = "/apis/apps/v1/deployments"
		}
		paths[k.resource] = path
	}
	return slices.Sorted(maps.Keys(paths)), paths
}

// A load changes objects of all kinds in its namespace, load, through an API server that must not end.
type load struct {
	api     *api
	seed    uint64
	changes atomic.Int64
}

// run makes changes until the context ends.
func (l *load) run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make(chan error, len(kinds))
	ctx, cancel := context.WithCancelCause(ctx)
	for i, k := range kinds {
		wg.Go(func() {
			if err := l.change(ctx, k, rand.New(rand.NewPCG(l.seed, uint64(i)))); err != nil && ctx.Err() == nil {
				errs <- err
				cancel(err)
			}
		})
	}
	wg.Wait()
	cancel(nil)
	close(errs)
	return <-errs
}

func (l *load) change(ctx context.Context, k kind, r *rand.Rand) error {
	tick := time.NewTicker(time.Second / time.Duration(k.perSecond))
	defer tick.Stop()
	alive := map[string]bool{}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		name := fmt.Sprintf("%s-%d", k.resource, r.IntN(40))
		var err error
		switch {
		case !alive[name]:
			err = l.create(ctx, k, name)
		case r.IntN(8) == 0:
			err = l.send(ctx, "DELETE", k, "/"+name, "application/json", `{"gracePeriodSeconds":0}`)
		default:
			p := k.patches[r.IntN(len(k.patches))]
			err = l.send(ctx, "PATCH", k, "/"+name+p.subresource, "application/merge-patch+json", fmt.Sprintf(p.body, n))
			alive[name] = false
		}
		if err != nil {
			return err
		}
		alive[name] = !alive[name]
		l.changes.Add(1)
	}
}

func (l *load) create(ctx context.Context, k kind, name string) error {
	return l.send(ctx, "POST", k, "", "application/json", fmt.Sprintf(k.object, name))
}

func (l *load) send(ctx context.Context, verb string, k kind, path, contentType, body string) error {
	path = fmt.Sprintf(k.path, "load") + path
	err := l.api.CoreV1().RESTClient().Verb(verb).AbsPath(path).SetHeader("Content-Type", contentType).Body([]byte(body)).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, path, err)
	}
	return nil
}

// end makes one last object of each kind. Once it is written, so is all that came before it.
func (l *load) end(t *testing.T) {
	t.Helper()
	for _, k := range kinds {
		if err := l.create(t.Context(), k, "end"); err != nil {
			t.Fatal(err)
		}
	}
}
