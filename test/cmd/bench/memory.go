package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	typedinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// settled is how long memory must not have grown, to be at its peak.
const settled = 5 * time.Second

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
	j := &job{Host: s.URL, CA: pemOf(s.Certificate()), Position: strconv.Itoa(s.position()), Span: span{Events: b.pods}}
	for _, w := range informers {
		c, err := j.run(ctx, w)
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
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := s.writeKubeconfig(kubeconfig); err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, b.watcher, "run", "pods", "-o", "json", "--log-level", "warn", "--kubeconfig", kubeconfig)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	defer cancel()
	lines := bufio.NewReaderSize(out, 1<<20)
	for synced := false; !synced; {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return 0, 0, fmt.Errorf("before all was listed: %w", err)
		}
		synced = bytes.Contains(line[:min(len(line), 300)], []byte(`"watcher.stream.synced"`))
	}
	listed = peakRSS(cmd.Process.Pid)
	for grew := time.Now(); time.Since(grew) < settled; {
		if now := peakRSS(cmd.Process.Pid); now > stalled {
			stalled, grew = now, time.Now()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	return listed, stalled, nil
}

// writeKubeconfig writes one that leads to the server.
func (s *loadServer) writeKubeconfig(path string) error {
	c := clientcmdapi.NewConfig()
	c.Clusters["bench"] = &clientcmdapi.Cluster{Server: s.URL, CertificateAuthorityData: pemOf(s.Certificate())}
	c.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench"}
	c.CurrentContext = "bench"
	return clientcmd.WriteToFile(*c, path)
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
