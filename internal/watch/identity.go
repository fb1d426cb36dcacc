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
func (r *runner) clusterID(ctx context.Context) (string, error) {
	var retry backoff
	for failing := false; ; failing = true {
		var ns struct {
			Metadata struct {
				UID string `json:"uid"`
			} `json:"metadata"`
		}
		err := ask(ctx, r.Client.api.Get().AbsPath("/api/v1/namespaces/kube-system"), &ns)
		switch {
		case err == nil || ctx.Err() != nil:
			return ns.Metadata.UID, ctx.Err()
		case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
			r.Log.Warn("whether this is the cluster of the saved positions cannot be checked",
				advised("grant get on the namespace kube-system ('watcher rbac' prints how)", zap.Error(err))...)
			return "", nil
		case !failing:
			what, do := diagnoseNetwork(err)
			r.Log.Warn(what, advised(do, zap.Error(err))...)
		}
		sleep(ctx, max(retry.next(), retryAfter(err)))
	}
}
