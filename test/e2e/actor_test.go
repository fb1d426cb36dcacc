package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A write is one request, and what watcher makes of it.
type write struct {
	what        string
	verb, path  string
	manager     string // "": the user agent
	contentType string
	body        string
	want        string // events: "OP PARTS by ACTOR"; no parts: not known; no actor: stale, ambiguous or unknown
	sameSecond  bool   // as the write before
}

const (
	merge     = "application/merge-patch+json"
	strategic = "application/strategic-merge-patch+json"
	apply     = "application/apply-patch+yaml"
	plain     = "application/json"
)

// TestWhoChangedIt: what managedFields says is told where it is right, and nothing where it would name somebody else.
func TestWhoChangedIt(t *testing.T) {
	t.Parallel()
	c := common.start(t)
	a := connect(t, c.Config())
	a.namespace(t, "who")
	gvr := a.installWidgets(t, "who.example.com")
	w := watch(t, c.Kubeconfig(), "-n", "who", "deployments.apps", "pods", "services", "widgets.v1.who.example.com")
	w.synced(t, 4)
	var want, got []string
	for _, wr := range slices.Concat(deploymentWrites(), podWrites(), serviceWrites(), widgetWrites("/apis/"+gvr.GroupVersion().String()+"/namespaces/who/widgets")) {
		if !wr.sameSecond {
			nextSecond(t)
		}
		if err := wr.send(t, a); err != nil {
			t.Fatalf("%s: %v", wr.what, err)
		}
		for one := range strings.SplitSeq(wr.want, ", ") {
			if one != "" {
				want = append(want, wr.what+": "+one)
			}
		}
	}
	evs := w.wait(t, patience, "all of it", func(evs []event) bool { return count(evs, (*event).live) >= len(want) })
	live := pick(evs, (*event).live)
	slices.SortStableFunc(live, func(a, b event) int { // the writes were to several resources
		return cmp.Compare(number(a.Data.ResourceVersion), number(b.Data.ResourceVersion))
	})
	for i := range live {
		got = append(got, told(&live[i].Data))
	}
	for i, w := range want {
		if _, what, _ := strings.Cut(w, ": "); what != got[i] {
			t.Errorf("%s; got %s", w, got[i])
		}
	}
	w.stop(t)
}

// told is what watcher says of a change, in the words of write.want.
func told(d *data) string {
	s := d.Op
	switch {
	case d.Changed == nil:
	case len(d.Changed) == 0:
		s += " nothing"
	default:
		s += " " + strings.Join(d.Changed, "+")
	}
	if d.Actor != nil {
		s += " by " + d.Actor.Manager
	}
	return s
}

func (wr *write) send(t *testing.T, a *api) error {
	t.Helper()
	request := a.CoreV1().RESTClient().Verb(wr.verb).AbsPath(wr.path).SetHeader("Content-Type", wr.contentType)
	if wr.manager != "" {
		request = request.Param("fieldManager", wr.manager)
	}
	if wr.body != "" {
		request = request.Body([]byte(wr.body))
	}
	return request.Do(t.Context()).Error()
}

// nextSecond waits for one to begin: managedFields knows no finer time.
func nextSecond(t *testing.T) {
	t.Helper()
	now := time.Now()
	if err := pause(t.Context(), now.Truncate(time.Second).Add(time.Second+50*time.Millisecond).Sub(now)); err != nil {
		t.Fatal(err)
	}
}

func deploymentWrites() []write {
	const all = "/apis/apps/v1/namespaces/who/deployments"
	const d1 = all + "/d1"
	applied := func(annotations string) string {
		return fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d1","annotations":{%s}}}`, annotations)
	}
	return []write{
		{what: "create", verb: "POST", path: all, manager: "creator", contentType: plain, want: "added by creator",
			body: `{"metadata":{"name":"d1","labels":{"x":"1"}},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`},
		{what: "add a label", verb: "PATCH", path: d1, manager: "labeller", contentType: merge, body: `{"metadata":{"labels":{"y":"1"}}}`,
			want: "modified metadata by labeller"},
		{what: "modify", verb: "PATCH", path: d1, manager: "modifier", contentType: merge, body: `{"spec":{"replicas":2}}`,
			want: "modified spec by modifier"},
		{what: "both at once", verb: "PATCH", path: d1, manager: "both", contentType: merge, body: `{"metadata":{"labels":{"v":"1"}},"spec":{"replicas":3}}`,
			want: "modified spec+metadata by both"},
		{what: "remove a label by update (stale)", verb: "PATCH", path: d1, manager: "remover", contentType: merge, body: `{"metadata":{"labels":{"y":null}}}`,
			want: "modified metadata"},
		{what: "an update that changes nothing", verb: "PATCH", path: d1, manager: "idle", contentType: merge, body: `{"spec":{"replicas":3}}`},
		{what: "status", verb: "PATCH", path: d1 + "/status", manager: "controller", contentType: merge, body: `{"status":{"observedGeneration":1,"replicas":2}}`,
			want: "modified status by controller"},
		{what: "scale (stale)", verb: "PATCH", path: d1 + "/scale", manager: "scaler", contentType: merge, body: `{"spec":{"replicas":5}}`,
			want: "modified spec"},
		{what: "apply", verb: "PATCH", path: d1, manager: "applier", contentType: apply, body: applied(`"e":"1","e2":"1"`),
			want: "modified metadata by applier"},
		{what: "apply that only owns, too (stale), and nothing but bookkeeping", verb: "PATCH", path: d1, manager: "owner", contentType: apply, body: applied(`"e":"1"`),
			want: "modified nothing"},
		{what: "update after apply", verb: "PATCH", path: d1, manager: "modifier", contentType: merge, body: `{"spec":{"replicas":6}}`,
			want: "modified spec by modifier"},
		{what: "remove by apply", verb: "PATCH", path: d1, manager: "applier", contentType: apply, body: applied(`"e":"1"`),
			want: "modified metadata by applier"},
		{what: "two in one second, the first", verb: "PATCH", path: d1, manager: "zed", contentType: merge, body: `{"metadata":{"annotations":{"one":"1"}}}`,
			want: "modified metadata by zed"},
		{what: "two in one second, the second (ambiguous)", verb: "PATCH", path: d1, manager: "abe", contentType: merge, body: `{"metadata":{"annotations":{"two":"1"}}}`,
			want: "modified metadata", sameSecond: true},
		{what: "add finalizers", verb: "PATCH", path: d1, manager: "guard", contentType: merge, body: `{"metadata":{"finalizers":["example.com/a","example.com/b"]}}`,
			want: "modified metadata by guard"},
		{what: "remove a finalizer (stale)", verb: "PATCH", path: d1, manager: "cleaner", contentType: merge, body: `{"metadata":{"finalizers":["example.com/a"]}}`,
			want: "modified metadata"},
		{what: "delete, held by a finalizer (stale)", verb: "DELETE", path: d1, manager: "deleter", contentType: plain,
			want: "modified metadata"},
		{what: "remove the last finalizer (a deletion)", verb: "PATCH", path: d1, manager: "cleaner", contentType: merge, body: `{"metadata":{"finalizers":null}}`,
			want: "deleted"},
	}
}

func podWrites() []write {
	const all = "/api/v1/namespaces/who/pods"
	create := func(name string) string {
		return `{"metadata":{"name":"` + name + `","labels":{"a":"b"}},"spec":{"terminationGracePeriodSeconds":30,"containers":[{"name":"c","image":"i"}]}}`
	}
	bind := func(name string) string {
		return `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"` + name + `"},"target":{"apiVersion":"v1","kind":"Node","name":"n1"}}`
	}
	const now = `{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}`
	return []write{
		{what: "create a pod", verb: "POST", path: all, manager: "kcm", contentType: plain, body: create("p1"), want: "added by kcm"},
		{what: "bind (stale)", verb: "POST", path: all + "/p1/binding", manager: "scheduler", contentType: plain, body: bind("p1"),
			want: "modified spec+status"},
		{what: "pod status", verb: "PATCH", path: all + "/p1/status", manager: "kubelet", contentType: strategic,
			body: `{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}`, want: "modified status by kubelet"},
		{what: "pod status again", verb: "PATCH", path: all + "/p1/status", manager: "kubelet", contentType: strategic,
			body: `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`, want: "modified status by kubelet"},
		{what: "pod image", verb: "PATCH", path: all + "/p1", manager: "setter", contentType: strategic,
			body: `{"spec":{"containers":[{"name":"c","image":"j"}]}}`, want: "modified spec by setter"},
		{what: "pod label", verb: "PATCH", path: all + "/p1", manager: "labeller", contentType: merge, body: `{"metadata":{"labels":{"q":"1"}}}`,
			want: "modified metadata by labeller"},
		{what: "delete a pod, gracefully (stale)", verb: "DELETE", path: all + "/p1", manager: "user", contentType: plain, want: "modified metadata"},
		{what: "clear managedFields (unknown), and nothing but bookkeeping", verb: "PATCH", path: all + "/p1", manager: "eraser", contentType: merge,
			body: `{"metadata":{"managedFields":[{}]}}`, want: "modified nothing"},
		{what: "a label after clearing", verb: "PATCH", path: all + "/p1", manager: "labeller", contentType: merge, body: `{"metadata":{"labels":{"q":"2"}}}`,
			want: "modified metadata"},
		{what: "delete the pod for good", verb: "DELETE", path: all + "/p1", manager: "kubelet", contentType: plain, body: now, want: "modified metadata, deleted"},
		{what: "create a pod to evict", verb: "POST", path: all, manager: "kcm", contentType: plain, body: create("p2"), want: "added by kcm"},
		{what: "bind it (stale)", verb: "POST", path: all + "/p2/binding", manager: "scheduler", contentType: plain, body: bind("p2"),
			want: "modified spec+status"},
		{what: "evict (stale)", verb: "POST", path: all + "/p2/eviction", manager: "drain", contentType: plain,
			body: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p2"}}`, want: "modified status, modified metadata"},
		{what: "delete what was evicted", verb: "DELETE", path: all + "/p2", manager: "kubelet", contentType: plain, body: now, want: "modified metadata, deleted"},
	}
}

func serviceWrites() []write {
	const all = "/api/v1/namespaces/who/services"
	return []write{
		{what: "create a service", verb: "POST", path: all, manager: "creator", contentType: plain, body: `{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}`,
			want: "added by creator"},
		{what: "service spec", verb: "PATCH", path: all + "/s", manager: "setter", contentType: merge, body: `{"spec":{"selector":{"app":"web"}}}`,
			want: "modified spec by setter"},
		{what: "service metadata", verb: "PATCH", path: all + "/s", manager: "labeller", contentType: merge, body: `{"metadata":{"labels":{"q":"1"}}}`,
			want: "modified metadata by labeller"},
		{what: "service status", verb: "PATCH", path: all + "/s/status", manager: "balancer", contentType: merge,
			body: `{"status":{"conditions":[{"type":"Up","status":"True","reason":"Yes","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`,
			want: "modified status by balancer"},
		{what: "service deleted", verb: "DELETE", path: all + "/s", manager: "creator", contentType: plain, want: "deleted"},
	}
}

func widgetWrites(all string) []write {
	return []write{
		{what: "create a widget", verb: "POST", path: all, manager: "creator", contentType: plain,
			body: `{"apiVersion":"who.example.com/v1","kind":"Widget","metadata":{"name":"w"},"spec":{"size":1},"extra":{"a":1}}`,
			want: "added by creator"},
		{what: "widget spec", verb: "PATCH", path: all + "/w", manager: "setter", contentType: merge, body: `{"spec":{"size":2}}`,
			want: "modified spec by setter"},
		{what: "what is neither spec, nor metadata, nor status", verb: "PATCH", path: all + "/w", manager: "other", contentType: merge, body: `{"extra":{"a":2}}`,
			want: "modified spec by other"},
		{what: "widget status", verb: "PATCH", path: all + "/w/status", manager: "operator", contentType: merge, body: `{"status":{"phase":"spinning"}}`,
			want: "modified status by operator"},
		{what: "widget metadata", verb: "PATCH", path: all + "/w", manager: "labeller", contentType: merge, body: `{"metadata":{"annotations":{"q":"1"}}}`,
			want: "modified metadata by labeller"},
		{what: "widget deleted", verb: "DELETE", path: all + "/w", manager: "creator", contentType: plain, want: "deleted"},
	}
}
