package watch_test

import (
	"strings"
	"testing"

	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// review matches one kind of question of clients about themselves.
func review(kind string) watchtest.Match {
	return watchtest.Reviews().When(func(q *watchtest.Request) bool { return strings.HasSuffix(q.Path, "/"+kind) })
}

func TestPreflightNamesEveryMissingPermissionAndWhatGrantsThem(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "a/web")
		srv.Forbid(watchtest.Pods, "watch")
		srv.Forbid(watchtest.Nodes, "list", "watch")
		srv.Forbid(watchtest.Deployments, "list")
		grant := "grant " + watchtest.User
		check(t, found(t, srv.Config(), []string{"pods", "nodes", "deployments.apps"}),
			"pods||yes|no|yes|1", "nodes||no|no||0", "deployments.apps||no|||0",
			"error|pods||watch is forbidden in all namespaces|"+grant,
			"error|nodes||list and watch are forbidden in the cluster|"+grant,
			"error|deployments.apps||list is forbidden in all namespaces|"+grant)
		if n := srv.Count(watchtest.Watches()) + srv.Count(watchtest.Lists(watchtest.Nodes)); n != 0 {
			t.Errorf("%d requests were made that are known to be forbidden", n)
		}
		check(t, found(t, srv.Config(), []string{"pods"}, func(c *watch.Config) { c.Namespaces = []string{"a", "b"} }),
			"pods|a|yes|no|yes|1", "pods|b|yes|no|yes|0",
			"error|pods|a|watch is forbidden in the namespace a|"+grant,
			"error|pods|b|watch is forbidden in the namespace b|"+grant)
		check(t, found(t, srv.Config(), []string{"pods"}, func(c *watch.Config) { c.Once = true }), "pods||yes|||1")
	})
}

// TestPreflightBelievesRequestsMoreThanReviews: an authorizer may say one thing to a question and another to a request.
func TestPreflightBelievesRequestsMoreThanReviews(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.On(watchtest.Lists(watchtest.Nodes), watchtest.Forbidden())
		srv.On(watchtest.Watches(watchtest.Pods), watchtest.Forbidden())
		check(t, found(t, srv.Config(), []string{"pods", "nodes"}),
			"pods||yes|no|yes|0", "nodes||no|||0",
			"error|pods||watch is forbidden in all namespaces|grant "+watchtest.User,
			"error|nodes||list is forbidden in the cluster|grant "+watchtest.User)

		srv.On(watchtest.Reviews(), watchtest.Fail(403, "Forbidden", "you may not ask"))
		check(t, found(t, srv.Config(), []string{"pods", "nodes"}),
			"pods||yes|no|yes|0", "nodes||no|||0",
			"error|pods||watch is forbidden in all namespaces|grant ",
			"error|nodes||list is forbidden in the cluster|grant ",
			"warning|||permissions cannot be asked for, this is what requests were answered: you may not ask|grant the cluster role system:basic-user")
	})
}

func TestNobodyIsToldToGrantPermissionsToEverybody(t *testing.T) {
	t.Parallel()
	bubble(t, everything, func(t *testing.T, srv *watchtest.Server) {
		srv.Forbid(watchtest.Pods, "list")
		srv.On(review("selfsubjectreviews"), watchtest.Respond(201, "application/json", `{"status":{"userInfo":{"username":"system:anonymous"}}}`))
		check(t, found(t, srv.Config(), []string{"pods"}), "pods||no|||0", "error|pods||list is forbidden in all namespaces|grant ")
	})
}
