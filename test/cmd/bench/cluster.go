package main

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"watcher/test/cluster"
)

// cluster measures with a real API server. It has no watch cache, so that each measurement reads the same changes, made
// once before, from etcd.
func (b *bench) cluster(ctx context.Context, r *report) error {
	if b.real == 0 {
		return nil
	}
	c, err := cluster.Start(ctx, cluster.Options{NoWatchCache: true, APIServerArgs: []string{"--etcd-compaction-interval=0"}})
	if err != nil {
		return err
	}
	defer c.Stop()
	position, err := change(ctx, kubernetes.NewForConfigOrDie(c.Config()), b.real/4+b.real)
	if err != nil {
		return fmt.Errorf("change pods: %w", err)
	}
	return b.speed(ctx, r, "A real kube-apiserver", c.Config(), position, b.real)
}

// change makes pods, and then n changes of them. It returns the version before the changes.
func change(ctx context.Context, client kubernetes.Interface, n int) (position string, err error) {
	const many = 200
	namespace := &corev1.Namespace{}
	namespace.Name = "bench"
	if _, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	pods := client.CoreV1().Pods(namespace.Name)
	err = inParallel(many, func(i int) error {
		p := pod(i)
		p.Namespace, p.ResourceVersion, p.UID = namespace.Name, "", ""
		p.Spec.Priority, p.Spec.PreemptionPolicy = nil, nil // an admission plugin's to set
		made, err := pods.Create(ctx, p, metav1.CreateOptions{FieldManager: "kube-controller-manager"})
		if err != nil {
			return err
		}
		made.Status = p.Status
		_, err = pods.UpdateStatus(ctx, made, metav1.UpdateOptions{FieldManager: "kubelet"})
		return err
	})
	if err != nil {
		return "", err
	}
	list, err := pods.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return "", err
	}
	err = inParallel(n, func(i int) error {
		patch := fmt.Appendf(nil, `{"status":{"message":"change %d"}}`, i)
		_, err := pods.Patch(ctx, pod(i%many).Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "kubelet"}, "status")
		return err
	})
	return list.ResourceVersion, err
}

// inParallel calls do with 0 to n-1 from a few goroutines, and returns the first error.
func inParallel(n int, do func(i int) error) error {
	var running errgroup.Group
	running.SetLimit(8)
	for i := range n {
		running.Go(func() error { return do(i) })
	}
	return running.Wait()
}
