package watch_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// parts is what an event says of what changed: "spec,status", "nothing", or "unknown".
func parts(ev *event.Event) string {
	switch names := ev.Changed.Names(); {
	case ev.Changed&event.Told == 0:
		return "unknown"
	case len(names) == 0:
		return "nothing"
	default:
		return strings.Join(names, ",")
	}
}

// fields is metadata.managedFields of entries such as "kubectl Update 05:00".
func fields(entries ...string) watchtest.Edit {
	var out []string
	for _, e := range entries {
		var manager, operation, at string
		_, _ = fmt.Sscan(e, &manager, &operation, &at) // constants
		out = append(out, fmt.Sprintf(`{"manager":%q,"operation":%q,"time":"2000-01-01T00:%sZ","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}}}`, manager, operation, at))
	}
	return watchtest.Meta("managedFields", "["+strings.Join(out, ",")+"]")
}

// whole is an object with all of its parts.
var whole = []watchtest.Edit{watchtest.Labels("app", "web"), watchtest.Spec(`{"replicas":1}`), watchtest.Status(`{"ready":1}`), fields("kubectl Update 01:00")}

var edits = []struct {
	name           string
	edit           []watchtest.Edit
	full, metadata string // what is told of it, by payload
}{
	{"spec", []watchtest.Edit{watchtest.Spec(`{"replicas":2}`)}, "spec", "spec"},
	{"label", []watchtest.Edit{watchtest.Labels("n", "1")}, "metadata", "metadata"},
	{"finalizer", []watchtest.Edit{watchtest.Meta("finalizers", `["a/b"]`)}, "metadata", "metadata"},
	{"deletion begins", []watchtest.Edit{watchtest.Meta("deletionTimestamp", `"2000-01-01T00:00:00Z"`)}, "metadata", "metadata"},
	{"status", []watchtest.Edit{watchtest.Status(`{"ready":0}`)}, "status", "unknown"},
	{"status goes", []watchtest.Edit{watchtest.Status("")}, "status", "unknown"},
	{"another member", []watchtest.Edit{watchtest.Raw("data", `{"k":"v"}`)}, "spec", "unknown"}, // generation does not move with it
	{"all", []watchtest.Edit{watchtest.Spec(`{"replicas":3}`), watchtest.Labels("n", "2"), watchtest.Status(`{"ready":3}`)}, "spec,metadata,status", "spec,metadata"},
	{"spec and status", []watchtest.Edit{watchtest.Spec(`{"replicas":3}`), watchtest.Status(`{"ready":3}`)}, "spec,status", "spec"},
	{"bookkeeping", []watchtest.Edit{fields("kubectl Update 02:00")}, "nothing", "unknown"},
	{"nothing", []watchtest.Edit{watchtest.Meta("generation", "7")}, "nothing", "spec"},
}

// An event says which parts of its object the change touched: told by the server live, found out in a gap, and after a restart.
func TestAnEventSaysWhichPartsChanged(t *testing.T) {
	for _, e := range edits {
		for _, payload := range []watch.Payload{watch.PayloadFull, watch.PayloadMetadata, watch.PayloadNone} {
			for _, how := range []string{"live", "after a restart", "in a gap"} {
				t.Run(fmt.Sprintf("%s/payload=%s/%s", e.name, payload, how), func(t *testing.T) {
					bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
						srv.Create(watchtest.Pods, "shop/a", whole...)
						sink := newMemory()
						paid := func(c *watch.Config) { c.Payload = payload }
						r := start(t, srv, sink, []string{"pods"}, paid)
						pass(time.Second)
						change := func() { srv.Update(watchtest.Pods, "shop/a", e.edit...) }
						switch how {
						case "live":
							change()
						case "after a restart":
							r.stop(t)
							change()
							r = start(t, srv, sink, []string{"pods"}, paid)
						default:
							unseen(srv, change)
						}
						pass(20 * time.Second)
						r.stop(t)
						want := e.full
						if payload != watch.PayloadFull {
							want = e.metadata
						}
						i := slices.Index(r.said("pods"), "modified shop/a@102")
						if i < 0 {
							t.Fatalf("got %q", r.said("pods"))
						}
						if got := parts(r.of("pods")[i]); got != want {
							t.Errorf("%s was told as %q, want %q", e.name, got, want)
						}
					})
				})
			}
		}
	}
}

// What an event says is relative to the state before it, not to the first; and of an object whose state before is not known
// nothing is said.
func TestWhatChangedIsRelativeToTheStateBefore(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", whole...)
		r := start(t, srv, newMemory(), []string{"pods"}, unlisted)
		pass(time.Second)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
		srv.Update(watchtest.Pods, "shop/a", watchtest.Status(`{"ready":0}`))
		srv.Update(watchtest.Pods, "shop/a", watchtest.Status(`{"ready":1}`))
		srv.Delete(watchtest.Pods, "shop/a")
		srv.Create(watchtest.Pods, "shop/a", whole...)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
		pass(time.Second)
		r.stop(t)
		var got []string
		for _, ev := range r.of("pods")[1:7] {
			got = append(got, ev.Type.String()+" "+parts(ev))
		}
		check(t, got, "modified unknown", "modified status", "modified status", "deleted unknown", "added unknown", "modified metadata")
	})
}

// A change of an object that is not the one that is remembered under its name is told of relative to nothing.
func TestWhatChangedIsNotRelativeToAnotherObject(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", whole...)
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		srv.SendLine(watchtest.Pods, podFrame("MODIFIED", "a", 201, `,"spec":{"replicas":7},"status":{"ready":1}`))
		pass(time.Second)
		if ev := r.of("pods")[3]; short(ev) != "modified shop/a@201" || parts(ev) != "unknown" {
			t.Errorf("%s: %s", short(ev), parts(ev))
		}
		r.stop(t)
	})
}

// Of several changes in a gap the net change is told.
func TestTheNetChangeOfAGapIsTold(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", whole...)
		srv.Create(watchtest.Pods, "shop/b", whole...)
		r := start(t, srv, newMemory(), []string{"pods"})
		pass(time.Second)
		unseen(srv, func() {
			srv.Update(watchtest.Pods, "shop/a", watchtest.Status(`{"ready":0}`))
			srv.Update(watchtest.Pods, "shop/a", watchtest.Status(`{"ready":1}`)) // as it was
			srv.Update(watchtest.Pods, "shop/b", watchtest.Labels("n", "1"))
			srv.Update(watchtest.Pods, "shop/b", watchtest.Status(`{"ready":0}`))
		})
		pass(20 * time.Second)
		r.stop(t)
		var got []string
		for _, ev := range r.of("pods")[5:7] {
			got = append(got, short(ev)+" "+parts(ev))
		}
		slices.Sort(got)
		check(t, got, "modified shop/a@104 nothing", "modified shop/b@106 metadata,status")
	})
}

// An actor is reported only if the newest entry of managedFields came with this change; everything else is silence.
func TestAnActorIsReportedOnlyIfItMadeTheChange(t *testing.T) {
	label := watchtest.Labels("n", "1")
	for name, c := range map[string]struct {
		edit []watchtest.Edit
		want string
	}{
		"a newer entry":                   {[]watchtest.Edit{label, fields("kubectl Update 01:00", "hpa Update 02:00")}, "hpa Update 2000-01-01T00:02:00Z"},
		"the newest is not the last":      {[]watchtest.Edit{label, fields("flux Apply 02:00", "kubectl Update 01:00")}, "flux Apply 2000-01-01T00:02:00Z"},
		"the same manager again":          {[]watchtest.Edit{label, fields("kubectl Update 02:00")}, "kubectl Update 2000-01-01T00:02:00Z"},
		"none newer (a removal)":          {[]watchtest.Edit{watchtest.Labels("app", "")}, ""},
		"another in the same second":      {[]watchtest.Edit{label, fields("kubectl Update 01:00", "hpa Update 01:00")}, ""},
		"two newer in one second":         {[]watchtest.Edit{label, fields("kubectl Update 01:00", "hpa Update 02:00", "flux Apply 02:00")}, ""},
		"cleared":                         {[]watchtest.Edit{label, watchtest.Meta("managedFields", "")}, ""},
		"one of two goes":                 {[]watchtest.Edit{watchtest.Labels("app", ""), fields("hpa Update 01:00")}, ""},
		"the newest goes, an older stays": {[]watchtest.Edit{label, fields("old Update 00:30")}, ""},
	} {
		for _, how := range []string{"live", "in a gap"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
					srv.Create(watchtest.Pods, "shop/a", whole...)
					if name == "one of two goes" {
						srv.Update(watchtest.Pods, "shop/a", fields("kubectl Update 01:00", "hpa Update 01:00"))
					}
					r := start(t, srv, newMemory(), []string{"pods"})
					pass(time.Second)
					var rv uint64
					change := func() { rv = srv.Update(watchtest.Pods, "shop/a", c.edit...) }
					if how == "live" {
						change()
					} else {
						unseen(srv, change)
					}
					pass(20 * time.Second)
					r.stop(t)
					i := slices.Index(r.said("pods"), fmt.Sprintf("modified shop/a@%d", rv))
					if i < 0 {
						t.Fatalf("got %q", r.said("pods"))
					}
					if got := actor(r.of("pods")[i]); got != c.want {
						t.Errorf("got %q, want %q", got, c.want)
					}
				})
			})
		}
	}
}

func actor(ev *event.Event) string {
	return strings.TrimSpace(ev.Actor.Manager + " " + ev.Actor.Operation + " " + ev.Actor.Time)
}

// Who created an object is reported; a deletion has no actor, what was listed has none, and with selectors an addition is
// none either: it may have begun to match.
func TestACreationHasAnActorAndADeletionNone(t *testing.T) {
	for selector, want := range map[string]string{"": "kubectl Update 2000-01-01T00:01:00Z", "app=web": ""} {
		bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
			srv.Create(watchtest.Pods, "shop/listed", whole...)
			r := start(t, srv, newMemory(), []string{"pods"}, func(c *watch.Config) { c.LabelSelector = selector })
			pass(time.Second)
			srv.Create(watchtest.Pods, "shop/a", whole...)
			srv.Delete(watchtest.Pods, "shop/a")
			pass(time.Second)
			unseen(srv, func() {
				srv.Create(watchtest.Pods, "shop/unseen", whole...) // it may have been changed since
				srv.Delete(watchtest.Pods, "shop/listed")
			})
			pass(20 * time.Second)
			r.stop(t)
			for _, ev := range r.of("pods") {
				wanted := ""
				if short(ev) == "added shop/a@102" {
					wanted = want
				}
				if got := actor(ev); got != wanted {
					t.Errorf("%s has the actor %q, want %q", short(ev), got, wanted)
				}
			}
		})
	}
}

func payload(p watch.Payload) func(*watch.Config) { return func(c *watch.Config) { c.Payload = p } }

// Hashes of another payload are of no use, also two runs later.
func TestHashesOfAnotherPayloadAreNotComparedTwoRunsLater(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/a", whole...)
		sink := newMemory()
		for _, p := range []watch.Payload{watch.PayloadFull, watch.PayloadMetadata} {
			r := start(t, srv, sink, []string{"pods"}, payload(p))
			pass(time.Second)
			r.stop(t)
		}
		r := start(t, srv, sink, []string{"pods"}, payload(watch.PayloadMetadata))
		pass(time.Second)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
		pass(time.Second)
		r.stop(t)
		for _, ev := range r.of("pods") {
			if ev.Type == event.Modified && (ev.Changed&event.Spec != 0 || ev.Changed&event.Status != 0) {
				t.Errorf("a label moved, and changed says %q", ev.Changed.Names())
			}
		}
	})
}
