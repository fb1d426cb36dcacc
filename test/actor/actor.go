// Package actor plays the kubelet, the scheduler, the controllers and a busy
// user in a cluster that has only an API server, so that there is something
// to watch: rollouts, scaling, crash loops, jobs, a service that comes and goes.
package actor

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// Options say how the actor plays. The zero value works.
type Options struct {
	Namespace string        // it is created and must not exist; "": shop
	Seed      uint64        // the same seed makes the same choices
	Every     time.Duration // from one step to the next; 0: 400 ms
}

// Run plays until the context ends and then returns nil, or until a request
// fails. What it made is left as it is at that moment.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	if o.Namespace == "" {
		o.Namespace = "shop"
	}
	if o.Every == 0 {
		o.Every = 400 * time.Millisecond
	}
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	defer h.CloseIdleConnections()
	cfg = rest.CopyConfig(cfg)
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	client, err := rest.UnversionedRESTClientForConfigAndClient(cfg, h)
	if err != nil {
		return err
	}
	s := &stage{client: client, namespace: o.Namespace, rand: rand.New(rand.NewPCG(o.Seed, 0))}
	if err := s.play(ctx, o.Every); ctx.Err() == nil {
		return err
	}
	return nil
}

// A stage is where the stories run, three at a time.
type stage struct {
	client    rest.Interface
	namespace string
	rand      *rand.Rand
	apps      []*app
	stories   []story
	canary    bool // that story runs
	job       bool // that one does
}

// A story is what is still to be done, in order. Its subject is busy until
// then: it has one story at a time.
type story struct {
	busy  *bool
	steps []step
}

type step func(context.Context) error

// An app is a deployment and its pods.
type app struct {
	name, hash          string
	version, generation int
	pods                []*pod
	busy                bool
}

// A pod is an app's, or a job's if app is nil.
type pod struct {
	app        *app
	name, hash string
	restarts   int
	ready      bool
}

func (s *stage) play(ctx context.Context, every time.Duration) error {
	for _, do := range s.opening() {
		if err := do(ctx); err != nil {
			return err
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.next()(ctx); err != nil {
			return err
		}
	}
}

// opening makes the namespace, and the apps with all their pods.
func (s *stage) opening() []step {
	steps := []step{s.createNamespace}
	for i, name := range []string{"web", "api", "cart", "search"} {
		a := &app{name: name, version: 1, hash: s.letters(9)}
		s.apps = append(s.apps, a)
		steps = append(steps, s.createDeployment(a, 3-i/2))
		for range 3 - i/2 {
			steps = append(steps, s.birth(a)...)
		}
	}
	return steps
}

// next returns the next step of one of the stories.
func (s *stage) next() step {
	for len(s.stories) < 3 {
		st := s.newStory()
		*st.busy = true
		s.stories = append(s.stories, st)
	}
	i := s.rand.IntN(len(s.stories))
	st := &s.stories[i]
	next := st.steps[0]
	if st.steps = st.steps[1:]; len(st.steps) == 0 {
		*st.busy = false
		s.stories = slices.Delete(s.stories, i, i+1)
	}
	return next
}

func (s *stage) newStory() story {
	free := slices.DeleteFunc(slices.Clone(s.apps), func(a *app) bool { return a.busy }) // there are more apps than stories
	a := free[s.rand.IntN(len(free))]
	switch roll := s.rand.IntN(10); {
	case roll < 2 && !s.canary:
		return story{&s.canary, []step{s.createCanary, s.shiftCanary, s.deleteCanary}}
	case roll < 4 && !s.job:
		p := &pod{name: "report-" + s.letters(5)}
		return story{&s.job, []step{s.create(p), s.bind(p), s.run(p), s.succeed(p), s.remove(p)}}
	case roll < 6:
		p := a.pods[s.rand.IntN(len(a.pods))]
		return story{&a.busy, append(slices.Repeat([]step{s.fail(p)}, 2+s.rand.IntN(3)), s.run(p))}
	case roll < 8:
		return story{&a.busy, s.scale(a)}
	default:
		return story{&a.busy, s.rollout(a)}
	}
}

// rollout changes the image and replaces the pods one by one.
func (s *stage) rollout(a *app) []step {
	a.version, a.hash = a.version+1, s.letters(9)
	steps := []step{s.setImage(a)}
	for _, old := range a.pods {
		steps = append(append(steps, s.birth(a)...), s.terminate(old), s.remove(old))
	}
	return steps
}

// scale adds a pod, or leaves two of three or more.
func (s *stage) scale(a *app) []step {
	n := len(a.pods) + 1
	if n > 4 || n == 4 && s.rand.IntN(2) == 0 {
		n = 2
	}
	steps := []step{s.setReplicas(a, n)}
	if n > len(a.pods) {
		return append(steps, s.birth(a)...)
	}
	for _, p := range a.pods[n:] {
		steps = append(steps, s.terminate(p), s.remove(p))
	}
	return steps
}

// birth makes a new pod of the app and runs it.
func (s *stage) birth(a *app) []step {
	p := &pod{app: a, name: a.name + "-" + a.hash + "-" + s.letters(5), hash: a.hash}
	return []step{s.create(p), s.bind(p), s.run(p)}
}

// letters returns a random part of a name, of the kind that controllers make.
func (s *stage) letters(n int) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[s.rand.IntN(len(alphabet))]
	}
	return string(b)
}
