package watch_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

var (
	podsResource    = watch.Resource{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Kind: "Pod", Namespaced: true}
	secretsResource = watch.Resource{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, Kind: "Secret", Namespaced: true}
)

// at is what existed at a version: "shop/web-1@105".
func at(t *testing.T, srv *watchtest.Server, res watch.Resource, sel watch.Selection, version uint64) (names, bodies []string, err error) {
	t.Helper()
	client, err := watch.NewClient(srv.Config(), 1000, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if sel.Payload == "" {
		sel.Payload = watch.PayloadFull
	}
	for o, err := range client.At(t.Context(), res, sel, strconv.FormatUint(version, 10)) {
		if err != nil {
			return names, bodies, err
		}
		names = append(names, o.Key()+"@"+o.ResourceVersion)
		bodies = append(bodies, string(o.Body))
	}
	return names, bodies, nil
}

// TestWhatExistedAtAVersionIsListed: page by page, with the stream's selection, as it was then and not as it is now.
func TestWhatExistedAtAVersionIsListed(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		var want []string
		for i := range 1100 { // three pages
			rv := srv.Create(watchtest.Pods, fmt.Sprintf("shop/web-%04d", i), watchtest.Labels("half", strconv.Itoa(i%2)))
			want = append(want, fmt.Sprintf("shop/web-%04d@%d", i, rv))
		}
		other := srv.Create(watchtest.Pods, "stage/web")
		then := srv.RV()
		srv.Delete(watchtest.Pods, "shop/web-0003")
		srv.Update(watchtest.Pods, "shop/web-0004", watchtest.Spec(`{"a":1}`))
		srv.Create(watchtest.Pods, "shop/zzz")

		got, _, err := at(t, srv, podsResource, watch.Selection{}, then)
		if err != nil || !slices.Equal(got, append(slices.Clone(want), fmt.Sprintf("stage/web@%d", other))) {
			t.Errorf("%v: %d objects, want 1101", err, len(got))
		}
		got, _, err = at(t, srv, podsResource, watch.Selection{Namespace: "shop"}, then)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %d objects in the namespace, want 1100", err, len(got))
		}
		got, bodies, err := at(t, srv, podsResource, watch.Selection{LabelSelector: "half=1", Payload: watch.PayloadNone}, then)
		if err != nil || len(got) != 550 || bodies[0] != "" {
			t.Errorf("%v: %d objects of the label, want 550 without bodies", err, len(got))
		}
		if got, _, err = at(t, srv, secretsResource, watch.Selection{}, then); err != nil || len(got) != 0 {
			t.Errorf("%v: %v, want no secrets", err, got)
		}
	})
}

// TestWhatIsListedIsCutAsInTheLog: else the parts of an object would not compare.
func TestWhatIsListedIsCutAsInTheLog(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		rv := srv.Create(watchtest.Secrets, "shop/key", watchtest.Annotations("kubectl.kubernetes.io/last-applied-configuration", "secret", "a", "b"))
		_, bodies, err := at(t, srv, secretsResource, watch.Selection{Payload: watch.PayloadMetadata}, rv)
		if err != nil || len(bodies) != 1 || strings.Contains(bodies[0], "last-applied") || !strings.Contains(bodies[0], `"a":"b"`) {
			t.Errorf("%v: %v", err, bodies)
		}
	})
}

// TestAListThatIsNotOfTheVersionIsRefused: whatever else it shows would be taken for a difference.
func TestAListThatIsNotOfTheVersionIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(srv *watchtest.Server)
		ahead uint64
		says  string
	}{
		{"Forgotten", func(srv *watchtest.Server) { srv.Compact(srv.RV()) }, 0, "etcd has forgotten version 103, it keeps 5 to 10 minutes: "},
		{"ForgottenBetweenPages", func(srv *watchtest.Server) {
			srv.On(watchtest.Lists().When(func(q *watchtest.Request) bool { return q.Query.Get("continue") != "" }), watchtest.Fail(410, "Expired", "too old"))
		}, 0, "etcd has forgotten version 103"},
		{"Ignored", func(srv *watchtest.Server) { srv.On(watchtest.Lists(), watchtest.IgnoreExact()) }, 0,
			"list pods: the API server does not answer for exact versions: the answer is of version 104"},
		{"IgnoredByTheItemsAlone", func(srv *watchtest.Server) {
			srv.On(watchtest.Lists(), watchtest.IgnoreExact(), watchtest.Rewrite(func(b []byte) []byte {
				head, rest, _ := strings.Cut(string(b), `"104"`)
				return []byte(head + `"103"` + rest)
			}))
		}, 0, "an object is of version 104"},
		{"NotReached", func(*watchtest.Server) {}, 1000, "the API server has not reached version 1103: "},
		{"Forbidden", func(srv *watchtest.Server) { srv.Forbid(watchtest.Pods, "list") }, 0, "permission is missing: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/web-1")
				then := srv.Create(watchtest.Pods, "shop/web-2")
				srv.Update(watchtest.Pods, "shop/web-2", watchtest.Spec(`{"a":1}`))
				c.spoil(srv)
				got, _, err := at(t, srv, podsResource, watch.Selection{}, then+c.ahead)
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v: %v, want %q", got, err, c.says)
				}
			})
		})
	}
}
