package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"k8s.io/apimachinery/pkg/fields"

	"watcher/internal/event"
)

// drainTimeout is how long the sink has, after the context ends, to take what was read.
const drainTimeout = 20 * time.Second

var errUndrained = errors.New("the sink did not take everything that was read within " + drainTimeout.String())

// An Initial says what a stream without a saved position begins with.
type Initial string

// What exists, or nothing.
const (
	InitialSnapshot Initial = "snapshot"
	InitialNone     Initial = "none"
)

// A Config is everything that Run needs to know. All fields but those marked optional must be set.
type Config struct {
	Client        *Client
	Sink          Sink
	Log           *zap.Logger
	Cluster       string   // its name in events
	Resources     []string // in kubectl's syntax
	Namespaces    []string // optional: all
	LabelSelector string   // optional
	FieldSelector string   // optional
	Payload       Payload  // optional: full, but metadata of core secrets
	ManagedFields bool     // keep metadata.managedFields
	Initial       Initial
	Once          bool          // end after the snapshot; any error is final
	Only          event.Parts   // optional: modified events are written only if they touched one of these
	RepairBudget  int           // point reads that one repair may cost
	Stats         *Stats        // optional
	BufferBytes   int           // what may wait for the sink
	Progress      time.Duration // between progress events; 0: none
	Version       string        // watcher's own
}

// SelectedName is the name of the only object that the field selector leaves, or "": the API server authorizes by it.
func (c Config) SelectedName() string {
	selector, err := fields.ParseSelector(c.FieldSelector)
	if err != nil {
		return "" // the API server will refuse it
	}
	name, _ := selector.RequiresExactMatch("metadata.name")
	return name
}

// Run streams the changes of all resources into the sink until ctx ends; then it writes what was read, ends each stream
// with a stopped event and returns nil. It returns a *UsageError for what only the user can mend, and an error that
// wraps event.ErrClosed if the sink is closed. The network, missing permissions and a broken API server never end it,
// unless c.Once.
func Run(ctx context.Context, c Config) error {
	r := &runner{Config: c, claimed: map[Resource]bool{}}
	if r.Stats == nil {
		r.Stats = &Stats{}
	}
	found, pending, err := r.resolve(ctx)
	if err != nil {
		return r.unlessStopped(ctx, err)
	}
	state, err := r.recover(ctx)
	if err != nil {
		return r.unlessStopped(ctx, err)
	}
	if err := r.identify(ctx, state); err != nil {
		return r.unlessStopped(ctx, err)
	}
	r.state = state
	r.writer = newWriter(c.Sink, state, c.Log)
	r.writer.limit, r.writer.interval, r.writer.once = c.BufferBytes, c.Progress, c.Once
	r.writer.cluster = r.clusterUID
	return r.stream(ctx, found, pending)
}

// A runner is one call of Run.
type runner struct {
	Config
	state      event.State
	clusterUID string
	writer     *writer

	mu      sync.Mutex
	claimed map[Resource]bool
}

// claim reports whether nobody reads the resource yet, and takes it: it may have been named twice.
func (r *runner) claim(res Resource) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.claimed[res]
	r.claimed[res] = true
	return !taken
}

// unlessStopped is err, but nil if it came of being stopped before anything was read.
func (r *runner) unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && !r.Once {
		return nil
	}
	return err
}

// stream runs all streams and the writer, and joins them.
func (r *runner) stream(ctx context.Context, found []Resource, pending []string) error {
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	draining, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(reading, func() {
		sleep(draining, drainTimeout)
		cancel(errUndrained)
	})()

	var failed failures
	fail := func(err error) {
		failed.add(err)
		if !r.Once {
			stop(err)
		}
	}
	var streams sync.WaitGroup
	for _, res := range found {
		r.start(reading, &streams, res, false, fail)
	}
	for _, arg := range pending {
		streams.Go(func() {
			if res, ok := r.await(reading, arg); ok && r.claim(res) {
				r.start(reading, &streams, res, true, fail)
			}
		})
	}
	var join sync.WaitGroup
	join.Go(func() {
		streams.Wait()
		r.writer.close()
	})
	err := r.writer.loop(draining)
	stop(err)
	join.Wait()
	// Also what a closed sink took is to be saved: EPIPE does not undo what the reader has read.
	if closed := r.Sink.Close(draining); err == nil && closed != nil {
		err = fmt.Errorf("make durable what was written: %w", closed)
	}
	if err != nil {
		return err
	}
	return failed.join()
}

// start runs the streams of one resource, one a namespace. late: it was found after the others.
func (r *runner) start(ctx context.Context, wg *sync.WaitGroup, res Resource, late bool, fail func(error)) {
	for _, ns := range r.scopes(res) {
		s, err := r.newStream(res, ns)
		if err != nil {
			fail(err)
			continue
		}
		s.late = late
		wg.Go(func() {
			if err := s.run(ctx); err != nil {
				fail(fmt.Errorf("%s: %w", s.src.res.Name(), err))
			}
		})
	}
}

// scopes are the namespaces to read a resource in; "" is all of them, or none.
func (r *runner) scopes(res Resource) []string {
	if len(r.Namespaces) == 0 || !res.Namespaced {
		return []string{""}
	}
	return r.Namespaces
}

// source reads a resource in a namespace as all others.
func (r *runner) source(res Resource, namespace string) (*source, error) {
	return r.Client.source(res, Selection{
		Namespace: namespace, LabelSelector: r.LabelSelector, FieldSelector: r.FieldSelector,
		Payload: r.payload(res), ManagedFields: r.ManagedFields,
	})
}

func (r *runner) newStream(res Resource, namespace string) (*stream, error) {
	src, err := r.source(res, namespace)
	if err != nil {
		return nil, err
	}
	id := event.NewStream(event.StreamName{
		Cluster: r.Cluster, Group: res.Group, Version: res.Version, Resource: res.Resource, Kind: res.Kind,
		Namespace: namespace, LabelSelector: r.LabelSelector, FieldSelector: r.FieldSelector,
	})
	log := r.Log.With(zap.String("resource", res.Name()))
	if namespace != "" {
		log = log.With(zap.String("namespace", namespace))
	}
	s := &stream{
		Stream: id, src: src, out: r.writer, log: log, initial: r.Initial, once: r.Once, only: r.Only, budget: r.RepairBudget,
		version: r.Version, origin: event.Snapshot, mayLeave: src.sel.mayLeave(), stats: r.Stats.tallier(id.Key()),
	}
	return s, r.resumeFrom(s)
}

// resumeFrom puts a stream where the sink has got.
func (r *runner) resumeFrom(s *stream) error {
	c, ok := r.state.Streams[s.Key()]
	s.pos, s.healing, s.incomplete, s.witness, s.held = c.Position, c.Healing, c.Incomplete, c.Witness, r.whyNot(s, ok)
	if r.Once {
		return nil
	}
	s.ledger = newLedger()
	if r.state.Ledger == nil || !ok {
		return nil
	}
	err := s.ledger.load(r.state.Ledger(s.Key()))
	if s.healing == event.Rewind && !s.covered() {
		s.ledger.forgetVersions()
	}
	return err
}

// whyNot says why a stream begins anew, if it does.
func (r *runner) whyNot(s *stream, known bool) string {
	switch {
	case known && r.state.Streams[s.Key()].Healing == event.Rewind:
		return "not everything was listed again after the API server had been restored"
	case known:
		return event.Unfinished
	}
	resource, _, _ := strings.Cut(s.Key(), "?")
	for key := range r.state.Streams {
		if other, _, _ := strings.Cut(key, "?"); other == resource {
			return "the namespaces or selectors are others"
		}
	}
	return "no position was saved"
}

// payload is the one asked for. Without one secrets give away no more than their metadata.
func (r *runner) payload(res Resource) Payload {
	switch {
	case r.Payload != "":
		return r.Payload
	case res.GroupResource() == secrets:
		return PayloadMetadata
	default:
		return PayloadFull
	}
}

// resolve finds the resources, and waits while the API server cannot be asked.
func (r *runner) resolve(ctx context.Context) (found []Resource, pending []string, err error) {
	cat, err := r.catalog(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(cat.down) > 0 {
		r.Log.Warn("some APIs could not be discovered", zap.Strings("down", cat.down))
	}
	all, err := cat.findAll(r.Resources)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, f := range all {
		switch {
		case f.Unserved != nil && r.Once:
			return nil, nil, f.Unserved
		case f.Unserved != nil:
			r.Log.Warn("a resource is not served yet; looking for it every minute", zap.String("resource", f.Arg), zap.Error(f.Unserved))
			pending = append(pending, f.Arg)
		case r.claim(f.Resource):
			found = append(found, f.Resource)
			names = append(names, f.Name())
		}
	}
	r.Log.Info("watching", zap.Strings("resources", names), zap.String("in", scope(r.Namespaces)), zap.String("cluster", r.Cluster))
	return found, pending, nil
}

func scope(namespaces []string) string {
	if len(namespaces) == 0 {
		return "all namespaces"
	}
	return strings.Join(namespaces, ", ")
}

// catalog discovers, and tries again until it can. The error is the context's, or with Once any.
func (r *runner) catalog(ctx context.Context) (cat *catalog, err error) {
	err = r.insist(ctx, func() (err error) {
		cat, err = r.Client.discover(ctx)
		return err
	})
	return cat, err
}

// insist asks the API server until it answers. What is wrong meanwhile is said once per change. The error is the context's,
// or with Once any.
func (r *runner) insist(ctx context.Context, ask func() error) error {
	var retry backoff
	trouble := ""
	for {
		err := ask()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		what, do := diagnoseNetwork(err)
		if r.Once {
			return complaint(what, do, err)
		}
		if what != trouble {
			trouble = what
			r.Log.Warn(what, advised(do, zap.Error(err))...)
		}
		sleep(ctx, max(retry.next(), retryAfter(err)))
	}
}

// await looks for a resource once a minute until it is served. What is wrong meanwhile is said once per change; it must
// not end what is watched already.
func (r *runner) await(ctx context.Context, arg string) (Resource, bool) {
	log, trouble := r.Log.With(zap.String("resource", arg)), ""
	for sleep(ctx, denialInterval); ctx.Err() == nil; sleep(ctx, denialInterval) {
		cat, err := r.Client.discover(ctx)
		what := "the API server cannot be asked for the resource"
		if err == nil {
			var res Resource
			if res, err = cat.find(arg); err == nil {
				log.Info("the resource is served now")
				return res, true
			}
			what = "the resource cannot be watched yet"
		}
		if what != trouble && !errors.As(err, new(*pendingError)) && ctx.Err() == nil {
			trouble = what
			log.Warn(what, zap.Error(err))
		}
	}
	return Resource{}, false
}

// recover asks the sink what it holds, until it can say.
func (r *runner) recover(ctx context.Context) (event.State, error) {
	var retry backoff
	for {
		state, err := r.Sink.Recover(ctx)
		if err == nil {
			return state, nil
		}
		if ctx.Err() != nil || r.Once || errors.Is(err, event.ErrClosed) {
			return event.State{}, fmt.Errorf("recover what was written: %w", err)
		}
		r.Log.Warn("the sink cannot be read; trying again until it can", zap.Error(err))
		sleep(ctx, retry.next())
	}
}

// failures collects errors of several goroutines.
type failures struct {
	mu   sync.Mutex
	errs []error
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func (f *failures) join() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}
