package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"
	"k8s.io/client-go/rest"
)

func (c *Cluster) startEtcd(ctx context.Context) error {
	url := "https://" + c.etcdAddr
	p, err := startProcess(c.dir, "etcd", c.etcdPath, c.opts.Detach,
		"--data-dir="+c.file("etcd"),
		"--listen-client-urls="+url,
		"--advertise-client-urls="+url,
		"--listen-peer-urls=http://127.0.0.1:0",
		"--cert-file="+c.file("server.crt"),
		"--key-file="+c.file("server.key"),
		"--trusted-ca-file="+c.file("ca.crt"),
		"--client-cert-auth",
		"--unsafe-no-fsync", // survives a kill, not a power cut
	)
	if err != nil {
		return err
	}
	c.etcd = p
	return p.ready(ctx, c.withEtcd(func(ctx context.Context, cl *clientv3.Client) error {
		_, err := cl.Status(ctx, url)
		return err
	}))
}

func (c *Cluster) etcdConfig() (clientv3.Config, error) {
	tls, err := rest.TLSConfigFor(c.Config())
	return clientv3.Config{Endpoints: []string{"https://" + c.etcdAddr}, TLS: tls, Logger: zap.NewNop()}, err
}

// withEtcd returns a function that connects to etcd, runs f and disconnects.
func (c *Cluster) withEtcd(f func(context.Context, *clientv3.Client) error) func(context.Context) error {
	return func(ctx context.Context) error {
		cfg, err := c.etcdConfig()
		if err != nil {
			return err
		}
		cl, err := clientv3.New(cfg)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return errors.Join(f(ctx, cl), cl.Close())
	}
}

// Compact makes etcd forget everything before its current revision, which it
// returns. The API server's watch cache still remembers: only a watch that
// reads from etcd (Events, LIST at an exact version) notices, or any watch
// once the API server was restarted.
func (c *Cluster) Compact(ctx context.Context) (rev int64, err error) {
	err = c.withEtcd(func(ctx context.Context, cl *clientv3.Client) error {
		at, err := cl.Get(ctx, "none")
		if err != nil {
			return err
		}
		rev = at.Header.Revision
		_, err = cl.Compact(ctx, rev, clientv3.WithCompactPhysical())
		return err
	})(ctx)
	if err != nil {
		return 0, fmt.Errorf("compact etcd: %w", err)
	}
	return rev, nil
}

// Snapshot saves what etcd holds now to file.
func (c *Cluster) Snapshot(ctx context.Context, file string) error {
	cfg, err := c.etcdConfig()
	if err == nil {
		_, err = snapshot.SaveWithVersion(ctx, zap.NewNop(), cfg, file)
	}
	if err != nil {
		return fmt.Errorf("save a snapshot of etcd to %s: %w", file, err)
	}
	return nil
}

// Restore stops both servers, puts etcd back to what it was when file was
// saved, and starts both again at the same addresses. Resource versions go
// back too and will be given out a second time. A replica would not notice, so
// there must be none.
func (c *Cluster) Restore(ctx context.Context, file string) error {
	if c.replica != nil {
		return errors.New("restore etcd: a replica of kube-apiserver uses it")
	}
	path, err := etcdutl().find(ctx, c.log())
	if err != nil {
		return err
	}
	if err := errors.Join(c.KillAPIServer(), c.etcd.kill()); err != nil {
		return err
	}
	if err := os.RemoveAll(c.file("etcd")); err != nil {
		return fmt.Errorf("remove etcd's data: %w", err)
	}
	out, err := exec.CommandContext(ctx, path, "snapshot", "restore", file, "--data-dir="+c.file("etcd")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("restore etcd from %s: %w\n%s", file, err, out)
	}
	if err := c.startEtcd(ctx); err != nil {
		return fmt.Errorf("start etcd after a restore: %w", err)
	}
	return c.StartAPIServer(ctx)
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }
