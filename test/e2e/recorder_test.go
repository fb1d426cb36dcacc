package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"watcher/test/cluster"
)

// A record is one change that the API server told of, or an object that was there first: op is "present" then.
type record struct {
	op, uid, key string // key: namespace/name, or name
	version      uint64
	id           string // of the event that it must become
}

func newRecord(op string, m meta) record {
	return record{op, m.UID, strings.TrimPrefix(m.Namespace+"/"+m.Name, "/"), number(m.ResourceVersion), id(op, m.UID, m.ResourceVersion)}
}

// A recorder knows all that happens to one resource, by nothing but net/http. Its API server must never end.
type recorder struct {
	api  *api
	path string
	from uint64 // the version of the list that it began with

	mu      sync.Mutex
	records []record
}

// newRecorder lists what is at the path, such as /api/v1/pods, and follows it until the end of the test.
func newRecorder(t *testing.T, a *api, path string) *recorder {
	t.Helper()
	var list struct {
		Metadata meta
		Items    []struct{ Metadata meta }
	}
	if err := json.Unmarshal(a.get(t, path), &list); err != nil {
		t.Fatal(err)
	}
	r := &recorder{api: a, path: path, from: number(list.Metadata.ResourceVersion)}
	for _, item := range list.Items {
		r.records = append(r.records, newRecord("present", item.Metadata))
	}
	stop := background(t, func(ctx context.Context) error { return r.follow(ctx, list.Metadata.ResourceVersion) })
	t.Cleanup(stop)
	return r
}

// follow opens one watch after the other, each where the last one ended, and returns an error if one fails: what it might
// miss then would be blamed on watcher.
func (r *recorder) follow(ctx context.Context, version string) error {
	for ctx.Err() == nil {
		if err := r.watch(ctx, &version); err != nil && ctx.Err() == nil {
			return fmt.Errorf("record %s after %s: %w", r.path, version, err)
		}
	}
	return nil
}

func (r *recorder) watch(ctx context.Context, version *string) error {
	url := r.api.config.Host + r.path + "?watch=1&timeoutSeconds=3000&resourceVersion=" + *version
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := r.api.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	for frames := bufio.NewReaderSize(resp.Body, 64<<10); ; {
		line, err := frames.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.add(line, version); err != nil {
			return err
		}
	}
}

func (r *recorder) add(line []byte, version *string) error {
	var f struct {
		Type   string
		Object struct{ Metadata meta }
	}
	if err := json.Unmarshal(line, &f); err != nil {
		return err
	}
	op := strings.ToLower(f.Type)
	if op != "added" && op != "modified" && op != "deleted" {
		return fmt.Errorf("the API server says %s", short(string(line)))
	}
	*version = f.Object.Metadata.ResourceVersion
	r.mu.Lock()
	defer r.mu.Unlock()
	r.records = append(r.records, newRecord(op, f.Object.Metadata))
	return nil
}

// soFar returns what was there first, and then every change in the order of versions.
func (r *recorder) soFar() []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records)
}

// TestTheRecorderMissesNothing holds the judge of the campaigns to what certainly happened while an API server was killed.
func TestTheRecorderMissesNothing(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, cluster.Options{})
	second := replica(t, c)
	second.namespace(t, "recorded")
	first := second.configMap(t, "recorded", "first", nil)
	r := newRecorder(t, second, "/api/v1/namespaces/recorded/configmaps")
	h := newHistory(connect(t, c.Config()), "recorded")
	stop := background(t, h.run)
	more := func(n int) {
		eventually(t, patience, "changes happen", func() bool { return len(h.soFar()) >= n })
	}
	more(50)
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	more(len(h.soFar()) + 50)
	stop()
	want := []record{newRecord("present", meta{first.Namespace, first.Name, string(first.UID), first.ResourceVersion})}
	for _, c := range h.soFar() {
		want = append(want, record{op: c.op, id: c.id})
	}
	eventually(t, patience, "the last change is recorded", func() bool { return len(r.soFar()) >= len(want) })
	for i, got := range r.soFar() {
		if got.op != want[i].op || got.id != want[i].id {
			t.Fatalf("record %d is %s %s, want %s %s", i, got.op, got.id, want[i].op, want[i].id)
		}
	}
}

// replica starts a second API server, which lives as long as the cluster.
func replica(t *testing.T, c *cluster.Cluster) *api {
	t.Helper()
	config, err := c.Replica(t.Context())
	must(t, config, err)
	return connect(t, config)
}

// A past is what a recorder knows, in a form to compare a log with.
type past struct {
	records []record          // changes only
	ops     map[string]string // of every state and deletion, by id
	died    map[string]uint64 // when, by uid
	state   map[string]string // the ids of what exists at the version that was asked for last, by key
	next    int               // the first record behind it
}

func (r *recorder) past() *past {
	p := &past{ops: map[string]string{}, died: map[string]uint64{}, state: map[string]string{}}
	for _, rec := range r.soFar() {
		p.ops[rec.id] = rec.op
		if rec.op == "deleted" {
			p.died[rec.uid] = rec.version
		}
		if rec.op == "present" {
			p.state[rec.key] = rec.id
		} else {
			p.records = append(p.records, rec)
		}
	}
	return p
}

// at returns the ids of what existed at the version, by key. The versions that are asked for may only grow.
func (p *past) at(version uint64) map[string]string {
	for ; p.next < len(p.records) && p.records[p.next].version <= version; p.next++ {
		rec := p.records[p.next]
		if p.state[rec.key] = rec.id; rec.op == "deleted" {
			delete(p.state, rec.key)
		}
	}
	return p.state
}

// differ returns the keys at which two states are not the same.
func differ(a, b map[string]string) (keys []string) {
	for key := range maps.Keys(a) {
		if a[key] != b[key] {
			keys = append(keys, key)
		}
	}
	for key := range b {
		if _, both := a[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
