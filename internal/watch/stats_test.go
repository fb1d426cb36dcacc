package watch_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

// counted runs watcher on one pod with its events counted.
func counting(t *testing.T, srv *watchtest.Server, edits ...func(*watch.Config)) (*running, func() watch.Counts) {
	t.Helper()
	stats := &watch.Stats{}
	srv.Create(watchtest.Pods, "shop/a", watchtest.Labels("n", "0"))
	r := start(t, srv, newMemory(), []string{"pods"}, append(edits, func(c *watch.Config) { c.Stats = stats })...)
	pass(time.Second)
	key := r.of("pods")[0].Stream.Key()
	return r, func() watch.Counts { return stats.Of(key) }
}

func checkCounts(t *testing.T, what string, got map[string]int, want map[string]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// Each watch that goes on where another stopped is counted by what had ended that.
func TestResumesAreCountedByTheirReason(t *testing.T) {
	for want, end := range map[string]func(*watchtest.Server){
		"closed": func(s *watchtest.Server) {
			s.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
			pass(time.Second)
			s.CloseWatches()
		},
		"empty": func(s *watchtest.Server) { s.CloseWatches() },
		"idle": func(s *watchtest.Server) {
			s.Advance(1)
			pass(70 * time.Second)
			s.StallWatches()
			pass(2 * time.Minute)
		},
		"timeout": func(s *watchtest.Server) {
			for i := 0; i < 660 && s.Count(watchtest.Watches()) < 2; i++ {
				pass(time.Second)
			}
		},
		"decode": func(s *watchtest.Server) { s.SendLine(watchtest.Pods, "<html>") },
		"error": func(s *watchtest.Server) {
			s.SendError(watchtest.Pods, &metav1.Status{Status: "Failure", Code: 500, Reason: "InternalError"})
		},
		"forbidden": func(s *watchtest.Server) {
			s.On(watchtest.Watches().Times(1), watchtest.Forbidden())
			s.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
			pass(time.Second)
			s.CloseWatches()
			pass(time.Minute)
		},
		"removed": func(s *watchtest.Server) {
			s.On(watchtest.Watches().Times(1), watchtest.Fail(404, "NotFound", "no such resource"))
			s.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
			pass(time.Second)
			s.CloseWatches()
			pass(time.Minute)
		},
	} {
		t.Run(want, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				r, counts := counting(t, srv)
				end(srv)
				pass(20 * time.Second)
				r.stop(t)
				expected := map[string]int{want: 1}
				if want == "forbidden" || want == "removed" {
					expected["closed"] = 1 // which the denial came after
				}
				checkCounts(t, "resumes", counts().Resumes, expected)
				checkCounts(t, "gaps", counts().Gaps, map[string]int{})
			})
		})
	}
}

// Gaps are counted by reason, and what a repair has healed by level.
func TestGapsAndWhatIsHealedAreCounted(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		srv.Create(watchtest.Pods, "shop/b")
		srv.Create(watchtest.Pods, "shop/c")
		r, counts := counting(t, srv)
		unseen(srv, func() {
			srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
			srv.Delete(watchtest.Pods, "shop/b")
		})
		pass(20 * time.Second)
		checkCounts(t, "gaps", counts().Gaps, map[string]int{"expired": 1})
		checkCounts(t, "healed", counts().Healed, map[string]int{"net": 2})
		unseen(srv, func() {
			srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "2"))
			srv.Delete(watchtest.Pods, "shop/c")
			srv.Compact(srv.RV())
		})
		pass(time.Minute)
		checkCounts(t, "gaps", counts().Gaps, map[string]int{"expired": 2})
		checkCounts(t, "healed", counts().Healed, map[string]int{"net": 3, "inferred": 1})
		srv.Rewind(103)
		pass(time.Minute)
		r.stop(t)
		checkCounts(t, "gaps", counts().Gaps, map[string]int{"expired": 2, "rewind": 1})
	})
}

// What comes again is dropped, and counted.
func TestDuplicatesAreCounted(t *testing.T) {
	bubble(t, []watchtest.Resource{watchtest.Pods}, func(t *testing.T, srv *watchtest.Server) {
		var keys []string
		for i := range 5 {
			keys = append(keys, pod(i))
			srv.Create(watchtest.Pods, pod(i))
		}
		r, counts := counting(t, srv)
		srv.DeleteTogether(watchtest.Pods, keys...)
		pass(time.Second)
		if n := counts().Duplicates; n != 0 {
			t.Errorf("%d duplicates before there were any", n)
		}
		srv.CloseWatches()
		pass(20 * time.Second)
		r.stop(t)
		if n := counts().Duplicates; n != 5 {
			t.Errorf("%d duplicates were dropped, want 5", n)
		}
	})
}

// When the last change and the last bookmark came is known, and how old the position is at most: it is as young as the
// list, or the bookmark, that gave it.
func TestTheAgeOfThePositionIsKnown(t *testing.T) {
	bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
		begin := time.Now()
		r, counts := counting(t, srv)
		if c := counts(); !c.PositionAsOf.Equal(begin) || !c.LastFrame.IsZero() || !c.LastBookmark.IsZero() {
			t.Errorf("after the snapshot: %+v, want a position of %v", c, begin)
		}
		pass(9 * time.Second)
		srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "1"))
		pass(time.Second)
		if c := counts(); !c.LastFrame.Equal(begin.Add(10*time.Second)) || !c.LastBookmark.IsZero() || !c.PositionAsOf.Equal(begin) {
			t.Errorf("after a change: %+v", c)
		}
		srv.Advance(1)
		srv.Bookmark()
		pass(time.Second)
		if c := counts(); !c.LastBookmark.Equal(begin.Add(11*time.Second)) || !c.LastFrame.Equal(begin.Add(10*time.Second)) || !c.PositionAsOf.Equal(begin.Add(11*time.Second)) {
			t.Errorf("after a bookmark: %+v", c)
		}
		unseen(srv, func() { srv.Update(watchtest.Pods, "shop/a", watchtest.Labels("n", "2")) })
		healed := time.Now()
		pass(20 * time.Second)
		if c := counts(); c.PositionAsOf.Before(healed) {
			t.Errorf("after a repair that began at %v: %+v", healed, c)
		}
		r.stop(t)
	})
}

// Whoever reads counts gets a copy, and streams do not share them; of an unknown stream there are none.
func TestCountsAreOfOneStream(t *testing.T) {
	bubble(t, []watchtest.Resource{watchtest.Pods, watchtest.Services}, func(t *testing.T, srv *watchtest.Server) {
		stats := &watch.Stats{}
		r := start(t, srv, newMemory(), []string{"pods", "services"}, func(c *watch.Config) { c.Stats = stats })
		pass(time.Second)
		srv.CloseWatches(watchtest.Services)
		pass(20 * time.Second)
		r.stop(t)
		for _, ev := range r.of("") {
			if ev.Type != event.Started {
				continue
			}
			want := map[string]int{}
			if ev.Stream.Resource == "services" {
				want["empty"] = 1
			}
			c := stats.Of(ev.Stream.Key())
			checkCounts(t, ev.Stream.Resource, c.Resumes, want)
			c.Resumes["closed"] = 100
			checkCounts(t, fmt.Sprint(ev.Stream.Resource, " asked again"), stats.Of(ev.Stream.Key()).Resumes, want)
		}
		if c := stats.Of("nothing"); c.Duplicates != 0 || c.Resumes != nil {
			t.Errorf("of an unknown stream: %+v", c)
		}
	})
}
