package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/client-go/rest"
)

// StartAPIServer starts the API server again after KillAPIServer, at the same
// address and with the same certificates, and returns when it is ready. Its
// watch cache is empty then: nothing older than this moment can be watched.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if c.apiServer != nil {
		select {
		case <-c.apiServer.done:
		default:
			return errors.New("start kube-apiserver: it runs")
		}
	}
	p, err := startProcess(c.dir, "kube-apiserver", c.apiServerPath, c.opts.Detach, c.apiServerArgs(c.apiServerAddr)...)
	if err != nil {
		return err
	}
	c.apiServer = p
	return serves(ctx, p, c.Config())
}

// Replica starts a second API server on the same etcd and returns the
// administrator's access to it when it is ready. Nothing but Stop ends it: what
// is watched through it is seen whatever becomes of the first.
func (c *Cluster) Replica(ctx context.Context) (*rest.Config, error) {
	if c.replica != nil {
		return nil, errors.New("start a replica of kube-apiserver: there is one")
	}
	cfg := c.Config()
	err := onFreePort(&c.replicaAddr, func() (err error) {
		c.replica, err = startProcess(c.dir, "replica", c.apiServerPath, c.opts.Detach, c.apiServerArgs(c.replicaAddr)...)
		if err != nil {
			return err
		}
		cfg.Host = "https://" + c.replicaAddr
		return serves(ctx, c.replica, cfg)
	})
	if err != nil {
		return nil, fmt.Errorf("start a replica of kube-apiserver: %w", err)
	}
	return cfg, nil
}

// serves waits until the API server is ready.
func serves(ctx context.Context, p *process, cfg *rest.Config) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return p.ready(ctx, func(ctx context.Context) error { return probe(ctx, client, cfg.Host+"/readyz") })
}

// KillAPIServer ends the API server as a crash would, and waits until it is
// gone. etcd stays.
func (c *Cluster) KillAPIServer() error { return c.apiServer.kill() }

func (c *Cluster) apiServerArgs(addr string) []string {
	host, port, _ := net.SplitHostPort(addr) // an address that freeAddr made
	args := []string{
		"--bind-address=" + host,
		"--advertise-address=" + host,
		"--secure-port=" + port,
		"--endpoint-reconciler-type=none", // no endpoints may be on a loopback address
		"--tls-cert-file=" + c.file("server.crt"),
		"--tls-private-key-file=" + c.file("server.key"),
		"--client-ca-file=" + c.file("ca.crt"),
		"--etcd-servers=https://" + c.etcdAddr,
		"--etcd-cafile=" + c.file("ca.crt"),
		"--etcd-certfile=" + c.file("client.crt"),
		"--etcd-keyfile=" + c.file("client.key"),
		"--authorization-mode=RBAC",
		"--disable-admission-plugins=ServiceAccount", // no controller makes the service account "default"
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.file("service-account.key"),
		"--service-account-signing-key-file=" + c.file("service-account.key"),
		"--service-cluster-ip-range=10.0.0.0/16",
	}
	if c.opts.NoWatchCache {
		args = append(args, "--watch-cache=false")
	}
	if c.opts.EventTTL > 0 {
		args = append(args, "--event-ttl="+c.opts.EventTTL.String())
	}
	return append(args, c.opts.APIServerArgs...)
}

func probe(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}
