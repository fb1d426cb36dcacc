// Command demo shows watcher at work: it brings up a temporary cluster in
// which things happen, runs watcher on it for a while, and cleans up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"watcher/test/actor"
	"watcher/test/cluster"
)

// patience is how long watcher may take to end when asked to.
const patience = 15 * time.Second

func main() {
	watcher := flag.String("watcher", "bin/watcher", "the program to show")
	seconds := flag.Int("seconds", 60, "how long to show it")
	seed := flag.Uint64("seed", 1, "what happens: the same seed makes the same choices")
	flag.Parse()
	if flag.NArg() > 0 || *seconds <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := demo(ctx, *watcher, time.Duration(*seconds)*time.Second, *seed)
	stop()
	if err != nil {
		say("%v", err)
		os.Exit(1)
	}
}

// demo returns an error if watcher failed or could not be shown. An interrupt
// ends it early and is none.
func demo(ctx context.Context, watcher string, length time.Duration, seed uint64) error {
	watcher, err := exec.LookPath(watcher)
	if err != nil {
		return fmt.Errorf("look for watcher: %w", err)
	}
	say("Starting a temporary cluster: etcd and kube-apiserver.")
	c, err := cluster.Start(ctx, cluster.Options{})
	if ctx.Err() != nil {
		say("Interrupted.")
		return nil
	}
	if err != nil {
		return err
	}
	defer say("Everything is stopped and removed.")
	defer c.Stop()

	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	say("Running: %s run -o text --kubeconfig %s", watcher, c.Kubeconfig())
	cmd := command(ctx, watcher, "run", "-o", "text", "--kubeconfig", c.Kubeconfig())
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start watcher: %w", err)
	}
	say("For %s, deployments in the namespace shop roll out, scale, crash and recover. Ctrl-C ends it.", length)
	var played error
	var wg sync.WaitGroup
	wg.Go(func() {
		if played = actor.Run(ctx, c.Config(), actor.Options{Seed: seed}); played != nil {
			cancel()
		}
	})
	_ = cmd.Wait() // what it says is in the process's state, too
	early := ctx.Err() == nil
	cancel()
	wg.Wait()
	switch {
	case !cmd.ProcessState.Success():
		return fmt.Errorf("watcher failed: %s", cmd.ProcessState)
	case early:
		return errors.New("watcher ended before it was asked to")
	case played != nil:
		return fmt.Errorf("play in the cluster: %w", played)
	}
	return nil
}

// command is a command in a process group of its own, which a Ctrl-C does not
// reach. When the context ends it is asked to end, and killed if it does not.
func command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = patience
	cmd.Cancel = func() error {
		say("Asking watcher to end.")
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	return cmd
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "demo: "+format+"\n", args...) }
