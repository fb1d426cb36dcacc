package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// What the second act does while nobody looks.
const (
	updates   = 40 // of deployments
	deletions = 5  // of pods
)

// meanwhile gives the deployments new images and deletes pods. It returns how
// many objects that touches: of each the net change will be found out.
func meanwhile(ctx context.Context, cfg *rest.Config) (objects int, err error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return 0, err
	}
	deployments, err := client.AppsV1().Deployments("shop").List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	pods, err := client.CoreV1().Pods("shop").List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	if len(deployments.Items) == 0 || len(pods.Items) < deletions {
		return 0, fmt.Errorf("only %d deployments and %d pods are there: the first act was too short", len(deployments.Items), len(pods.Items))
	}
	for i := range updates {
		d := deployments.Items[i%len(deployments.Items)].Name
		image := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"shop/%s:2.%d"}]}}}}`, d, i/len(deployments.Items))
		if _, err := client.AppsV1().Deployments("shop").Patch(ctx, d, types.StrategicMergePatchType, image, metav1.PatchOptions{FieldManager: "kubectl-set"}); err != nil {
			return 0, err
		}
	}
	for _, pod := range pods.Items[:deletions] {
		if err := client.CoreV1().Pods("shop").Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
			return 0, err
		}
	}
	return len(deployments.Items) + deletions, nil
}

// repaired waits until the audit trail has the net change of that many
// objects, and demands that it has no more.
func (s *show) repaired(ctx context.Context, objects int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		n, done, err := s.count()
		switch {
		case err != nil:
			return err
		case done && n != objects:
			return fmt.Errorf("%d objects changed meanwhile, the log tells of %d", objects, n)
		case done:
			say("   The log says where it could not see, and what became of all %d objects: %d changed, %d are gone.", n, n-deletions, deletions)
			return wait(ctx, time.Second) // the other one has not been asked
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return fmt.Errorf("wait for watcher to find out what happened meanwhile; the log tells of %d of %d objects: %w", n, objects, err)
		}
	}
}

// count returns how many events of repairs the log has, and whether both
// repairs are done.
func (s *show) count() (n int, done bool, err error) {
	log, err := os.ReadFile(s.log)
	if err != nil {
		return 0, false, err
	}
	seen, healed := map[string]bool{}, map[string]bool{}
	for line := range bytes.Lines(log) {
		var ev struct {
			ID, Type string
			Data     struct{ Resource, Origin, Deletions string }
		}
		if err := json.Unmarshal(line, &ev); err != nil {
			continue // torn by the kill, or not written to its end yet
		}
		switch {
		case ev.Data.Origin == "repair" && !seen[ev.ID]: // else it repeats what it did not know to be on the disk
			n++
		case ev.Type == "watcher.stream.synced" && ev.Data.Deletions != "":
			healed[ev.Data.Resource] = true
		}
		seen[ev.ID] = true
	}
	return n, healed["deployments"] && healed["pods"], nil
}

// wait waits, or returns why it did not.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
