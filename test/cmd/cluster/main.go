// Command cluster runs a cluster for development that stays up when the
// command has ended, and takes it down again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"watcher/test/cluster"
)

const usage = `usage: cluster up|down [-dir DIR]
       cluster build

up     starts etcd and kube-apiserver in the background; DIR/kubeconfig is the way in
down   stops them and removes DIR
build  makes sure that the servers are built, and does nothing else
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out io.Writer) int {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprint(out, usage) }
	dir := flags.String("dir", ".cluster", "")
	if len(args) == 0 {
		flags.Usage()
		return 2
	}
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		flags.Usage()
		return 2
	}
	var err error
	switch args[0] {
	case "up":
		err = up(ctx, *dir, out)
	case "down":
		err = down(*dir, out)
	case "build":
		err = cluster.Build(ctx, out)
	default:
		flags.Usage()
		return 2
	}
	if err != nil {
		fmt.Fprintln(out, "cluster:", err)
		return 1
	}
	return 0
}

func up(ctx context.Context, dir string, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	left, err := cluster.Find(dir)
	if err != nil {
		return err
	}
	if left.Running() {
		fmt.Fprintln(out, "The cluster is up already.")
		next(out, dir)
		return nil
	}
	if left.Exists() {
		fmt.Fprintf(out, "Removing what is left of a cluster in %s that does not run any more.\n", dir)
		if err := left.Remove(); err != nil {
			return err
		}
	}
	begin := time.Now()
	fmt.Fprintln(out, "Starting etcd and kube-apiserver.")
	c, err := cluster.Start(ctx, cluster.Options{Dir: dir, Detach: true, Log: out})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Ready at %s after %s.\n", c.Config().Host, time.Since(begin).Round(100*time.Millisecond))
	next(out, dir)
	return nil
}

func next(out io.Writer, dir string) {
	fmt.Fprintf(out, "\n  export KUBECONFIG=%s\n  kubectl get namespaces\n\nThere are no nodes and no controllers. The logs are in %s.\n",
		filepath.Join(dir, "kubeconfig"), dir)
}

func down(dir string, out io.Writer) error {
	left, err := cluster.Find(dir)
	if err != nil {
		return err
	}
	if !left.Exists() {
		fmt.Fprintf(out, "No cluster is up in %s.\n", dir)
		return nil
	}
	if err := left.Remove(); err != nil {
		return err
	}
	fmt.Fprintf(out, "The cluster is down; %s is removed.\n", dir)
	return nil
}
