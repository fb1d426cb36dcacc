package watch_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"watcher/internal/event"
	"watcher/internal/watch"
	"watcher/internal/watch/watchtest"
)

func podFrame(typ, name string, rv int, more string) string {
	return fmt.Sprintf(`{"type":%q,"object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":%q,"namespace":"shop","uid":"u-%s","resourceVersion":"%d"}%s}}`, typ, name, name, rv, more)
}

// However frames are laid out in the body, none is lost and none merged.
func TestFramesAreReadHoweverTheyAreLaidOut(t *testing.T) {
	a, b := podFrame("ADDED", "a", 201, ""), podFrame("MODIFIED", "b", 202, "")
	both := []string{"added shop/a@201", "modified shop/b@202"}
	pretty := strings.NewReplacer("{", "{\n  ", ",", ",\n  ").Replace(a)
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"one a line":               {a + "\n" + b, both},
		"both on one line":         {a + b, both},
		"a space between":          {a + " " + b, both},
		"over several lines":       {pretty + "\n" + b, both},
		"CRLF":                     {a + "\r\n" + b + "\r", both},
		"blank lines":              {"\n" + a + "\n \n\n" + b, both},
		"members swapped":          {`{"object":{"kind":"Pod","apiVersion":"v1","metadata":{"namespace":"shop","name":"a","uid":"u","resourceVersion":"201"}},"type":"ADDED"}` + "\n" + b, both},
		"spaces and escapes":       {` { "type" : "ADD\u0045D" , "obj\u0065ct" : {"kind":"Pod","apiVersion":"v1","metad\u0061ta":{"name":"\u0061","namespace":"shop","uid":"u","resourceVersion":"201"}} } ` + "\n" + b, both},
		"members unknown":          {strings.Replace(a, `"object"`, `"extra":[1,{"object":2}],"object"`, 1) + "\n" + b, both},
		"a bookmark between":       {a + "\n" + `{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"201"}}}` + "\n" + b, both},
		"longer than a buffer":     {podFrame("ADDED", "a", 201, `,"spec":{"pad":"`+strings.Repeat("x", 3<<20)+`"}`) + "\n" + b, both},
		"one version, two objects": {a + "\n" + podFrame("DELETED", "c", 201, ""), []string{"added shop/a@201", "deleted shop/c@201"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
				r := start(t, srv, newMemory(), []string{"pods"})
				pass(time.Second)
				srv.SendLine(watchtest.Pods, c.body)
				pass(time.Second)
				check(t, r.said("pods")[2:], c.want...)
				r.stop(t)
				for _, line := range r.lines {
					if strings.ContainsAny(line, "\n\r") || !json.Valid([]byte(line)) {
						t.Errorf("not one line of JSON: %q", line)
					}
				}
			})
		})
	}
}

// What is no frame is read again, in case it was noise on the line; if it is there again it is a gap, and said once.
func TestGarbageIsReadAgainAndThenAGap(t *testing.T) {
	for name, line := range map[string]string{
		"HTML":               "<html>502</html>",
		"broken object":      `{"type":"ADDED","object":{"metadata":{"name":"x","resourceVersion":"201"},"spec":{]}}`,
		"unknown type":       podFrame("WEIRD", "x", 201, ""),
		"no version":         `{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x"}}}`,
		"version of letters": `{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"x","resourceVersion":"abc"}}}`,
		"invalid UTF-8":      podFrame("ADDED", "x", 201, ",\"spec\":\"\xff\""),
		"object null":        `{"type":"ADDED","object":null}`,
	} {
		for _, times := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d times", name, times), func(t *testing.T) {
				bubble(t, pods, func(t *testing.T, srv *watchtest.Server) {
					srv.Create(watchtest.Pods, "shop/a")
					srv.On(watchtest.Watches().Times(times), watchtest.LineAfter(0, line))
					r := start(t, srv, newMemory(), []string{"pods"})
					pass(time.Minute)
					srv.Create(watchtest.Pods, "shop/b")
					pass(time.Second)
					r.stop(t)
					want := []string{"started at 101", "present shop/a@101", "synced 1 at 101"}
					if times == 2 {
						want = append(want, "gap decode after 101", "synced (0 net, 0 inferred) at 101")
					}
					check(t, r.said("pods")[:len(want)+1], append(want, "added shop/b@102")...)
				})
			})
		}
	}
}

// The object is the API server's own bytes: unknown fields, number text and the order of keys survive, in lists too.
func TestObjectsKeepTheirBytes(t *testing.T) {
	const spec = `{"z":1.0,"a":1e2,"big":123456789012345678901234567890,"text":"\u003c\u2028 \"é\"","nested":{"managedFields":[1]}}`
	for _, keep := range []bool{false, true} {
		bubble(t, []watchtest.Resource{watchtest.Pods, watchtest.Widgets}, func(t *testing.T, srv *watchtest.Server) {
			edits := []watchtest.Edit{watchtest.Spec(spec), watchtest.Meta("managedFields", `[{"manager":"m","fieldsV1":{"f:spec":{}}}]`), watchtest.Annotations("k", "a\n\"b\"")}
			for _, res := range []watchtest.Resource{watchtest.Pods, watchtest.Widgets} {
				srv.Create(res, "shop/listed", edits...)
			}
			r := start(t, srv, newMemory(), []string{"pods", "widgets"}, func(c *watch.Config) { c.ManagedFields = keep })
			pass(time.Second)
			for _, res := range []watchtest.Resource{watchtest.Pods, watchtest.Widgets} {
				srv.Create(res, "shop/live", edits...)
			}
			pass(time.Second)
			r.stop(t)
			for _, res := range []watchtest.Resource{watchtest.Pods, watchtest.Widgets} {
				objects := slices.DeleteFunc(r.of(res.Name), func(ev *event.Event) bool { return !ev.Type.OfObject() })
				if len(objects) != 2 {
					t.Fatalf("%d objects", len(objects))
				}
				for _, ev := range objects {
					body := string(ev.Object.Body)
					if !json.Valid([]byte(body)) || !strings.Contains(body, `"spec":`+spec) || strings.Contains(body, `"manager"`) != keep {
						t.Errorf("%s: %s", short(ev), body)
					}
					if !strings.Contains(body, fmt.Sprintf(`"kind":%q`, res.Kind)) || !strings.Contains(body, fmt.Sprintf(`"apiVersion":%q`, res.APIVersion())) {
						t.Errorf("%s lacks its type: %s", short(ev), body)
					}
				}
			}
		})
	}
}
