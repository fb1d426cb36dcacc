package cluster

import (
	"context"
	"fmt"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// User makes a user with a client certificate who may do exactly what the
// rules say, in the namespace, which must exist, or in the whole cluster if
// it is "". It returns the user's access and a kubeconfig with the same.
func (c *Cluster) User(ctx context.Context, name, namespace string, rules ...rbacv1.PolicyRule) (*rest.Config, string, error) {
	if err := c.Grant(ctx, name, namespace, rules...); err != nil {
		return nil, "", err
	}
	k, err := c.ca.client(name, certLife)
	if err != nil {
		return nil, "", err
	}
	path := c.file(name + ".kubeconfig")
	return c.config(k), path, c.writeKubeconfig(path, name, k)
}

// Grant replaces what the user may do in the namespace, or through its
// ClusterRole if that is "". It returns when the API server acts on it.
func (c *Cluster) Grant(ctx context.Context, name, namespace string, rules ...rbacv1.PolicyRule) error {
	r, err := newRoles(c.Config(), namespace)
	if err != nil {
		return err
	}
	if err := r.apply(ctx, name, rules); err != nil {
		return fmt.Errorf("grant %s: %w", name, err)
	}
	return r.settle(ctx)
}

// Revoke takes away what Grant gave in the namespace. It returns when the API
// server acts on it. Watches that are open stay open: a server checks a
// request when it begins.
func (c *Cluster) Revoke(ctx context.Context, name, namespace string) error {
	r, err := newRoles(c.Config(), namespace)
	if err != nil {
		return err
	}
	if err := r.remove(ctx, name); err != nil {
		return fmt.Errorf("revoke %s: %w", name, err)
	}
	return r.settle(ctx)
}

// Settle returns when the API server acts on every role and binding that was
// written before, by whomever.
func (c *Cluster) Settle(ctx context.Context) error {
	for _, namespace := range []string{"", "default"} { // each scope has its own watches
		r, err := newRoles(c.Config(), namespace)
		if err != nil {
			return err
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ExpiredCertKubeconfig returns the path of a kubeconfig of that user whose
// client certificate expired an hour ago: every request is answered with 401.
func (c *Cluster) ExpiredCertKubeconfig(name string) (string, error) {
	k, err := c.ca.client(name, -time.Hour)
	if err != nil {
		return "", err
	}
	path := c.file(name + "-expired.kubeconfig")
	return path, c.writeKubeconfig(path, name, k)
}

func (c *Cluster) writeKubeconfig(path, user string, k keyPair) error {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["dev"] = &clientcmdapi.Cluster{Server: c.Config().Host, CertificateAuthorityData: c.ca.pem}
	cfg.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: k.cert, ClientKeyData: k.key}
	cfg.Contexts["dev"] = &clientcmdapi.Context{Cluster: "dev", AuthInfo: user}
	cfg.CurrentContext = "dev"
	return clientcmd.WriteToFile(*cfg, path)
}
