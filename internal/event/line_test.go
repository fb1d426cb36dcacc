package event_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"

	"watcher/internal/event"
)

var update = flag.Bool("update", false, "write the golden files anew")

var received = time.Date(2026, 11, 23, 22, 4, 5, 123456000, time.FixedZone("CET", 3600))

func deployments() *event.Stream {
	return event.NewStream(event.StreamName{Cluster: "prod", Group: "apps", Version: "v1", Resource: "deployments", Kind: "Deployment"})
}

func modified(body string) *event.Event {
	return &event.Event{
		Stream: deployments(), Type: event.Modified, Time: received, Seq: 1207, Origin: event.Live,
		Object: event.Object{Namespace: "shop", Name: "web", UID: "6a0f-e1", ResourceVersion: "48213", Generation: 7, Body: []byte(body)},
	}
}

func line(ev *event.Event, limit int) string { return string(ev.AppendLine(nil, limit)) }

// TestLinesAreAsTheContractSays pins every byte of the canonical lines, the order of their keys included.
func TestLinesAreAsTheContractSays(t *testing.T) {
	pods := event.NewStream(event.StreamName{Cluster: "eu/1 a:b", Version: "v1", Resource: "pods", Kind: "Pod", Namespace: "shop"})
	deleted := modified(`{"kind":"Deployment","spec":{"n":1.0}}`)
	deleted.Type = event.Deleted
	left := modified(`{}`)
	left.Type, left.Ambiguous = event.Left, true
	terminating := modified(`{}`)
	terminating.Object.DeletionTimestamp = "2026-11-23T21:04:05Z"
	repaired := modified(`{"a":"é\u2028"}`)
	repaired.Type, repaired.Origin, repaired.Gap = event.Present, event.Repair, "deployments.gap.1.2"
	bare := modified("")
	bare.Object = event.Object{Name: `system:"node"`, ResourceVersion: "9"}
	stream := func(typ event.Type, data any) *event.Event {
		return &event.Event{Stream: pods, Type: typ, Time: received, ID: "pods.shop." + typ.String() + ".1764018245123.1", Data: data}
	}
	events := []*event.Event{
		modified(`{"kind":"Deployment","metadata":{"name":"web"},"spec":{"n":1.0}}`), deleted, left, terminating, repaired, bare,
		stream(event.Started, event.StartedData{Namespaces: []string{"shop"}, LabelSelector: "a=b", Payload: "full", ResourceVersion: "1", Reason: "no position was saved", WatcherVersion: "v0"}),
		stream(event.Synced, event.SyncedData{ResourceVersion: "7", Present: 3, Healed: &event.Healed{Net: 2, Deletions: "unknown"}}),
		stream(event.Gap, event.GapData{Reason: "expired", From: "7", FromTime: received.UTC(), ToTime: received.UTC().Add(time.Second)}),
		stream(event.Progress, event.ProgressData{ResourceVersion: "8", Seq: 3}),
		stream(event.Stopped, event.StoppedData{ResourceVersion: "8"}),
	}
	var got bytes.Buffer
	for _, ev := range events {
		got.WriteString(line(ev, 0) + "\n")
	}
	golden := filepath.Join("testdata", "lines.jsonl")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
	for l := range strings.Lines(got.String()) {
		readCloudEvent(t, l)
	}
}

// readCloudEvent reads a line as any consumer would: with the CloudEvents SDK.
func readCloudEvent(t *testing.T, line string) cloudevents.Event {
	t.Helper()
	var ce cloudevents.Event
	if err := json.Unmarshal([]byte(line), &ce); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if err := ce.Validate(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return ce
}

// TestTheSameStateHasTheSameID: however a state was learnt, its id is its own; a deletion is named by the uid alone.
func TestTheSameStateHasTheSameID(t *testing.T) {
	id := func(typ event.Type, origin event.Origin, o event.Object) string {
		return string((&event.Event{Stream: deployments(), Type: typ, Origin: origin, Object: o}).AppendID(nil))
	}
	o := event.Object{Namespace: "shop", Name: "web", UID: "u", ResourceVersion: "5"}
	for _, typ := range []event.Type{event.Present, event.Added, event.Modified} {
		if got := id(typ, event.Repair, o); got != "u.5" {
			t.Errorf("%v: %q, want u.5", typ, got)
		}
	}
	later := o
	later.ResourceVersion = "6"
	if a, b := id(event.Deleted, event.Live, o), id(event.Deleted, event.Repair, later); a != b || a != "u.deleted" {
		t.Errorf("deletions of one uid: %q and %q, want u.deleted", a, b)
	}
	if got := id(event.Left, event.Live, o); got != "u.5.left" {
		t.Errorf("left: %q, want u.5.left", got)
	}
	o.UID = ""
	if got := id(event.Modified, event.Live, o); got != "shop/web.5" {
		t.Errorf("without uid: %q, want shop/web.5", got)
	}
}

// TestAnEventAboveTheLimitLosesItsObjectAndNothingElse: it is never dropped, never cut.
func TestAnEventAboveTheLimitLosesItsObjectAndNothingElse(t *testing.T) {
	body := `{"kind":"Deployment","spec":"` + strings.Repeat("x", 1000) + `"}`
	whole := line(modified(body), 0)
	if got := line(modified(body), len(whole)); got != whole {
		t.Errorf("an event of just the limit was changed: %s", got)
	}
	got := line(modified(body), len(whole)-1)
	var ev struct {
		Data struct {
			Name          string
			Object        json.RawMessage
			ObjectOmitted struct {
				Bytes  int
				SHA256 string
			}
		}
	}
	if err := json.Unmarshal([]byte(got), &ev); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	if ev.Data.Object != nil || ev.Data.Name != "web" || ev.Data.ObjectOmitted.Bytes != len(body) || ev.Data.ObjectOmitted.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("got %s", got)
	}
}

func TestKeysTellStreamsApart(t *testing.T) {
	seen := map[string]event.StreamName{}
	for _, n := range []event.StreamName{
		{Version: "v1", Resource: "events"},
		{Group: "events.k8s.io", Version: "v1", Resource: "events"},
		{Group: "events.k8s.io", Version: "v1beta1", Resource: "events"},
		{Version: "v1", Resource: "events", Namespace: "a"},
		{Version: "v1", Resource: "events", LabelSelector: "a"},
		{Version: "v1", Resource: "events", FieldSelector: "a"},
		{Version: "v1", Resource: "events", LabelSelector: "a&fieldSelector=b"},
		{Version: "v1", Resource: "events", LabelSelector: "a", FieldSelector: "b"},
	} {
		key := event.NewStream(n).Key()
		if other, ok := seen[key]; ok {
			t.Errorf("%+v and %+v share the key %q", n, other, key)
		}
		seen[key] = n
	}
}

// FuzzLine: whatever names and versions an object has, its line is one valid CloudEvent that says just that.
func FuzzLine(f *testing.F) {
	f.Add("shop", "web.v1", "u", "5", "2026-11-23T21:04:05Z", int64(7), 0)
	f.Add("", `a"b\`, "", "5", "", int64(-1), 10)
	f.Add("\x00", "é\u2028</script>\n", "\xff", "0", "x", int64(0), 300)
	f.Fuzz(func(t *testing.T, ns, name, uid, rv, deletion string, generation int64, limit int) {
		for _, s := range []*string{&ns, &name, &uid, &rv, &deletion} {
			*s = strings.ToValidUTF8(*s, "?") // the scan lets nothing else in
		}
		const body = `{"metadata":{"annotations":{"a":"\n\""}}}`
		ev := modified(body)
		ev.Object = event.Object{Namespace: ns, Name: name, UID: uid, ResourceVersion: rv, DeletionTimestamp: deletion, Generation: generation, Body: []byte(body)}
		for ev.Type = event.Present; ev.Type.OfObject(); ev.Type++ {
			l := line(ev, limit)
			if strings.ContainsAny(l, "\n\r") || !json.Valid([]byte(l)) {
				t.Fatalf("not one line of JSON: %q", l)
			}
			if l != line(ev, limit) {
				t.Fatalf("not stable: %q", l)
			}
			var got struct {
				ID, Subject string
				Data        struct {
					Namespace, Name, UID, ResourceVersion string
					Generation                            int64
					Object                                json.RawMessage
				}
			}
			if err := json.Unmarshal([]byte(l), &got); err != nil {
				t.Fatal(err)
			}
			for _, pair := range [][2]string{{got.Data.Namespace, ns}, {got.Data.Name, name}, {got.Data.UID, uid}, {got.Data.ResourceVersion, rv}, {got.Subject, ev.Object.Key()}} {
				if pair[0] != pair[1] {
					t.Fatalf("%q became %q in %s", pair[1], pair[0], l)
				}
			}
			if got.Data.Generation != generation {
				t.Fatalf("generation %d became %d", generation, got.Data.Generation)
			}
			if got.Data.Object != nil && string(got.Data.Object) != body {
				t.Fatalf("the object became %s", got.Data.Object)
			}
		}
	})
}
