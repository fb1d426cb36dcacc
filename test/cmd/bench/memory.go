package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	typedinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"watcher/internal/event"
	"watcher/internal/sink"
	watcher "watcher/internal/watch"
)

// memory measures the most memory that is resident while all pods are listed, and then under changes that come without
// end while the sink takes nothing.
func (b *bench) memory(ctx context.Context, r *report) error {
	if b.pods == 0 {
		return nil
	}
	s := newLoadServer(b.pods)
	defer s.Close()
	defer s.CloseClientConnections()
	r.Pods = b.pods
	listed, stalled, err := b.watcherMemory(ctx, s)
	if err != nil {
		return fmt.Errorf("measure watcher's memory: %w", err)
	}
	r.Memory = append(r.Memory, footprint{"watcher, all pods listed", megabytes(listed)},
		footprint{"watcher, then with a stalled sink", megabytes(stalled)})
	for _, w := range informers {
		c, err := s.job(b.pods).run(ctx, w)
		if err != nil {
			return err
		}
		r.Memory = append(r.Memory, footprint{w.does, megabytes(c.PeakRSS)})
	}
	return nil
}

func megabytes(n int) float64 { return float64(n) / 1e6 }

// watcherMemory runs the program itself.
func (b *bench) watcherMemory(ctx context.Context, s *loadServer) (listed, stalled int, err error) {
	p, err := b.start(ctx, s, nil)
	if err != nil {
		return 0, 0, err
	}
	defer p.kill()
	if err := p.until("synced"); err != nil {
		return 0, 0, err
	}
	listed = peakRSS(p.Process.Pid)
	stalled, err = p.settledPeak(ctx, b.settled)
	return listed, stalled, err
}

// keep runs watcher until all pods are listed, and tells what is in the heap after that and was not before.
var keep = way{"keep", "", func(ctx context.Context, c *rest.Config, _ string, m *meter) error {
	before := heap()
	return runWatcher(ctx, c, func(l *sink.Lines) watcher.Sink {
		return &keepingSink{l, func() { m.done(cost{Events: m.Events, Bytes: heap() - before}) }}
	})
}}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // pools give back what they hold at the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

type keepingSink struct {
	*sink.Lines
	synced func()
}

func (s *keepingSink) Commit(ctx context.Context, b event.Batch) error {
	err := s.Lines.Commit(ctx, b)
	if n := len(b.Events); n > 0 && b.Events[n-1].Type == event.Synced {
		s.synced()
	}
	return err
}

// informers list all pods, and keep them.
var informers = []way{
	{"typed-informer", "typed informer, protobuf", func(ctx context.Context, c *rest.Config, _ string, m *meter) error {
		client, err := typed(c)
		if err != nil {
			return err
		}
		return fill(ctx, typedinformers.NewSharedInformerFactory(client, 0).Core().V1().Pods().Informer(), m)
	}},
	{"dynamic-informer", "dynamic informer", func(ctx context.Context, c *rest.Config, _ string, m *meter) error {
		client, err := dynamic.NewForConfig(c)
		if err != nil {
			return err
		}
		return fill(ctx, dynamicinformer.NewDynamicSharedInformerFactory(client, 0).ForResource(pods).Informer(), m)
	}},
}

func fill(ctx context.Context, informer cache.SharedIndexInformer, m *meter) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running.Go(func() { informer.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return ctx.Err()
	}
	m.events(len(informer.GetStore().ListKeys()))
	return nil
}
