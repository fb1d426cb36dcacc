// Package e2e tests watcher's promises on a real kube-apiserver and etcd: the program itself, its lines, its exit codes.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"watcher/test/cluster"
)

const (
	// patience is how long anything may take that should happen at once: the machine may be small and busy.
	patience = 40 * time.Second
	// aMinute is how long what watcher looks for every minute may take.
	aMinute = 100 * time.Second
)

var (
	program string // path of watcher
	common  commonCluster
	seed    = flag.Uint64("seed", 0, "of the campaigns; 0: any")
	keep    = flag.String("keep", "", "folder in which the logs of failed tests are left")
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	// These tests wait for servers and for minutes to pass; the processors have time for all of them.
	if err := flag.Set("test.parallel", "16"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "e2e-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		program, err = watcher(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer common.stop()
	code := m.Run()
	common.stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// watcher returns the path of the program: the one that the environment names, else one built into dir.
func watcher(dir string) (string, error) {
	if path := os.Getenv("WATCHER"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "watcher")
	build := exec.Command("go", "build", "-o", path, "./cmd/watcher")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build watcher: %w\n%s", err, out)
	}
	return path, nil
}

// A commonCluster is shared by the tests that do not mind each other. It starts when it is first needed.
type commonCluster struct {
	mu      sync.Mutex // guards cluster's methods, too, which are for one goroutine at a time
	cluster *cluster.Cluster
	err     error
}

func (c *commonCluster) start(t *testing.T) *cluster.Cluster {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cluster == nil && c.err == nil {
		c.cluster, c.err = cluster.Start(context.Background(), cluster.Options{})
	}
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.cluster
}

func (c *commonCluster) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cluster != nil {
		c.cluster.Stop()
		c.cluster, c.err = nil, errors.New("the tests are over")
	}
}

// ownCluster starts a cluster for this test alone.
func ownCluster(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// eventually waits until ok, or fails the test after d.
func eventually(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(d)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-late.C:
			t.Fatalf("not within %s: %s", d, what)
		case <-tick.C:
		}
	}
}

// background runs f, which must return soon after its context has ended, and joins it when the returned function is
// called, at the latest at the end of the test.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() { failed = f(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if failed != nil {
			t.Error(failed)
		}
	})
	t.Cleanup(stop)
	return stop
}
