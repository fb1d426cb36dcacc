package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// roles writes roles and their bindings: those of a namespace or, if that is
// "", those of the cluster. A user's role and binding have the user's name.
type roles struct {
	client    *kubernetes.Clientset
	namespace string
	scope     string // "" or "Cluster": how the names of the kinds begin
}

func newRoles(cfg *rest.Config, namespace string) (*roles, error) {
	client, err := kubernetes.NewForConfig(cfg)
	r := &roles{client: client, namespace: namespace}
	if namespace == "" {
		r.scope = "Cluster"
	}
	return r, err
}

func (r *roles) apply(ctx context.Context, user string, rules []rbacv1.PolicyRule) error {
	// A Role and a ClusterRole look alike in JSON, and so do their bindings.
	role := rbacv1.ClusterRole{TypeMeta: r.typeMeta("Role"), Rules: rules}
	role.Name = user
	if err := r.patch(ctx, "Role", user, role); err != nil {
		return err
	}
	binding := rbacv1.ClusterRoleBinding{
		TypeMeta: r.typeMeta("RoleBinding"),
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: role.Kind, Name: user},
	}
	binding.Name = user
	return r.patch(ctx, "RoleBinding", user, binding)
}

func (r *roles) typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: r.scope + kind}
}

func (r *roles) patch(ctx context.Context, kind, name string, obj any) error {
	body, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	force := true
	return r.request(r.client.RbacV1().RESTClient().Patch(types.ApplyPatchType), kind, name).
		VersionedParams(&metav1.PatchOptions{FieldManager: "cluster", Force: &force}, scheme.ParameterCodec).
		Body(body).Do(ctx).Error()
}

func (r *roles) remove(ctx context.Context, user string) error {
	for _, kind := range []string{"RoleBinding", "Role"} {
		err := r.request(r.client.RbacV1().RESTClient().Delete(), kind, user).Do(ctx).Error()
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func (r *roles) request(req *rest.Request, kind, name string) *rest.Request {
	return req.NamespaceIfScoped(r.namespace, r.namespace != "").
		Resource(strings.ToLower(r.scope + kind + "s")).Name(name)
}

// settle returns when the API server acts on everything written before. It
// learns of roles and of bindings through one watch each, so it knows the
// earlier ones as soon as it knows those of a user made now. Without this wait
// one list in 600 was still answered by the old roles.
func (r *roles) settle(ctx context.Context) error {
	user := fmt.Sprintf("settle-%d", time.Now().UnixNano())
	attributes := &authorizationv1.ResourceAttributes{Namespace: r.namespace, Verb: "get", Group: "test", Resource: "settled"}
	rule := rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{"test"}, Resources: []string{"settled"}}
	if err := r.apply(ctx, user, []rbacv1.PolicyRule{rule}); err != nil {
		return err
	}
	for {
		review, err := r.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: attributes},
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("ask whether roles have settled: %w", err)
		}
		if review.Status.Allowed {
			return r.remove(ctx, user)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
