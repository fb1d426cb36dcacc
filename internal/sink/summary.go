package sink

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"watcher/internal/event"
)

// summarize says in a few words how an object is: pods, deployments and services as kubectl would, others not at all.
func summarize(s *event.Stream, body []byte) string {
	switch s.Group + "/" + s.Resource {
	case "/pods":
		return summary[pod](body)
	case "apps/deployments":
		return summary[deployment](body)
	case "/services":
		return summary[service](body)
	default:
		return ""
	}
}

// summary of an object whose fields fit T; "" if they do not, or if there are none.
func summary[T fmt.Stringer](body []byte) string {
	var obj T
	if len(body) == 0 || json.Unmarshal(body, &obj) != nil {
		return ""
	}
	return obj.String()
}

type pod struct {
	Metadata struct {
		DeletionTimestamp string `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		NodeName   string     `json:"nodeName"`
		Containers []struct{} `json:"containers"`
	} `json:"spec"`
	Status struct {
		Phase             string `json:"phase"`
		Reason            string `json:"reason"`
		ContainerStatuses []struct {
			Ready        bool `json:"ready"`
			RestartCount int  `json:"restartCount"`
			State        struct {
				Waiting    struct{ Reason string } `json:"waiting"`
				Terminated struct{ Reason string } `json:"terminated"`
			} `json:"state"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

// String is phase, ready count, restarts, what a container waits for or ended with, and the node.
func (p pod) String() string {
	if p.Status.Phase == "" {
		return ""
	}
	ready, restarts, why := 0, 0, p.Status.Reason
	for _, c := range p.Status.ContainerStatuses {
		if c.Ready {
			ready++
		}
		restarts += c.RestartCount
		for _, reason := range []string{c.State.Waiting.Reason, c.State.Terminated.Reason} {
			if reason != "" {
				why = reason
			}
		}
	}
	words := []string{p.Status.Phase, fmt.Sprintf("%d/%d", ready, len(p.Spec.Containers))}
	if restarts > 0 {
		words = append(words, plural(restarts, "restart"))
	}
	if p.Metadata.DeletionTimestamp != "" {
		words = append(words, "terminating")
	}
	return strings.Join(withoutEmpty(append(words, why, p.Spec.NodeName)), " ")
}

type deployment struct {
	Spec struct {
		Replicas *int `json:"replicas"`
		Template struct {
			Spec struct {
				Containers []struct {
					Image string `json:"image"`
				} `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
	Status struct {
		UpdatedReplicas   int `json:"updatedReplicas"`
		ReadyReplicas     int `json:"readyReplicas"`
		AvailableReplicas int `json:"availableReplicas"`
	} `json:"status"`
}

// String is the replicas, desired to ready, those available where they are not the ready ones, and the images.
func (d deployment) String() string {
	if d.Spec.Replicas == nil {
		return ""
	}
	words := []string{fmt.Sprintf("%d desired %d updated %d ready", *d.Spec.Replicas, d.Status.UpdatedReplicas, d.Status.ReadyReplicas)}
	if d.Status.AvailableReplicas != d.Status.ReadyReplicas {
		words = append(words, fmt.Sprintf("%d available", d.Status.AvailableReplicas))
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		words = append(words, c.Image)
	}
	return strings.Join(withoutEmpty(words), " ")
}

type service struct {
	Spec struct {
		Type         string   `json:"type"`
		ClusterIP    string   `json:"clusterIP"`
		ExternalName string   `json:"externalName"`
		ExternalIPs  []string `json:"externalIPs"`
		Ports        []struct {
			Port     int    `json:"port"`
			Protocol string `json:"protocol"`
		} `json:"ports"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []struct{ IP, Hostname string } `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

// String is type, addresses and ports.
func (s service) String() string {
	words := append([]string{s.Spec.Type, s.Spec.ClusterIP, s.Spec.ExternalName}, s.Spec.ExternalIPs...)
	for _, in := range s.Status.LoadBalancer.Ingress {
		words = append(words, in.IP, in.Hostname)
	}
	var ports []string
	for _, p := range s.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%d/%s", p.Port, cmp.Or(p.Protocol, "TCP")))
	}
	return strings.Join(withoutEmpty(append(words, strings.Join(ports, ","))), " ")
}

func withoutEmpty(words []string) []string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}
