// Command demo shows watcher at work: it brings up a temporary cluster in
// which things happen, runs watcher on it, kills it, lets things happen
// meanwhile, starts it again, and has the log verified.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"watcher/test/actor"
	"watcher/test/cluster"
)

func main() {
	watcher := flag.String("watcher", "bin/watcher", "the program to show")
	seconds := flag.Int("seconds", 60, "how long to show it, more or less")
	seed := flag.Uint64("seed", 1, "what happens: the same seed makes the same choices")
	flag.Parse()
	if flag.NArg() > 0 || *seconds <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := demo(ctx, *watcher, time.Duration(*seconds)*time.Second, *seed)
	if ctx.Err() != nil {
		say("Interrupted.")
		err = nil
	}
	stop()
	if err != nil {
		say("%v", err)
		os.Exit(1)
	}
}

// demo returns an error if watcher failed, if its log is not complete, or if
// it could not be shown.
func demo(ctx context.Context, watcher string, length time.Duration, seed uint64) error {
	watcher, err := exec.LookPath(watcher)
	if err != nil {
		return fmt.Errorf("look for watcher: %w", err)
	}
	say("Starting a temporary cluster: etcd and kube-apiserver.")
	c, err := cluster.Start(ctx, cluster.Options{})
	if err != nil {
		return err
	}
	defer say("Everything is stopped and removed.")
	defer c.Stop()
	s := &show{cluster: c, log: filepath.Join(c.Dir(), "audit.jsonl")}
	s.text = &watching{path: watcher, args: []string{"-o", "text", "--kubeconfig", c.Kubeconfig(), "--state-dir", filepath.Join(c.Dir(), "text")}, errors: os.Stderr}
	s.json = &watching{path: watcher, args: []string{"-o", "json", "--kubeconfig", c.Kubeconfig(), "--state-dir", filepath.Join(c.Dir(), "json")}, log: s.log}
	defer s.text.kill()
	defer s.json.kill()
	for _, act := range []func(context.Context) error{
		func(ctx context.Context) error { return s.live(ctx, length*2/3, seed) },
		s.outage,
		s.verify,
	} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// A show is two watchers in one cluster: one that you see, and one that keeps
// the audit trail.
type show struct {
	cluster    *cluster.Cluster
	log        string
	text, json *watching
}

// live is the first act: what happens is seen.
func (s *show) live(ctx context.Context, length time.Duration, seed uint64) error {
	say("1. For %.0f s deployments in the namespace shop roll out, scale, crash and recover.", length.Seconds())
	say("   Seen by:  watcher run -o text")
	say("   Kept by:  watcher run -o json --state-dir state >> audit.jsonl")
	if err := s.start(); err != nil {
		return err
	}
	playing, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	if err := actor.Run(playing, s.cluster.Config(), actor.Options{Seed: seed}); err != nil {
		return fmt.Errorf("play in the cluster: %w", err)
	}
	return wait(ctx, time.Second) // until the last of it is seen
}

// outage is the second act: what happens while nobody looks is found out.
func (s *show) outage(ctx context.Context) error {
	say("2. Both are killed with -9. Meanwhile: %d updates and %d deletions, and the API server is restarted,", updates, deletions)
	say("   so that it remembers nothing of them. Then both are started again.")
	for _, w := range []*watching{s.text, s.json} {
		if err := w.crash(); err != nil {
			return err
		}
	}
	objects, err := meanwhile(ctx, s.cluster.Config())
	if err != nil {
		return err
	}
	if err := s.cluster.KillAPIServer(); err != nil {
		return err
	}
	if err := s.cluster.StartAPIServer(ctx); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	if err := s.repaired(ctx, objects); err != nil {
		return err
	}
	for _, w := range []*watching{s.text, s.json} {
		if err := w.stop(); err != nil {
			return err
		}
	}
	return nil
}

// verify is the third act: the log is held against the cluster.
func (s *show) verify(ctx context.Context) error {
	say("3. Is the log complete?  watcher verify --live audit.jsonl")
	cmd := exec.CommandContext(ctx, s.json.path, "verify", "--live", "--kubeconfig", s.cluster.Kubeconfig(), s.log)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the log is not complete: %w", err)
	}
	return nil
}

func (s *show) start() error {
	if err := s.json.start(); err != nil {
		return err
	}
	return s.text.start()
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "demo: "+format+"\n", args...) }
