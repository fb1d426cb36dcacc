package sink_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"watcher/internal/event"
	"watcher/internal/sink"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A scene is a story in events, at a clock that goes on by a second each.
type scene struct {
	at     time.Time
	events []*event.Event
}

func (s *scene) add(stream *event.Stream, t event.Type, edit func(*event.Event)) {
	s.at = s.at.Add(time.Second)
	ev := &event.Event{Stream: stream, Type: t, Time: s.at, Origin: event.Live}
	edit(ev)
	s.events = append(s.events, ev)
}

// object adds an event about an object; its body is metadata, spec and status, as far as they are given.
func (s *scene) object(stream *event.Stream, t event.Type, key, body string) {
	s.add(stream, t, func(ev *event.Event) {
		ev.Object = event.Object{Name: key, UID: "u", ResourceVersion: "1", Body: []byte(body)}
		if ns, name, ok := strings.Cut(key, "/"); ok {
			ev.Object.Namespace, ev.Object.Name = ns, name
		}
		if t == event.Present {
			ev.Origin = event.Snapshot
		}
	})
}

func (s *scene) statement(stream *event.Stream, t event.Type, data any) {
	s.add(stream, t, func(ev *event.Event) { ev.Data = data })
}

func streamOf(group, resource, kind, namespace string) *event.Stream {
	return event.NewStream(event.StreamName{Cluster: "test", Group: group, Version: "v1", Resource: resource, Kind: kind, Namespace: namespace})
}

var (
	pods        = streamOf("", "pods", "Pod", "")
	deployments = streamOf("apps", "deployments", "Deployment", "")
	services    = streamOf("", "services", "Service", "")
)

func podIn(node, status string) string {
	return `{"kind":"Pod","spec":{"nodeName":"` + node + `","containers":[{"name":"web"},{"name":"proxy"}]},"status":` + status + `}`
}

// scenes are everything that a line can say.
func scenes() []*event.Event {
	s := &scene{at: time.Date(2026, 11, 23, 21, 4, 5, 0, time.UTC)}
	s.pods()
	s.deployments()
	s.services()
	s.others()
	s.coverage()
	s.hostile()
	return s.events
}

func (s *scene) pods() {
	s.statement(pods, event.Started, event.StartedData{ResourceVersion: "1377"})
	s.object(pods, event.Present, "shop/web-7d9c5b8f6d-x2lqp", podIn("node-2", `{"phase":"Running","containerStatuses":[{"ready":true},{"ready":true}]}`))
	s.statement(pods, event.Synced, event.SyncedData{ResourceVersion: "1377", Present: 1})
	s.object(pods, event.Added, "shop/web-7d9c5b8f6d-9kd2c", `{"kind":"Pod","spec":{"containers":[{"name":"web"}]},"status":{"phase":"Pending"}}`)
	s.object(pods, event.Modified, "shop/web-7d9c5b8f6d-9kd2c", podIn("node-1", `{"phase":"Pending","containerStatuses":[{"state":{"waiting":{"reason":"ContainerCreating"}}},{"state":{"waiting":{"reason":"ContainerCreating"}}}]}`))
	s.object(pods, event.Modified, "shop/web-7d9c5b8f6d-9kd2c", podIn("node-1", `{"phase":"Running","containerStatuses":[{"ready":true,"state":{"running":{}}},{"ready":true,"restartCount":1}]}`))
	s.object(pods, event.Modified, "shop/web-7d9c5b8f6d-9kd2c", podIn("ip-10-0-31-7.eu-central-1.compute.internal",
		`{"phase":"Running","containerStatuses":[{"ready":false,"restartCount":7,"state":{"waiting":{"reason":"CrashLoopBackOff"}}},{"ready":true}]}`))
	s.object(pods, event.Modified, "shop/web-7d9c5b8f6d-9kd2c", `{"metadata":{"deletionTimestamp":"2026-11-23T21:04:12Z"},"spec":{"nodeName":"node-1","containers":[{},{}]},"status":{"phase":"Running"}}`)
	s.object(pods, event.Deleted, "shop/web-7d9c5b8f6d-9kd2c", podIn("node-1", `{"phase":"Running","containerStatuses":[{"ready":true},{"ready":true}]}`))
	s.object(pods, event.Modified, "batch/report-28451", podIn("node-3", `{"phase":"Succeeded","containerStatuses":[{"state":{"terminated":{"reason":"Completed"}}},{"state":{"terminated":{"reason":"Completed"}}}]}`))
	s.object(pods, event.Modified, "batch/report-28452", podIn("node-3", `{"phase":"Failed","reason":"Evicted"}`))
	s.object(pods, event.Modified, "batch/report-28453", podIn("node-3", `{"phase":"Failed","containerStatuses":[{"restartCount":2,"state":{"terminated":{"reason":"OOMKilled"}}}]}`))
	s.object(pods, event.Modified, "shop/no-status", `{"kind":"Pod","spec":{"containers":[{}]}}`)
	s.object(pods, event.Modified, "shop/nulls", `{"kind":"Pod","metadata":null,"spec":null,"status":{"phase":"Pending","containerStatuses":null}}`)
	s.object(pods, event.Modified, "shop/other-types", `{"spec":{"containers":{}},"status":{"phase":7}}`)
	s.object(pods, event.Modified, "shop/metadata-only", `{"kind":"PartialObjectMetadata","metadata":{"name":"metadata-only"}}`)
	s.object(pods, event.Deleted, "shop/identity-only", "")
	s.object(pods, event.Left, "shop/relabelled", podIn("node-1", `{"phase":"Running","containerStatuses":[{"ready":true},{"ready":true}]}`))
	s.events[len(s.events)-1].Ambiguous = true
}

func (s *scene) deployments() {
	template := `"template":{"spec":{"containers":[{"image":"nginx:1.27"},{"image":"registry.example.com/team/envoy-proxy:v1.31.0"}]}}`
	s.statement(deployments, event.Started, event.StartedData{ResourceVersion: "1377", Resumed: true})
	s.object(deployments, event.Added, "shop/web", `{"spec":{"replicas":3,`+template+`},"status":{}}`)
	s.object(deployments, event.Modified, "shop/web", `{"spec":{"replicas":3,`+template+`},"status":{"updatedReplicas":1,"readyReplicas":3,"availableReplicas":3}}`)
	s.object(deployments, event.Modified, "shop/web", `{"spec":{"replicas":0,"template":{"spec":{"containers":[{"image":"nginx"}]}}}}`)
	s.object(deployments, event.Modified, "shop/web", `{"spec":{"template":{}}}`)
	s.object(deployments, event.Deleted, "shop/web", `{"spec":{"replicas":1},"status":{"readyReplicas":1}}`)
}

func (s *scene) services() {
	s.object(services, event.Added, "shop/web", `{"spec":{"type":"ClusterIP","clusterIP":"10.96.4.11","ports":[{"port":80,"protocol":"TCP"},{"port":443,"protocol":"TCP"}]}}`)
	s.object(services, event.Modified, "shop/web", `{"spec":{"type":"LoadBalancer","clusterIP":"10.96.4.11","externalIPs":["192.0.2.1"],"ports":[{"port":53,"protocol":"UDP"}]},"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.7"},{"hostname":"lb.example.com"}]}}}`)
	s.object(services, event.Modified, "shop/db", `{"spec":{"type":"ExternalName","externalName":"db.example.com"}}`)
	s.object(services, event.Modified, "shop/headless", `{"spec":{"type":"ClusterIP","clusterIP":"None","ports":[{"port":8080}]}}`)
	s.object(services, event.Deleted, "shop/canary", `{}`)
}

func (s *scene) others() {
	s.object(streamOf("", "nodes", "Node", ""), event.Added, "node-1", `{"status":{"phase":"Running"}}`)
	s.object(streamOf("rbac.authorization.k8s.io", "validatingadmissionpolicybindings", "X", ""), event.Added, "a-resource-with-a-long-name", `{}`)
	s.object(pods, event.Added, "a-namespace-of-some-length/"+strings.Repeat("very-long-name-", 6)+"end", podIn("node-1", `{"phase":"Pending"}`))
	s.object(streamOf("example.com", "pods", "Pod", ""), event.Added, "shop/not-kubernetes-own", podIn("node-1", `{"phase":"Running"}`))
}

func (s *scene) coverage() {
	from := time.Date(2026, 11, 23, 21, 4, 23, 0, time.UTC)
	s.statement(pods, event.Gap, event.GapData{Reason: "expired", From: "1377", FromTime: from, ToTime: from.Add(18 * time.Second)})
	s.object(pods, event.Present, "shop/web-7d9c5b8f6d-x2lqp", podIn("node-2", `{"phase":"Running","containerStatuses":[{"ready":true},{"ready":false}]}`))
	s.events[len(s.events)-1].Origin = event.Repair
	s.object(pods, event.Deleted, "shop/web-7d9c5b8f6d-9kd2c", podIn("node-1", `{"phase":"Running"}`))
	s.events[len(s.events)-1].Origin = event.Repair
	s.statement(pods, event.Synced, event.SyncedData{ResourceVersion: "2000", Present: 45, Healed: &event.Healed{Deletions: "unknown"}})
	s.statement(pods, event.Gap, event.GapData{Reason: "forbidden", From: "2000", FromTime: from, ToTime: from.Add(51*time.Hour + 7*time.Minute)})
	s.statement(pods, event.Gap, event.GapData{Reason: "sink", From: "2000", ToTime: from})
	s.statement(pods, event.Progress, event.ProgressData{ResourceVersion: "2001", Seq: 47})
	s.statement(streamOf("", "pods", "Pod", "shop"), event.Started, event.StartedData{Namespaces: []string{"shop"}, ResourceVersion: "1377"})
	s.statement(streamOf("", "pods", "Pod", "shop"), event.Stopped, event.StoppedData{ResourceVersion: "1377"})
	s.statement(pods, event.Stopped, event.StoppedData{ResourceVersion: "2001"})
	s.statement(deployments, event.Stopped, event.StoppedData{})
}

func (s *scene) hostile() {
	name := "shop/\x1b[31mred\x1b[0m\nnew line\r\ttab\u202eright-to-left\u2028\x00\xff\u0085"
	s.object(pods, event.Added, name, podIn("node-1", `{"phase":"\u001b]0;title\u0007Running\n21:04:05 deleted  pods shop/forged"}`))
	s.object(deployments, event.Modified, "shop/web", `{"spec":{"replicas":1,"template":{"spec":{"containers":[{"image":"\u001b[2Jevil\u009b1m"}]}}}}`)
	s.object(services, event.Modified, "shop/ünïcode-漢字", `{"spec":{"type":"ClusterIP","clusterIP":"10.96.4.11"}}`)
}

func render(width int, color bool) string {
	text := &sink.Text{Width: func() int { return width }, Color: color, Zone: time.UTC}
	var out []byte
	for _, ev := range scenes() {
		out = text.Append(out, ev)
	}
	return string(out)
}

// TestTextIsAsAReaderWantsIt pins the readable form. Look at the golden files after -update, as a reader would.
func TestTextIsAsAReaderWantsIt(t *testing.T) {
	for name, c := range map[string]struct {
		width int
		color bool
	}{"wide": {120, false}, "narrow": {60, false}, "no-terminal": {0, false}, "color": {120, true}} {
		t.Run(name, func(t *testing.T) {
			golden(t, "text-"+name, strings.ReplaceAll(render(c.width, c.color), "\x1b", "␛"))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := at(gotLines, i), at(wantLines, i)
		if g != w {
			t.Errorf("%s:%d is\n  %s\nwant\n  %s", path, i+1, g, w)
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(no line)"
}

// TestTextIsOneLineAnEventThatFitsTheTerminal holds for every width, however silly.
func TestTextIsOneLineAnEventThatFitsTheTerminal(t *testing.T) {
	for width := range 200 {
		lines := strings.Split(strings.TrimSuffix(render(width, false), "\n"), "\n")
		if len(lines) != len(scenes()) {
			t.Fatalf("at width %d: %d lines for %d events", width, len(lines), len(scenes()))
		}
		for _, line := range lines {
			// The time and an ellipsis stay whatever the width.
			if n := utf8.RuneCountInString(line); width > 0 && n > max(width, len("21:04:05 ")+1) {
				t.Errorf("at width %d: %d characters: %s", width, n, line)
			}
			if !utf8.ValidString(line) {
				t.Errorf("at width %d: no UTF-8: %q", width, line)
			}
		}
	}
}

var ours = regexp.MustCompile("\x1b\\[(1m\x1b\\[)?[0-9]{1,2}m")

// TestWhatAnObjectsAuthorWroteCannotSteerTheTerminal: no control characters but our own colours reach it.
func TestWhatAnObjectsAuthorWroteCannotSteerTheTerminal(t *testing.T) {
	for _, color := range []bool{false, true} {
		out := render(120, color)
		if color {
			out = ours.ReplaceAllString(out, "")
		}
		for _, r := range out {
			if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' || r == '\u2028') {
				t.Errorf("colour %t: %q got through", color, r)
			}
		}
		if strings.Contains(out, "\n21:04:05 deleted") {
			t.Error("an object has forged a line")
		}
	}
}

// TestColorsEndWhereTheyBegin at every width: a colour that is cut off would stain what follows.
func TestColorsEndWhereTheyBegin(t *testing.T) {
	for width := range 100 {
		for line := range strings.Lines(render(width, true)) {
			if open := strings.Count(line, "\x1b["); open > 0 && strings.Count(line, "\x1b[0m") != 1 {
				t.Errorf("at width %d: %q", width, line)
			}
		}
	}
}

// FuzzTextIsAlwaysOneLine: whatever an object holds.
func FuzzTextIsAlwaysOneLine(f *testing.F) {
	for _, ev := range scenes() {
		if ev.Type.OfObject() {
			f.Add(ev.Object.Namespace, ev.Object.Name, ev.Object.Body)
		}
	}
	f.Fuzz(func(t *testing.T, namespace, name string, body []byte) {
		for _, s := range []*event.Stream{pods, deployments, services} {
			text := &sink.Text{Width: func() int { return 0 }, Zone: time.UTC}
			out := text.Append(nil, &event.Event{Stream: s, Type: event.Modified, Object: event.Object{Namespace: namespace, Name: name, Body: body}})
			if n := strings.Count(string(out), "\n"); n != 1 || strings.ContainsAny(string(out), "\x1b\r\x00") {
				t.Errorf("%q", out)
			}
		}
	})
}

// TestScenesAreWhatAnAPIServerSends: a typo in a scene's JSON would show an object without a summary.
func TestScenesAreWhatAnAPIServerSends(t *testing.T) {
	for _, ev := range scenes() {
		if len(ev.Object.Body) > 0 && !json.Valid(ev.Object.Body) {
			t.Errorf("%s is no JSON: %s", ev.Object.Key(), ev.Object.Body)
		}
	}
}
