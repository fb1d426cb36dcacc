package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"watcher/test/cluster"
)

// ownerDir is set in a process that TestServersDieWithTheirOwner starts and kills.
const ownerDir = "CLUSTER_TEST_OWNER_DIR"

// The main thread never ends: keep it for the main goroutine, so that start
// gets one that does.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerDir); dir != "" {
		os.Exit(own(dir))
	}
	goleak.VerifyTestMain(m)
}

// own starts a cluster, says so, and waits to be killed.
func own(dir string) int {
	if _, err := cluster.Start(context.Background(), cluster.Options{Dir: dir}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestCluster(t *testing.T) {
	c := start(t, cluster.Options{})
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *cluster.Cluster)
	}{
		{"KubeconfigIsTheAdministrators", kubeconfigIsTheAdministrators},
		{"TokenOfAServiceAccountWorks", tokenOfAServiceAccountWorks},
		{"UserMayDoExactlyWhatTheRulesSay", userMayDoExactlyWhatTheRulesSay},
		{"ClusterWideUserSeesEveryNamespace", clusterWideUserSeesEveryNamespace},
		{"ExpiredCertificateIsRefused", expiredCertificateIsRefused},
		{"RestartedServerHasForgottenWhatWasCompacted", restartedServerHasForgottenWhatWasCompacted},
		{"RestoreGoesBack", restoreGoesBack},
		{"ReplicaSeesWhatTheOtherCannotServe", replicaSeesWhatTheOtherCannotServe},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, c) })
	}
	pids := pids(t, c.Dir(), "etcd", "kube-apiserver", "replica")
	c.Stop()
	c.Stop()
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d outlived Stop", pid)
		}
	}
	if _, err := os.Stat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat of the temporary folder after Stop: %v, want it gone", err)
	}
}

func kubeconfigIsTheAdministrators(t *testing.T, c *cluster.Cluster) {
	raw, err := clientcmd.LoadFromFile(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if raw.CurrentContext != "dev" || raw.Contexts["dev"].Cluster != "dev" {
		t.Errorf("context %q of cluster %q, want dev of dev", raw.CurrentContext, raw.Contexts["dev"].Cluster)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, cfg).CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list secrets: %v", err)
	}
}

func tokenOfAServiceAccountWorks(t *testing.T, c *cluster.Cluster) {
	accounts := client(t, c.Config()).CoreV1().ServiceAccounts("default")
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "robot"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(t.Context(), "robot", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(c.Config())
	cfg.BearerToken = token.Status.Token
	self, err := client(t, cfg).AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := self.Status.UserInfo.Username, "system:serviceaccount:default:robot"; got != want {
		t.Errorf("the token is %q's, want %q", got, want)
	}
}

func userMayDoExactlyWhatTheRulesSay(t *testing.T, c *cluster.Cluster) {
	rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}
	cfg, path, err := c.User(t.Context(), "reader", "default", rule)
	if err != nil {
		t.Fatal(err)
	}
	fromFile, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []*rest.Config{cfg, fromFile} {
		allowed(t, listPods(t, cfg, "default"))
		forbidden(t, listPods(t, cfg, "kube-system"))
		_, err = client(t, cfg).CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
		forbidden(t, err)
	}
	// Each call returns when it holds, so nothing here has to be tried twice.
	pods := client(t, cfg).CoreV1().Pods("default")
	for range 10 {
		if err := c.Revoke(t.Context(), "reader", "default"); err != nil {
			t.Fatal(err)
		}
		_, err := pods.List(t.Context(), metav1.ListOptions{})
		forbidden(t, err)
		if err := c.Grant(t.Context(), "reader", "default", rule); err != nil {
			t.Fatal(err)
		}
		_, err = pods.List(t.Context(), metav1.ListOptions{})
		allowed(t, err)
	}
}

func clusterWideUserSeesEveryNamespace(t *testing.T, c *cluster.Cluster) {
	rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}
	cfg, _, err := c.User(t.Context(), "auditor", "", rule)
	if err != nil {
		t.Fatal(err)
	}
	allowed(t, listPods(t, cfg, ""))
	rule.Resources = []string{"services"}
	if err := c.Grant(t.Context(), "auditor", "", rule); err != nil {
		t.Fatal(err)
	}
	forbidden(t, listPods(t, cfg, ""))
	if err := c.Revoke(t.Context(), "auditor", ""); err != nil {
		t.Fatal(err)
	}
	roles, err := client(t, c.Config()).RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range roles.Items {
		if role.Name == "auditor" || strings.HasPrefix(role.Name, "settle-") {
			t.Errorf("ClusterRole %s was left", role.Name)
		}
	}
}

func expiredCertificateIsRefused(t *testing.T, c *cluster.Cluster) {
	path, err := c.ExpiredCertKubeconfig("late")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := listPods(t, cfg, "default"); !apierrors.IsUnauthorized(err) {
		t.Errorf("list pods: %v, want 401", err)
	}
}

func restartedServerHasForgottenWhatWasCompacted(t *testing.T, c *cluster.Cluster) {
	old := createConfigMap(t, c, "before")
	createConfigMap(t, c, "after")
	allowed(t, watchFrom(t, c, old))
	rev, err := c.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if was, err := strconv.ParseInt(old, 10, 64); err != nil || rev <= was {
		t.Errorf("compacted at %d, want more than %s (%v)", rev, old, err)
	}
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := listPods(t, c.Config(), "default"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("list pods without an API server: %v, want the connection refused", err)
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context()); err == nil {
		t.Error("a second StartAPIServer went well, want a refusal")
	}
	if _, err := configMap(t, c, "before"); err != nil {
		t.Errorf("get an object from before the restart: %v", err)
	}
	if err := watchFrom(t, c, old); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Errorf("watch from %s: %v, want 410", old, err)
	}
}

func restoreGoesBack(t *testing.T, c *cluster.Cluster) {
	host := c.Config().Host
	kept := createConfigMap(t, c, "kept")
	file := filepath.Join(t.TempDir(), "snapshot.db")
	if err := c.Snapshot(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	lost := createConfigMap(t, c, "lost")
	if err := c.Restore(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if got, err := configMap(t, c, "kept"); err != nil || got.ResourceVersion != kept {
		t.Errorf("get what the snapshot holds: resourceVersion %s, %v; want %s", got.ResourceVersion, err, kept)
	}
	if _, err := configMap(t, c, "lost"); !apierrors.IsNotFound(err) {
		t.Errorf("get what came after the snapshot: %v, want 404", err)
	}
	if c.Config().Host != host {
		t.Errorf("the API server moved from %s to %s", host, c.Config().Host)
	}
	t.Logf("created at %s before the restore, at %s after it", lost, createConfigMap(t, c, "later"))
}

func replicaSeesWhatTheOtherCannotServe(t *testing.T, c *cluster.Cluster) {
	cfg, err := c.Replica(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Replica(t.Context()); err == nil {
		t.Error("a second Replica went well, want a refusal")
	}
	if err := c.Restore(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), "replica") {
		t.Errorf("restore beside a replica: %v, want a refusal", err)
	}
	maps := client(t, cfg).CoreV1().ConfigMaps("default")
	before, err := maps.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	createConfigMap(t, c, "by-the-first")
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "by-the-replica"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"by-the-first", "by-the-replica"} {
		select {
		case ev := <-w.ResultChan():
			if cm, is := ev.Object.(*corev1.ConfigMap); !is || cm.Name != want {
				t.Errorf("%s %v, want ADDED %s", ev.Type, ev.Object, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no %s", want)
		}
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := configMap(t, c, "by-the-replica"); err != nil {
		t.Errorf("get what was written through the replica: %v", err)
	}
}

func TestServersDieWithTheirOwner(t *testing.T) {
	dir := t.TempDir()
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerDir+"="+dir)
	owner.Stderr = os.Stderr
	stdin, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready"))); err != nil {
		t.Errorf("the owner says nothing: %v", err)
	}
	pids := pids(t, dir, "etcd", "kube-apiserver")
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("process %d does not run before its owner was killed", pid)
		}
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d ends with its owner", pid), func() bool { return !alive(pid) })
	}
}

func TestStopEndsDetachedServersAndKeepsTheFolder(t *testing.T) {
	c := start(t, cluster.Options{Dir: t.TempDir(), Detach: true, NoWatchCache: true, EventTTL: time.Minute})
	pids := pids(t, c.Dir(), "etcd", "kube-apiserver")
	c.Stop()
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d outlived Stop", pid)
		}
	}
	if _, err := os.Stat(c.Kubeconfig()); err != nil {
		t.Errorf("Stop emptied a folder that it did not make: %v", err)
	}
}

func TestStartRefusesAFolderInUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Start(t.Context(), cluster.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("start: %v, want a refusal", err)
	}
}

func TestStartShowsTheLogOfAServerThatEnds(t *testing.T) {
	_, err := cluster.Start(t.Context(), cluster.Options{APIServerArgs: []string{"--no-such-flag"}})
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("start: %v, want the API server's own words", err)
	}
}

func TestStartNamesTheMissingAsset(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("KUBEBUILDER_ASSETS", dir)
	if err := os.WriteFile(filepath.Join(dir, "etcd"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := cluster.Start(t.Context(), cluster.Options{})
	if want := fmt.Sprintf("KUBEBUILDER_ASSETS=%s holds no kube-apiserver", dir); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("start: %v, want %q", err, want)
	}
}

// start starts a cluster from a thread that ends then: the servers must not.
func start(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	begin := time.Now()
	var c *cluster.Cluster
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		c, err = cluster.Start(t.Context(), o)
	})
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	t.Logf("ready after %s", time.Since(begin).Round(100*time.Millisecond))
	return c
}

// client returns a client whose connections are closed when the test ends.
func client(t *testing.T, cfg *rest.Config) *kubernetes.Clientset {
	t.Helper()
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	cl, err := kubernetes.NewForConfigAndClient(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func listPods(t *testing.T, cfg *rest.Config, namespace string) error {
	t.Helper()
	_, err := client(t, cfg).CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	return err
}

func createConfigMap(t *testing.T, c *cluster.Cluster, name string) (resourceVersion string) {
	t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	cm, err := client(t, c.Config()).CoreV1().ConfigMaps("default").Create(t.Context(), cm, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cm.ResourceVersion
}

func configMap(t *testing.T, c *cluster.Cluster, name string) (*corev1.ConfigMap, error) {
	t.Helper()
	return client(t, c.Config()).CoreV1().ConfigMaps("default").Get(t.Context(), name, metav1.GetOptions{})
}

// watchFrom returns the error that a watch from there meets before its first event.
func watchFrom(t *testing.T, c *cluster.Cluster, resourceVersion string) error {
	t.Helper()
	w, err := client(t, c.Config()).CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: resourceVersion})
	if err != nil {
		return err
	}
	defer w.Stop()
	select {
	case ev := <-w.ResultChan():
		if ev.Type == watch.Error {
			return apierrors.FromObject(ev.Object)
		}
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("the watch is silent")
	}
}

func allowed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%v, want it allowed", err)
	}
}

func forbidden(t *testing.T, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) {
		t.Errorf("%v, want %d", err, http.StatusForbidden)
	}
}

func pids(t *testing.T, dir string, servers ...string) []int {
	t.Helper()
	var pids []int
	for _, name := range servers {
		data, err := os.ReadFile(filepath.Join(dir, name+".pid"))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// alive tells whether the process exists; one that ended but was not waited
// for by whoever inherited it does not count.
func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil {
		return false
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err != nil || len(args) > 0
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Errorf("not in 10 s: %s", what)
			return
		case <-tick.C:
		}
	}
}
