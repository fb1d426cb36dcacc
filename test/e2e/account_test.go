package e2e

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// An account is the service account watcher of a namespace of the common cluster.
type account struct {
	admin, own *api // own: with its first token
	namespace  string
	file       string // has the token
	token      token  // the last one
}

// A token is accepted as long as its Secret exists.
type token struct{ value, secret string }

// newAccount makes one that may do what "watcher rbac" with these arguments gives it.
func newAccount(t *testing.T, admin *api, namespace string, args ...string) *account {
	t.Helper()
	w := &account{admin: admin, namespace: namespace}
	admin.install(t, w.rbac(t, args...))
	w.logIn(t)
	return w
}

// logIn gives it its first token.
func (w *account) logIn(t *testing.T) {
	t.Helper()
	w.file = filepath.Join(t.TempDir(), "token")
	w.renew(t)
	w.own = connect(t, w.as(w.token))
}

// rbac is what "watcher rbac" prints for it.
func (w *account) rbac(t *testing.T, args ...string) string {
	t.Helper()
	return rbac(t, append(slices.Clone(args), "--subject", w.user(), "--kubeconfig", common.start(t).Kubeconfig())...)
}

func (w *account) user() string { return "system:serviceaccount:" + w.namespace + ":watcher" }

// as is how to reach the API server with nothing but the token.
func (w *account) as(tok token) *rest.Config {
	config := rest.AnonymousClientConfig(w.admin.config)
	config.BearerToken = tok.value
	return config
}

// renew puts another token into the file, at once and whole, and returns the one before, which is still accepted.
func (w *account) renew(t *testing.T) (old token) {
	t.Helper()
	core := w.admin.CoreV1()
	secret, err := core.Secrets(w.namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "token-"}}, metav1.CreateOptions{})
	must(t, secret, err)
	bound := &authenticationv1.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: secret.Name, UID: secret.UID}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound}}
	request, err = core.ServiceAccounts(w.namespace).CreateToken(t.Context(), "watcher", request, metav1.CreateOptions{})
	must(t, request, err)
	old, w.token = w.token, token{request.Status.Token, secret.Name}
	if err := os.WriteFile(w.file+".new", []byte(w.token.value), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.file+".new", w.file); err != nil {
		t.Fatal(err)
	}
	return old
}

// revoke returns when the API server, which remembers for 10 s whom it knows, accepts the token no more.
func (w *account) revoke(t *testing.T, tok token) {
	t.Helper()
	if err := w.admin.CoreV1().Secrets(w.namespace).Delete(t.Context(), tok.secret, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	holder := connect(t, w.as(tok))
	eventually(t, patience, "the token is refused", func() bool {
		_, err := holder.Discovery().ServerVersion()
		return apierrors.IsUnauthorized(err)
	})
}

// may asks the API server. An empty namespace means all of them; a namespace itself is named by it.
func (w *account) may(t *testing.T, verb, resource, namespace string) bool {
	t.Helper()
	gr := schema.ParseGroupResource(resource)
	asked := &authorizationv1.ResourceAttributes{Verb: verb, Group: gr.Group, Resource: gr.Resource, Namespace: namespace}
	if resource == "namespaces" {
		asked.Name = namespace
	}
	review, err := w.own.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: asked},
	}, metav1.CreateOptions{})
	return must(t, review, err).Status.Allowed
}

func (w *account) mayNot(t *testing.T, verb, resource, namespace string) {
	t.Helper()
	if w.may(t, verb, resource, namespace) {
		t.Errorf("it may %s %s in namespace %q", verb, resource, namespace)
	}
}

// direct returns the path of a kubeconfig with its token file and nothing else.
func (w *account) direct(t *testing.T) string {
	t.Helper()
	return tlsKubeconfig(t, w.admin.config.Host, w.admin.config.CAData, w.file)
}

// proxied starts a proxy that passes the token on, and returns it with the path of a kubeconfig that leads there.
func (w *account) proxied(t *testing.T) (*proxy, string) {
	t.Helper()
	p := newProxy(t, "", rest.AnonymousClientConfig(w.admin.config), nil)
	front := httptest.NewUnstartedServer(p)
	front.Config.ConnState = p.note // so that it hangs up here, too
	front.StartTLS()                // without it client-go sends no token
	t.Cleanup(front.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	return p, tlsKubeconfig(t, front.URL, ca, w.file)
}

// tlsKubeconfig returns the path of one that trusts this authority, with a token file or, if that is "", nothing else.
func tlsKubeconfig(t *testing.T, server string, ca []byte, tokenFile string) string {
	t.Helper()
	path := kubeconfig(t, server)
	c, err := clientcmd.LoadFromFile(path)
	must(t, c, err)
	c.Clusters["dev"].CertificateAuthorityData = ca
	c.AuthInfos["user"] = &clientcmdapi.AuthInfo{TokenFile: tokenFile}
	c.Contexts["dev"].AuthInfo = "user"
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// streams demands that watcher, run by the account, writes what exists in the namespace and what becomes of it.
func (w *account) streams(t *testing.T, namespace string, args []string, resources ...string) *process {
	t.Helper()
	w.admin.play(t, namespace, "before")
	run := watch(t, w.direct(t), args...)
	run.synced(t, len(resources))
	w.admin.play(t, namespace, "during")
	evs := run.wait(t, patience, "what changes", lived(namespace, "during", resources...))
	for _, resource := range resources {
		if !wrote(evs, "present", resource, namespace, "before") {
			t.Errorf("nothing that existed is present among %s", resource)
		}
	}
	if said := run.said(); len(said) > 0 || count(evs, only("gap")) > 0 {
		t.Errorf("complains: %q; %d gaps", said, count(evs, only("gap")))
	}
	return run
}

var played = []string{"pods", "deployments", "services"}

// play gives each of these resources an object of that name, changes it, and deletes it unless it is named before.
func (a *api) play(t *testing.T, namespace, name string) {
	t.Helper()
	s := &scene{api: a, t: t, ns: namespace, read: map[string][]byte{}}
	s.playPod(name)
	s.playDeployment(name)
	s.playService(name)
}

// lived returns the condition that a whole life that was played is written, of each of the resources.
func lived(namespace, name string, resources ...string) func([]event) bool {
	return func(evs []event) bool {
		return !slices.ContainsFunc(resources, func(resource string) bool {
			return !wrote(evs, "added", resource, namespace, name) || !wrote(evs, "modified", resource, namespace, name) || !wrote(evs, "deleted", resource, namespace, name)
		})
	}
}

func wrote(evs []event, op, resource, namespace, name string) bool {
	return count(evs, func(ev *event) bool { return ev.of(op, namespace, name) && ev.Data.Resource == resource }) > 0
}
