package watchtest

import "strings"

// A Resource is one kind of object the server can hold. The zero values of the optional fields are what most
// resources need.
type Resource struct {
	Group, Version string
	Name           string // the plural, as in paths: "pods"
	Kind           string
	Namespaced     bool

	ShortNames []string
	ListKind   string   // default: Kind + "List"
	Verbs      []string // as discovery tells them; default: all
	Fields     []string // field selectors beside metadata.name and metadata.namespace, such as "spec.nodeName"

	// Custom makes it a custom resource: keys of objects in alphabetical order, lists with items before metadata, and
	// kind and apiVersion on every item.
	Custom bool
	// Uncached takes its watch cache away, as Events have none: no bookmarks, watches that expire with etcd's
	// compaction alone, and then close without a word.
	Uncached bool
}

// Resources for tests that need no particular one.
var (
	Pods = Resource{Version: "v1", Name: "pods", Kind: "Pod", Namespaced: true,
		ShortNames: []string{"po"}, Fields: []string{"spec.nodeName", "status.phase"}}
	Services   = Resource{Version: "v1", Name: "services", Kind: "Service", Namespaced: true, ShortNames: []string{"svc"}}
	Secrets    = Resource{Version: "v1", Name: "secrets", Kind: "Secret", Namespaced: true, Fields: []string{"type"}}
	ConfigMaps = Resource{Version: "v1", Name: "configmaps", Kind: "ConfigMap", Namespaced: true, ShortNames: []string{"cm"}}
	Namespaces = Resource{Version: "v1", Name: "namespaces", Kind: "Namespace", ShortNames: []string{"ns"}}
	Nodes      = Resource{Version: "v1", Name: "nodes", Kind: "Node", ShortNames: []string{"no"}}
	Events     = Resource{Version: "v1", Name: "events", Kind: "Event", Namespaced: true, ShortNames: []string{"ev"},
		Fields: []string{"involvedObject.kind", "involvedObject.name", "reason", "type"}, Uncached: true}
	Deployments = Resource{Group: "apps", Version: "v1", Name: "deployments", Kind: "Deployment", Namespaced: true,
		ShortNames: []string{"deploy"}}
	Leases = Resource{Group: "coordination.k8s.io", Version: "v1", Name: "leases", Kind: "Lease", Namespaced: true}
	// Widgets are custom resources.
	Widgets = Resource{Group: "example.com", Version: "v1", Name: "widgets", Kind: "Widget", Namespaced: true,
		ShortNames: []string{"wd"}, Custom: true}
	// Gadgets are custom resources of the whole cluster.
	Gadgets = Resource{Group: "example.com", Version: "v1", Name: "gadgets", Kind: "Gadget", Custom: true}
)

// String is how requests, counters and messages name the resource: "pods.v1", "deployments.v1.apps".
func (r Resource) String() string {
	return strings.TrimSuffix(r.Name+"."+r.Version+"."+r.Group, ".")
}

// APIVersion is the group and version as objects carry them: "v1", "apps/v1".
func (r Resource) APIVersion() string {
	return strings.TrimPrefix(r.Group+"/"+r.Version, "/")
}

// Path is the resource's path, cluster-wide ("") or in one namespace.
func (r Resource) Path(namespace string) string {
	root := "/apis/"
	if r.Group == "" {
		root = "/api/"
	}
	if namespace != "" {
		return root + r.APIVersion() + "/namespaces/" + namespace + "/" + r.Name
	}
	return root + r.APIVersion() + "/" + r.Name
}

func (r Resource) listKind() string {
	if r.ListKind != "" {
		return r.ListKind
	}
	return r.Kind + "List"
}

func (r Resource) verbs() []string {
	if r.Verbs != nil {
		return r.Verbs
	}
	return []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// key is where an object lies: "namespace/name", or "name" when the resource belongs to the whole cluster. A LIST
// is in the order of the bytes of these keys: "a-b/x" comes before "a/x".
func (r Resource) key(namespace, name string) string {
	if r.Namespaced {
		return namespace + "/" + name
	}
	return name
}

func (r Resource) split(key string) (namespace, name string, ok bool) {
	namespace, name, found := strings.Cut(key, "/")
	if !r.Namespaced {
		return "", key, !found && key != ""
	}
	return namespace, name, found && namespace != "" && name != "" && !strings.Contains(name, "/")
}
