package watch

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"go.uber.org/zap"

	"watcher/internal/event"
)

// identify makes sure that what the sink holds is about this cluster. A cluster has no name of its own; the uid of its
// namespace kube-system is what everybody takes for one.
func (r *runner) identify(ctx context.Context, held event.State) error {
	if held.Ledger == nil { // nothing is kept
		return nil
	}
	uid, err := r.clusterID(ctx)
	switch {
	case err != nil:
		return err
	case uid != "" && held.ClusterUID != "" && uid != held.ClusterUID:
		return &UsageError{fmt.Sprintf("the saved positions are of another cluster (%s) than the API server's (%s): name a directory of its own with --state-dir, or check --context and --server",
			held.ClusterUID, uid)}
	case uid == "":
		uid = held.ClusterUID
	}
	r.clusterUID = uid
	return nil
}

// clusterID asks until it is told, or told that it will not be.
func (r *runner) clusterID(ctx context.Context) (uid string, err error) {
	err = r.insist(ctx, func() (err error) {
		uid, err = r.Client.clusterUID(ctx)
		if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
			r.Log.Warn("whether this is the cluster of the saved positions cannot be checked",
				advised("grant get on the namespace kube-system ('watcher rbac' prints how)", zap.Error(err))...)
			return nil
		}
		return err
	})
	return uid, err
}

// clusterUID is the uid of the namespace kube-system.
func (c *Client) clusterUID(ctx context.Context) (string, error) {
	var ns struct{ Metadata struct{ UID string } }
	q := c.api.Get().AbsPath("/api/v1/namespaces/kube-system").SetHeader("Accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
	err := ask(ctx, q, &ns)
	return ns.Metadata.UID, err
}
