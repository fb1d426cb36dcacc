// Package cluster runs a real etcd and a real kube-apiserver for tests and
// for development. There are no nodes and no controllers: nothing runs a pod,
// ends a namespace or collects garbage. Package actor plays some of that.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

const startTimeout = 2 * time.Minute

// Options say how a cluster runs. The zero value works.
type Options struct {
	Dir           string        // where everything is kept: absent or empty before, left there by Stop; "": a temporary folder, removed by Stop
	NoWatchCache  bool          // the API server reads every watch from etcd
	EventTTL      time.Duration // how long Events live; 0: the API server's default, an hour
	APIServerArgs []string      // further flags of the API server; they win
	Detach        bool          // the servers outlive this process; their ids are in Dir, in etcd.pid and kube-apiserver.pid
	Log           io.Writer     // tells how far the build of a server is; nil: standard error
}

// A Cluster is an etcd and an API server that run on 127.0.0.1. Its methods
// are for one goroutine at a time, Config and Kubeconfig for any.
type Cluster struct {
	opts                    Options
	dir                     string
	etcdPath, apiServerPath string
	etcdAddr, apiServerAddr string
	replicaAddr             string
	etcd, apiServer         *process
	replica                 *process // nil: there is none
	ca                      *authority
	admin                   keyPair
}

// Start starts a cluster and returns when its API server is ready, which
// takes about six seconds, or minutes if the servers have to be built first.
// The context bounds the start, not the cluster's life: that ends with Stop or
// with this process, even when it is killed (on Linux), unless it is detached.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{opts: o}
	if err := c.start(ctx); err != nil {
		c.Stop()
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	if c.etcdPath, err = etcdServer().find(ctx, c.log()); err != nil {
		return err
	}
	if c.apiServerPath, err = kubeAPIServer().find(ctx, c.log()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.makeDir(); err != nil {
		return err
	}
	if c.ca, c.admin, err = writeCerts(c.dir); err != nil {
		return fmt.Errorf("make certificates: %w", err)
	}
	if err := onFreePort(&c.etcdAddr, func() error { return c.startEtcd(ctx) }); err != nil {
		return err
	}
	if err := onFreePort(&c.apiServerAddr, func() error { return c.StartAPIServer(ctx) }); err != nil {
		return err
	}
	return c.writeKubeconfig(c.Kubeconfig(), "admin", c.admin)
}

func (c *Cluster) makeDir() (err error) {
	if c.opts.Dir == "" {
		c.dir, err = os.MkdirTemp("", "cluster-")
		return err
	}
	if c.dir, err = filepath.Abs(c.opts.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(c.dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty", c.dir)
	}
	return err
}

// Config returns the administrator's access, without a limit on requests.
func (c *Cluster) Config() *rest.Config { return c.config(c.admin) }

func (c *Cluster) config(k keyPair) *rest.Config {
	return &rest.Config{
		Host:            "https://" + c.apiServerAddr,
		QPS:             -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem, CertData: k.cert, KeyData: k.key},
	}
}

// Kubeconfig returns the path of the administrator's kubeconfig, whose
// context and cluster are named "dev".
func (c *Cluster) Kubeconfig() string { return c.file("kubeconfig") }

// Dir returns the folder that holds the cluster: its data, its logs
// (etcd.log, kube-apiserver.log) and its kubeconfig files.
func (c *Cluster) Dir() string { return c.dir }

// Stop ends all servers at once, waits until they are gone, and removes the
// temporary folder. A second call does nothing.
func (c *Cluster) Stop() {
	for _, p := range []*process{c.replica, c.apiServer, c.etcd} {
		if p != nil {
			_ = p.kill() // it fails only for a process that is gone
		}
	}
	if c.opts.Dir == "" && c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

func (c *Cluster) log() io.Writer {
	if c.opts.Log != nil {
		return c.opts.Log
	}
	return os.Stderr
}

// onFreePort calls start with *addr at a port that was free a moment ago, and
// again with another one if it was not any more.
func onFreePort(addr *string, start func() error) (err error) {
	for range 5 {
		if *addr, err = freeAddr(); err != nil {
			return err
		}
		if err = start(); err == nil || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
	return err
}

// freeAddr returns an address whose port is below those that the kernel gives
// to outgoing connections: it would soon give one that is free while a server
// restarts to a client that is waiting for that very server.
func freeAddr() (string, error) {
	var errs []error
	for range 20 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return addr, l.Close()
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("find a free port: %w", errors.Join(errs...))
}
