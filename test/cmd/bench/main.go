// Command bench measures what watcher costs beside what people use today, in one run on one machine: client CPU, time,
// allocations and memory, while a test server and a real API server deliver the changes of pods.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "way" {
		die(child(os.Args[2]))
		return
	}
	b := bench{settled: 5 * time.Second}
	flag.StringVar(&b.watcher, "watcher", "bin/watcher", "the program whose memory is measured")
	flag.IntVar(&b.rounds, "rounds", 8, "how often each way is measured")
	flag.IntVar(&b.events, "events", 30_000, "events a measurement, of the test server")
	flag.IntVar(&b.real, "real", 5_000, "events a measurement, of the real API server; 0: leave it out")
	flag.IntVar(&b.pods, "pods", 100_000, "pods that are listed while memory is measured; 0: leave it out")
	flag.StringVar(&b.docs, "docs", "", "a `folder` to write the table and the picture to")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := b.run(ctx)
	stop()
	die(err)
}

func die(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is what to measure, and a temporary folder to do so in.
type bench struct {
	watcher, docs, dir         string
	rounds, events, real, pods int
	settled                    time.Duration // how long memory must not have grown, to be at its peak
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir) //nolint:errcheck // a temporary folder
	r := report{Machine: machine(), Date: today(), Rounds: b.rounds}
	for _, measure := range []func(context.Context, *report) error{b.fake, b.cluster, b.memory, b.continuity} {
		if err := measure(ctx, &r); err != nil {
			return err
		}
	}
	return r.write(b.docs)
}

// child measures one way, in this process, of the job on standard input, and prints the cost.
func child(name string) error {
	w, err := wayNamed(name)
	if err != nil {
		return err
	}
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var result *cost
	m := &meter{span: j.Span, done: func(c cost) {
		result = &c
		cancel()
	}}
	err = w.run(ctx, j.config(), j.Position, m)
	if result == nil {
		return errors.Join(fmt.Errorf("%s read %d of %d", name, m.seen, m.Events), err)
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
