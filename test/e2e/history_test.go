package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	v1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// A change is one that certainly happened.
type change struct {
	op, name, id string
	// Its version lies in (after, at]: that of a deletion is not told, so it is enclosed by two reads.
	after, at uint64
}

// A history writes ConfigMaps of one namespace, one change at a time, through failures of the API server, and knows
// afterwards everything that happened: where an answer was lost it reads what became of the request.
type history struct {
	client v1.ConfigMapInterface
	rand   *rand.Rand
	every  time.Duration
	alive  map[string]*corev1.ConfigMap

	mu      sync.Mutex
	changes []change
	retries int
}

func newHistory(a *api, namespace string) *history {
	return &history{
		client: a.CoreV1().ConfigMaps(namespace), rand: rand.New(rand.NewPCG(1, 2)), every: 10 * time.Millisecond,
		alive: map[string]*corev1.ConfigMap{},
	}
}

// run makes changes until ctx ends. The last one is finished.
func (h *history) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := h.next(); err != nil {
			return err
		}
		_ = pause(ctx, h.every)
	}
	return nil
}

func (h *history) next() error {
	name := fmt.Sprintf("cm-%d", h.rand.IntN(8))
	switch cm := h.alive[name]; {
	case cm == nil:
		return h.create(name)
	case h.rand.IntN(5) == 0:
		return h.delete(cm)
	default:
		return h.update(cm)
	}
}

// try calls f until the API server answers, and returns the answer.
func (h *history) try(f func(context.Context) error) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := f(ctx)
		cancel()
		final := err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err)
		if final || time.Now().After(deadline) {
			return err
		}
		h.mu.Lock()
		h.retries++
		h.mu.Unlock()
		_ = pause(context.Background(), 50*time.Millisecond)
	}
}

func (h *history) read(name string) (cm *corev1.ConfigMap, err error) {
	err = h.try(func(ctx context.Context) error {
		cm, err = h.client.Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return cm, err
}

func (h *history) create(name string) (err error) {
	var cm *corev1.ConfigMap
	err = h.try(func(ctx context.Context) error {
		cm, err = h.client.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	})
	if apierrors.IsAlreadyExists(err) { // by the try whose answer was lost
		cm, err = h.read(name)
	}
	return h.happened("added", cm, err)
}

func (h *history) update(cm *corev1.ConfigMap) (err error) {
	next := cm.DeepCopy()
	next.Data = map[string]string{"n": strconv.Itoa(len(h.changes))}
	var got *corev1.ConfigMap
	err = h.try(func(ctx context.Context) error {
		got, err = h.client.Update(ctx, next, metav1.UpdateOptions{})
		return err
	})
	if apierrors.IsConflict(err) {
		if got, err = h.read(cm.Name); err == nil && got.Data["n"] != next.Data["n"] {
			err = fmt.Errorf("somebody else wrote %s", cm.Name)
		}
	}
	return h.happened("modified", got, err)
}

func (h *history) delete(cm *corev1.ConfigMap) error {
	before, err := h.version()
	if err != nil {
		return err
	}
	err = h.try(func(ctx context.Context) error {
		return h.client.Delete(ctx, cm.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &cm.UID}})
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	after, err := h.version()
	if err != nil {
		return err
	}
	delete(h.alive, cm.Name)
	h.add(change{op: "deleted", name: cm.Name, id: id("deleted", string(cm.UID), ""), after: before, at: after})
	return nil
}

// version returns the newest one.
func (h *history) version() (rv uint64, err error) {
	err = h.try(func(ctx context.Context) error {
		l, err := h.client.List(ctx, metav1.ListOptions{Limit: 1})
		if err == nil {
			rv = number(l.ResourceVersion)
		}
		return err
	})
	return rv, err
}

func (h *history) happened(op string, cm *corev1.ConfigMap, err error) error {
	if err != nil {
		return err
	}
	h.alive[cm.Name] = cm
	rv := number(cm.ResourceVersion)
	h.add(change{op: op, name: cm.Name, id: id(op, string(cm.UID), cm.ResourceVersion), after: rv - 1, at: rv})
	return nil
}

func (h *history) add(c change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes = append(h.changes, c)
}

func (h *history) soFar() []change {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.changes)
}

// number is a resourceVersion of this API server as what it is, a revision of etcd.
func number(resourceVersion string) uint64 {
	n, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// wrote reports whether the last change is written, or enclosed by a gap that is repaired.
func (h *history) wrote(evs []event) bool {
	all := h.soFar()
	last := all[len(all)-1]
	return count(evs, func(ev *event) bool {
		return ev.ID == last.id || only("synced")(ev) && number(ev.Data.ResourceVersion) >= last.at
	}) > 0
}

// A hole is a gap with its repair: what happened in (from, to] may be missing.
type hole struct{ from, to uint64 }

func holes(evs []event) (all []hole) {
	for _, ev := range evs {
		switch {
		case ev.is("gap"):
			all = append(all, hole{from: number(ev.Data.From)})
		case ev.is("synced") && len(all) > 0 && all[len(all)-1].to == 0:
			all[len(all)-1].to = number(ev.Data.ResourceVersion)
		}
	}
	return all
}

// account holds the log of one stream, from the history's first change on, against the history: every change is written
// once and in order, but for those that a gap encloses; and behind each repair whoever reads the log knows what there was.
func (h *history) account(t *testing.T, evs []event) {
	t.Helper()
	gaps, live := holes(evs), pick(evs, (*event).live)
	repaired := ids(pick(evs, func(ev *event) bool { return ev.Data.Origin == "repair" }))
	next, missing := 0, 0
	for _, c := range h.soFar() {
		switch {
		case next < len(live) && live[next].ID == c.id:
			if live[next].Data.Op != c.op {
				t.Errorf("%s is written as %s, want %s", c.id, live[next].Data.Op, c.op)
			}
			next++
		case slices.Contains(repaired, c.id):
		case !slices.ContainsFunc(gaps, func(g hole) bool { return c.at > g.from && c.after < g.to }):
			t.Errorf("lost: %s of %s at %d, %s; the gaps are %v", c.op, c.name, c.at, c.id, gaps)
		default:
			missing++
		}
	}
	if next < len(live) {
		t.Errorf("out of order, repeated or invented: %s %s, %s at %s", live[next].Data.Op, live[next].Data.Name, live[next].ID, live[next].Data.ResourceVersion)
	}
	h.accountStates(t, evs)
	t.Logf("%d changes (%d retried requests): %d written live, %d repaired, %d within the gaps %v", len(h.soFar()), h.retries, next, len(repaired), missing, gaps)
}

// accountStates demands that the log agrees with the history on what there was, wherever a repair has ended.
func (h *history) accountStates(t *testing.T, evs []event) {
	t.Helper()
	state, versions := map[string]string{}, map[string]uint64{}
	for _, ev := range evs {
		d := &ev.Data
		if version := number(d.ResourceVersion); ev.ofObject() {
			if version < versions[d.Name] {
				t.Errorf("%s comes after a later change of %s", ev.ID, d.Name)
			}
			if !d.inferred() { // its version is the list's
				versions[d.Name] = version
			}
			state[d.Name] = ev.ID
			if d.Op == "deleted" {
				delete(state, d.Name)
			}
		}
		if !ev.is("synced") || d.Deletions == "" {
			continue
		}
		want, certain := h.at(number(d.ResourceVersion))
		if wrong := differ(state, want); certain && len(wrong) > 0 {
			t.Errorf("behind the repair up to %s %q are not what they were:\n%v\nwant\n%v", d.ResourceVersion, wrong, state, want)
		}
	}
}

// at returns the ids of what there was at the version, by name, unless it is not certain: a deletion may have come just
// before or just after.
func (h *history) at(version uint64) (state map[string]string, certain bool) {
	state = map[string]string{}
	for _, c := range h.soFar() {
		if c.at > version {
			return state, c.after >= version
		}
		if state[c.name] = c.id; c.op == "deleted" {
			delete(state, c.name)
		}
	}
	return state, true
}
