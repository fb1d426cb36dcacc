package actor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Who writes, by the names that real clusters show in managedFields.
const (
	controllers = "kube-controller-manager"
	scheduler   = "kube-scheduler"
	kubelet     = "kubelet"
	kubectl     = "kubectl"
	kubectlSet  = "kubectl-set"
)

type object map[string]any

// write sends one request on something in the namespace.
func (s *stage) write(ctx context.Context, manager, verb, path string, body object) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	contentType := "application/json"
	if verb == "PATCH" {
		contentType = "application/strategic-merge-patch+json"
	}
	err = s.client.Verb(verb).AbsPath(path).Param("fieldManager", manager).SetHeader("Content-Type", contentType).Body(data).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("%s %s as %s: %w", verb, path, manager, err)
	}
	return nil
}

func (s *stage) core(path string) string { return "/api/v1/namespaces/" + s.namespace + path }
func (s *stage) deployments(path string) string {
	return "/apis/apps/v1/namespaces/" + s.namespace + "/deployments" + path
}

func (s *stage) createNamespace(ctx context.Context) error {
	return s.write(ctx, kubectl, "POST", "/api/v1/namespaces", named(s.namespace, nil))
}

func named(name string, labels object) object {
	return object{"metadata": object{"name": name, "labels": labels}}
}

func (s *stage) createDeployment(a *app, replicas int) step {
	return func(ctx context.Context) error {
		a.generation++
		labels := object{"app": a.name}
		d := named(a.name, labels)
		d["spec"] = object{"replicas": replicas, "selector": object{"matchLabels": labels},
			"template": object{"metadata": object{"labels": labels}, "spec": containers(a)}}
		return s.write(ctx, kubectl, "POST", s.deployments(""), d)
	}
}

func containers(a *app) object {
	image := "shop/report:1.0"
	if a != nil {
		image = fmt.Sprintf("shop/%s:1.%d", a.name, a.version)
	}
	return object{"containers": []object{{"name": "main", "image": image}}}
}

func (s *stage) setImage(a *app) step {
	return s.setSpec(a, kubectlSet, object{"template": object{"spec": containers(a)}})
}

func (s *stage) setReplicas(a *app, n int) step { return s.setSpec(a, kubectl, object{"replicas": n}) }

func (s *stage) setSpec(a *app, manager string, spec object) step {
	return func(ctx context.Context) error {
		a.generation++
		return s.write(ctx, manager, "PATCH", s.deployments("/"+a.name), object{"spec": spec})
	}
}

// report writes what there is of the app's pods into its deployment's status.
func (s *stage) report(ctx context.Context, a *app) error {
	if a == nil {
		return nil
	}
	updated, ready := 0, 0
	for _, p := range a.pods {
		if p.hash == a.hash {
			updated++
		}
		if p.ready {
			ready++
		}
	}
	return s.write(ctx, controllers, "PATCH", s.deployments("/"+a.name+"/status"), object{"status": object{
		"observedGeneration": a.generation, "replicas": len(a.pods), "updatedReplicas": updated,
		"readyReplicas": ready, "availableReplicas": ready, "unavailableReplicas": len(a.pods) - ready,
	}})
}

func (s *stage) create(p *pod) step {
	return func(ctx context.Context) error {
		labels := object{"job": "report"}
		if p.app != nil {
			labels = object{"app": p.app.name, "pod-template-hash": p.hash}
			p.app.pods = append(p.app.pods, p)
		}
		obj := named(p.name, labels)
		obj["spec"] = containers(p.app)
		if err := s.write(ctx, controllers, "POST", s.core("/pods"), obj); err != nil {
			return err
		}
		return s.report(ctx, p.app)
	}
}

func (s *stage) bind(p *pod) step {
	binding := named(p.name, nil)
	binding["target"] = object{"kind": "Node", "name": fmt.Sprintf("node-%d", 1+s.rand.IntN(3))}
	return func(ctx context.Context) error {
		return s.write(ctx, scheduler, "POST", s.core("/pods/"+p.name+"/binding"), binding)
	}
}

func (s *stage) run(p *pod) step {
	return func(ctx context.Context) error {
		return s.setStatus(ctx, p, "Running", object{"running": object{"startedAt": now()}})
	}
}

func (s *stage) fail(p *pod) step {
	return func(ctx context.Context) error {
		p.restarts++
		return s.setStatus(ctx, p, "Running", object{"waiting": object{"reason": "CrashLoopBackOff"}})
	}
}

func (s *stage) succeed(p *pod) step {
	return func(ctx context.Context) error {
		return s.setStatus(ctx, p, "Succeeded", object{"terminated": object{"reason": "Completed", "exitCode": 0, "finishedAt": now()}})
	}
}

// setStatus writes what a kubelet writes, and then what the deployment makes of it.
func (s *stage) setStatus(ctx context.Context, p *pod, phase string, state object) error {
	p.ready = state["running"] != nil
	ready := map[bool]string{true: "True", false: "False"}[p.ready]
	container := containers(p.app)["containers"].([]object)[0]
	err := s.write(ctx, kubelet, "PATCH", s.core("/pods/"+p.name+"/status"), object{"status": object{
		"phase":      phase,
		"conditions": []object{{"type": "Ready", "status": ready, "lastTransitionTime": now()}},
		"containerStatuses": []object{{"name": "main", "image": container["image"], "imageID": "", "ready": p.ready,
			"restartCount": p.restarts, "state": state}},
	}})
	if err != nil {
		return err
	}
	return s.report(ctx, p.app)
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

// terminate asks for the end of a pod: its deletionTimestamp is set.
func (s *stage) terminate(p *pod) step {
	return func(ctx context.Context) error {
		return s.write(ctx, controllers, "DELETE", s.core("/pods/"+p.name), nil)
	}
}

// remove confirms the end of a pod, as the kubelet does when its containers are gone.
func (s *stage) remove(p *pod) step {
	return func(ctx context.Context) error {
		if err := s.write(ctx, kubelet, "DELETE", s.core("/pods/"+p.name), object{"gracePeriodSeconds": 0}); err != nil {
			return err
		}
		if p.app != nil {
			p.app.pods = slices.DeleteFunc(p.app.pods, func(other *pod) bool { return other == p })
		}
		return s.report(ctx, p.app)
	}
}

func (s *stage) createCanary(ctx context.Context) error {
	svc := named("canary", nil)
	svc["spec"] = object{"selector": object{"app": "web"}, "ports": []object{{"port": 80}}}
	return s.write(ctx, kubectl, "POST", s.core("/services"), svc)
}

// shiftCanary sends the service's traffic to one version.
func (s *stage) shiftCanary(ctx context.Context) error {
	return s.write(ctx, kubectl, "PATCH", s.core("/services/canary"),
		object{"spec": object{"selector": object{"pod-template-hash": s.apps[0].hash}}})
}

func (s *stage) deleteCanary(ctx context.Context) error {
	return s.write(ctx, kubectl, "DELETE", s.core("/services/canary"), nil)
}
