package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	kubernetesVersion = "v1.37.2"
	etcdVersion       = "v3.7.3"
)

// A server is a program that the cluster runs, built from its Go module.
type server struct {
	name    string
	version string
	module  string // the folder under test/servers whose go.mod and go.sum pin it
	pkg     string // the main package
	ldflags string
	extra   bool // KUBEBUILDER_ASSETS need not hold it
}

func kubeAPIServer() server {
	return server{
		name: "kube-apiserver", version: kubernetesVersion, module: "kube-apiserver",
		pkg:     "k8s.io/kubernetes/cmd/kube-apiserver",
		ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=" + kubernetesVersion,
	}
}

func etcdServer() server {
	return server{name: "etcd", version: etcdVersion, module: "etcd", pkg: "go.etcd.io/etcd/server/v3", ldflags: "-s -w"}
}

func etcdutl() server {
	return server{name: "etcdutl", version: etcdVersion, module: "etcd", pkg: "go.etcd.io/etcd/etcdutl/v3", ldflags: "-s -w", extra: true}
}

// Build makes sure that every server program is on this machine, and builds
// those that are not. That takes minutes on a cold build cache, longer than a
// test may run: call it before the tests. Progress goes to log.
func Build(ctx context.Context, log io.Writer) error {
	for _, s := range []server{etcdServer(), etcdutl(), kubeAPIServer()} {
		if _, err := s.find(ctx, log); err != nil {
			return err
		}
	}
	return nil
}

// find returns the path of the program: in KUBEBUILDER_ASSETS if that is set,
// else in the cache, where it is built first if it is not there.
func (s server) find(ctx context.Context, log io.Writer) (string, error) {
	if dir := os.Getenv("KUBEBUILDER_ASSETS"); dir != "" {
		path, err := asset(dir, s.name)
		if err == nil || !s.extra {
			return path, err
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder to keep %s in: %w", s.name, err)
	}
	path := filepath.Join(cache, "watcher", "servers", s.name+"-"+s.version)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for %s: %w", s.name, err)
	}
	if err := s.install(ctx, path, log); err != nil {
		return "", fmt.Errorf("build %s %s: %w", s.name, s.version, err)
	}
	return path, nil
}

func asset(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	switch st, err := os.Stat(path); {
	case err != nil:
		return "", fmt.Errorf("KUBEBUILDER_ASSETS=%s holds no %s (unset it to use one built from source): %w", dir, name, err)
	case !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0:
		return "", fmt.Errorf("KUBEBUILDER_ASSETS=%s: %s is no executable file (unset it to use one built from source)", dir, name)
	}
	return path, nil
}

// sourceDir is the folder of the nested module that pins the server. It is
// found through the go command, so that it works from any folder of a module
// that knows watcher/test.
func (s server) sourceDir(ctx context.Context) (string, error) {
	out, err := goCommand(ctx, ".", "list", "-m", "-f", "{{.Dir}}", "watcher/test").Output()
	if err != nil {
		return "", fmt.Errorf("find the module watcher/test: %w", withStderr(err))
	}
	return filepath.Join(strings.TrimSpace(string(out)), "servers", s.module), nil
}
