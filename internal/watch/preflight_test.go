package watch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"go.uber.org/zap"

	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// preflight tries what run would do to the server. The command that grants permissions is told as "grant USER".
func preflight(t *testing.T, kube *rest.Config, resources []string, edits ...func(*watch.Config)) (*watch.Report, error) {
	t.Helper()
	client, err := watch.NewClient(kube, 100, 200)
	if err != nil {
		t.Fatal(err)
	}
	conf := watch.Config{Client: client, Log: zap.NewNop(), Cluster: "test", Resources: resources}
	for _, edit := range edits {
		edit(&conf)
	}
	return watch.Preflight(t.Context(), conf, func(user string) string { return "grant " + user })
}

// found is a report in short: each reading, and each problem with what mends it.
func found(t *testing.T, kube *rest.Config, resources []string, edits ...func(*watch.Config)) []string {
	t.Helper()
	r, err := preflight(t, kube, resources, edits...)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range r.Resources {
		out = append(out, strings.Join([]string{r.Resource, r.Namespace, string(r.List), string(r.Watch), string(r.Exact), strconv.Itoa(r.Objects)}, "|"))
	}
	wrong := 0
	for _, p := range r.Problems {
		out = append(out, strings.Join([]string{string(p.Severity), p.Resource, p.Namespace, p.Problem, p.Mend}, "|"))
		if p.Severity == watch.Error {
			wrong++
		}
	}
	if r.OK != (wrong == 0) {
		t.Errorf("ok is %v with %d errors", r.OK, wrong)
	}
	return out
}

var everything = []watchtest.Resource{
	watchtest.Namespaces, watchtest.Pods, watchtest.Deployments, watchtest.Secrets, watchtest.Nodes, watchtest.Widgets,
}

// exact matches LISTs at a version of the past.
func exact(r watchtest.Resource) watchtest.Match {
	return watchtest.Lists(r).When(func(q *watchtest.Request) bool { return q.Query.Get("resourceVersionMatch") == "Exact" })
}

func TestPreflightCountsWhatRunWouldWrite(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/web-1")
		srv.Create(watchtest.Pods, "shop/web-2", watchtest.Annotations("note", strings.Repeat("x", 3000)))
		srv.Create(watchtest.Secrets, "shop/s", watchtest.Raw("data", `{"a":"c2VjcmV0"}`))
		for i := range 700 { // more than a page
			srv.Create(watchtest.Widgets, fmt.Sprintf("shop/w%d", i))
		}
		r, err := preflight(t, srv.Config(), []string{"pods", "po", "secrets", "widgets.example.com", "nodes"})
		if err != nil || !r.OK || len(r.Problems) > 0 {
			t.Fatalf("%v, %+v", err, r)
		}
		sink := newMemory()
		run := start(t, srv, sink, []string{"pods", "secrets", "widgets", "nodes"})
		pass(time.Second)
		run.stop(t)
		bytes, largest := map[string]int{}, map[string]watch.Largest{}
		for _, line := range sink.lines {
			var ev struct {
				Subject string
				Data    struct {
					Resource, Group string
					Object          json.RawMessage
				}
			}
			if err := json.Unmarshal([]byte(line), &ev); err != nil {
				t.Fatal(err)
			}
			name, n := strings.TrimSuffix(ev.Data.Resource+"."+ev.Data.Group, "."), len(ev.Data.Object)
			bytes[name] += n
			if n > largest[name].Bytes {
				largest[name] = watch.Largest{Object: ev.Subject, Bytes: n}
			}
		}
		var got []string
		for _, r := range r.Resources {
			got = append(got, fmt.Sprintf("%s %s %s %s %d", r.Resource, r.List, r.Watch, r.Exact, r.Objects))
			if r.Bytes != bytes[r.Resource] || r.Largest != nil && *r.Largest != largest[r.Resource] || (r.Largest == nil) != (r.Objects == 0) {
				t.Errorf("%s: %d bytes, %v; run writes %d, %v", r.Resource, r.Bytes, r.Largest, bytes[r.Resource], largest[r.Resource])
			}
		}
		check(t, got, "pods yes yes yes 2", "secrets yes yes yes 1", "widgets.example.com yes yes yes 700", "nodes yes yes yes 0")
		if s := r.Server; s.Address != "http://watchtest" || s.Version != "v1.37.2" || s.User != watchtest.User || len(s.Cluster) != 36 || *s.ClockAhead != 0 {
			t.Errorf("server %+v", s)
		}
		if n := srv.Watching(); n != 0 {
			t.Errorf("%d watches were left open", n)
		}
	})
}

// TestPreflightReadsAsRunDoes: the same selection, and permissions asked for by name where the API server checks by it.
func TestPreflightReadsAsRunDoes(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "a/web", watchtest.Labels("app", "web"))
		srv.Create(watchtest.Pods, "a/db", watchtest.Labels("app", "web"))
		check(t, found(t, srv.Config(), []string{"pods", "deployments.v1.apps", "nodes", "secrets"}, func(c *watch.Config) {
			c.Namespaces, c.LabelSelector, c.FieldSelector = []string{"a", "b"}, "app=web", "metadata.name=web"
		}),
			"pods|a|yes|yes|yes|1", "pods|b|yes|yes|yes|0", "deployments.apps|a|yes|yes|yes|0", "deployments.apps|b|yes|yes|yes|0",
			"nodes||yes|yes|yes|0", "secrets|a|yes|yes|yes|0", "secrets|b|yes|yes|yes|0")
		asked := srv.Asked()
		slices.Sort(asked)
		var want []string
		for _, asks := range []string{
			"list  v1 nodes  web", "list  v1 pods a web", "list  v1 pods b web", "list  v1 secrets a web", "list  v1 secrets b web",
			"list apps v1 deployments a web", "list apps v1 deployments b web",
			"watch  v1 nodes  web", "watch  v1 pods a web", "watch  v1 pods b web", "watch  v1 secrets a web", "watch  v1 secrets b web",
			"watch apps v1 deployments a web", "watch apps v1 deployments b web",
		} {
			want = append(want, asks+" app=web metadata.name=web") // some permissions depend on the selectors
		}
		check(t, asked, want...)
		for _, q := range slices.Concat(srv.Requests(watchtest.Lists()), srv.Requests(watchtest.Watches())) {
			if q.Query.Get("labelSelector") != "app=web" || q.Query.Get("fieldSelector") != "metadata.name=web" {
				t.Errorf("%s %s selects %v", q.Verb, q.Path, q.Query)
			}
			if partial := strings.Contains(q.Header.Get("Accept"), "PartialObjectMetadata"); partial != (q.Resource == "secrets.v1") {
				t.Errorf("%s %s accepts %s", q.Verb, q.Path, q.Header.Get("Accept"))
			}
		}
	})
}

// TestPreflightTellsAServerThatIgnoresExact: also when nothing has happened since, and its answer is the one of an
// honest server at the list's own version.
func TestPreflightTellsAServerThatIgnoresExact(t *testing.T) {
	t.Parallel()
	const consequence = " (resourceVersionMatch=Exact) is not answered truly, so after a gap in this resource only the net change can be told: "
	expired := watchtest.FailStatus(watchtest.NewStatus(410, "Expired", "too old"))
	for name, c := range map[string]struct {
		fault  watchtest.Fault
		answer string // no: what is said
	}{
		"honest":    {watchtest.Delay(time.Second), ""},
		"forgotten": {expired, ""},
		"lagging":   {watchtest.FailStatus(watchtest.TooLarge(101, 100)), ""},
		"ignores":   {watchtest.IgnoreExact(), "list pods: the API server does not answer for exact versions: the answer is of version 102"},
		"refuses":   {watchtest.Fail(400, "BadRequest", "what is that?"), "list pods: the API server does not answer for exact versions: what is that?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, []watchtest.Resource{watchtest.Pods, watchtest.Namespaces}, func(t *testing.T, srv *watchtest.Server) {
				srv.Create(watchtest.Pods, "shop/web")
				srv.On(exact(watchtest.Pods), c.fault)
				want := []string{"pods||yes|yes|yes|1"}
				if c.answer != "" {
					want = []string{"pods||yes|yes|no|1", "warning|pods||a LIST at version 101" + consequence + c.answer + "|"}
				}
				check(t, found(t, srv.Config(), []string{"pods"}), want...)
			})
		})
	}
	// One that takes the version over into its answer, and ignores it all the same.
	bubble(t, []watchtest.Resource{watchtest.Pods, watchtest.Namespaces}, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/web")
		srv.On(exact(watchtest.Pods), watchtest.IgnoreExact(), watchtest.Rewrite(func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"metadata":{"resourceVersion":"102"`), []byte(`"metadata":{"resourceVersion":"101"`), 1)
		}))
		check(t, found(t, srv.Config(), []string{"pods"}), "pods||yes|yes|no|1",
			"warning|pods||a LIST at version 101"+consequence+"list pods: the API server does not answer for exact versions: an object is of version 102|")
	})
}

// held passes requests on to a server, but holds the answers of watches back until they end, as a proxy that buffers.
func held(srv *watchtest.Server) *rest.Config {
	kube := srv.Config()
	kube.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(q *http.Request) (*http.Response, error) {
			if seconds, err := strconv.Atoi(q.URL.Query().Get("timeoutSeconds")); err == nil {
				select {
				case <-time.After(time.Duration(seconds) * time.Second):
				case <-q.Context().Done():
					return nil, q.Context().Err()
				}
			}
			return rt.RoundTrip(q)
		})
	})
	return kube
}

func TestPreflightTellsAProxyThatHoldsWatchesBack(t *testing.T) {
	t.Parallel()
	const unanswered, mend = "error|pods||a watch gets no answer: ", "|let what is in front of the API server pass answers on as they come, without a buffer"
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		check(t, found(t, held(srv), []string{"pods"}), "pods||yes|no|yes|0", unanswered+"watch pods at 101: no answer within 30s"+mend)
		srv.On(watchtest.Watches(), watchtest.CloseAfter(0))
		check(t, found(t, srv.Config(), []string{"pods"}), "pods||yes|no|yes|0", unanswered+"the watch was closed without a single frame"+mend)
	})
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Watches(), watchtest.ErrorAfter(0, watchtest.NewStatus(500, "InternalError", "out of order")))
		check(t, found(t, srv.Config(), []string{"pods"}), "pods||yes|no|yes|0", "error|pods||the API server answers with an error: out of order|")
	})
}

func TestTheClockIsWrongOnlyByWhatNeitherRoundTripNorSecondsExplain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		begin, skew, delay, ahead time.Duration // begin: after a full second
		says                      string
	}{
		{0, 0, 0, 0, ""},
		{900 * time.Millisecond, 0, 0, 0, ""},  // its answer shows the full second
		{0, -900 * time.Millisecond, 0, 0, ""}, // the one before
		{0, 3 * time.Second, 0, -3 * time.Second, "3s behind"},
		{0, -3 * time.Second, 0, 2 * time.Second, ""}, // 2 to 3 seconds
		{0, -4 * time.Second, 0, 3 * time.Second, "3s ahead of"},
		{0, time.Hour, 0, -time.Hour, "1h0m0s behind"},
		{0, 3 * time.Second, 5 * time.Second, 0, ""},
		{0, -9 * time.Second, 5 * time.Second, 8 * time.Second, "8s ahead of"}, // the server reads its clock first
	} {
		bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
			pass(c.begin)
			srv.SkewClock(c.skew)
			srv.On(review("selfsubjectreviews"), watchtest.Delay(c.delay))
			r, err := preflight(t, srv.Config(), []string{"pods"})
			if err != nil || *r.Server.ClockAhead != c.ahead.Seconds() || !r.OK {
				t.Errorf("%v: %v, %v ahead", c, err, *r.Server.ClockAhead)
			}
			var said, want []string
			for _, p := range r.Problems {
				said = append(said, p.Problem)
			}
			if c.says != "" {
				want = []string{"this machine's clock, which gives events their times, is " + c.says + " the API server's"}
			}
			check(t, said, want...)
		})
	}
}

func TestPreflightSaysWhyNothingIsAnswered(t *testing.T) {
	t.Parallel()
	everywhere := "check --server or the kubeconfig, and the network"
	for name, c := range map[string]struct {
		spoil func(*watchtest.Server)
		says  []string
		takes time.Duration
	}{
		"down":       {(*watchtest.Server).Down, []string{"error|||the API server cannot be reached: ", everywhere}, 0},
		"silent":     {func(s *watchtest.Server) { s.On(watchtest.Any(), watchtest.Hang()) }, []string{"error|||the API server cannot be reached: ", everywhere}, 30 * time.Second},
		"login page": {func(s *watchtest.Server) { s.On(watchtest.Any(), watchtest.HTML(200)) }, []string{"error|||the API server cannot be reached: ", everywhere}, 0},
		"401": {func(s *watchtest.Server) { s.On(watchtest.Any(), watchtest.Fail(401, "Unauthorized", "who?")) },
			[]string{"error|||the API server does not accept our credentials: who?|log in again"}, 0},
		"401 but for the version": {func(s *watchtest.Server) { s.On(watchtest.Reviews(), watchtest.Fail(401, "Unauthorized", "who?")) },
			[]string{"error|||the API server does not accept our credentials: who?|log in again"}, 0},
		"no discovery": {func(s *watchtest.Server) {
			s.On(watchtest.Discovery().When(func(q *watchtest.Request) bool { return q.Path != "/version" }), watchtest.Forbidden())
		}, []string{"error|||what is served may not be asked: discover resources: ", "|log in, or grant the cluster role system:discovery"}, 0},
		"broken": {func(s *watchtest.Server) {
			s.On(watchtest.Discovery().When(func(q *watchtest.Request) bool { return q.Path != "/version" }), watchtest.HTML(502))
		}, []string{"error|||the API server answers with an error: discover resources: "}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
				kube := srv.Config()
				c.spoil(srv)
				begun := time.Now()
				got := found(t, kube, []string{"pods"})
				if took := time.Since(begun); len(got) != 1 || took != c.takes {
					t.Errorf("%q after %v", got, took)
				}
				for _, says := range c.says {
					if !strings.Contains(got[0], says) {
						t.Errorf("%s: no %q", got[0], says)
					}
				}
			})
		})
	}
}

// TestPreflightWarnsOfWhatRunCanDoWithout also says who we are where nobody tells.
func TestPreflightWarnsOfWhatRunCanDoWithout(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.Forbid(watchtest.Namespaces, "get")
		srv.On(watchtest.Discovery().When(func(q *watchtest.Request) bool { return q.Path == "/version" }), watchtest.Forbidden())
		srv.On(review("selfsubjectreviews"), watchtest.Fail(404, "NotFound", "no such question"))
		version := `warning|||the version cannot be read: forbidden: User "` + watchtest.User + `" cannot get path "/version"|grant the cluster role system:public-info-viewer`
		check(t, found(t, srv.Config(), []string{"pods"}), "pods||yes|yes|yes|0", version,
			"warning|namespaces|kube-system|the uid of kube-system cannot be read, so a saved position could not be told from another cluster's: "+
				`namespaces "kube-system" is forbidden: User "`+watchtest.User+`" cannot get resource "namespaces" in API group "" at the cluster scope|grant `)
		check(t, found(t, srv.Config(), []string{"pods"}, func(c *watch.Config) { c.Once = true }), "pods||yes|||0", version)
	})
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Discovery().When(func(q *watchtest.Request) bool { return q.Path == "/version" }), watchtest.Fail(500, "InternalError", "broken"))
		srv.Forbid(watchtest.Pods, "watch")
		check(t, found(t, srv.Config(), []string{"pods"}), "pods||yes|no|yes|0",
			"error|pods||watch is forbidden in all namespaces|grant "+watchtest.User, "warning|||the version cannot be read: broken|")
	})
}

func TestPreflightWarnsOfWhatRunWouldWaitFor(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.GroupDown("example.com/v1")
		said := []string{
			"|doodads.example.org||the API server does not serve doodads.v1.example.org yet|kubectl api-resources --api-group=example.org",
			`|widgets.example.com||look for resource "widgets.example.com": these APIs are down: example.com/v1|kubectl get apiservices`,
		}
		args := []string{"doodads.v1.example.org", "widgets.example.com", "pods"}
		rows := []string{"doodads.example.org|||||0", "widgets.example.com|||||0"}
		check(t, found(t, srv.Config(), args), append(rows, "pods||yes|yes|yes|0", "warning"+said[0], "warning"+said[1])...)
		check(t, found(t, srv.Config(), args, func(c *watch.Config) { c.Once = true }), append(rows, "pods||yes|||0", "error"+said[0], "error"+said[1])...)
	})
}

func TestPreflightRefusesWhatRunRefuses(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		for says, c := range map[string]watch.Config{
			`unknown resource "widgts"`:                      {Resources: []string{"pods", "widgts"}},
			"pods: the API server refuses the request: list": {Resources: []string{"pods"}, FieldSelector: "spec.color=red"},
		} {
			_, err := preflight(t, srv.Config(), c.Resources, func(conf *watch.Config) { conf.FieldSelector = c.FieldSelector })
			if !errors.As(err, new(*watch.UsageError)) || !strings.HasPrefix(err.Error(), says) {
				t.Errorf("%v, want %s", err, says)
			}
		}
	})
}

func TestPreflightStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		client, err := watch.NewClient(srv.Config(), 100, 200)
		if err != nil {
			t.Fatal(err)
		}
		srv.On(watchtest.Lists(), watchtest.Hang())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		conf := watch.Config{Client: client, Log: zap.NewNop(), Resources: []string{"pods"}}
		if _, err := watch.Preflight(ctx, conf, func(string) string { return "" }); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}
