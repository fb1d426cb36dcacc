package watchtest

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// aggregated is the content type of discovery in one document.
const aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

type object = map[string]any

// discovery answers what is no resource.
func (c *call) discovery() {
	served, down := c.s.served()
	path := strings.TrimSuffix(c.q.Path, "/")
	root, groupVersion, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case path == "/version":
		c.json("application/json", object{"major": "1", "minor": "37", "gitVersion": "v1.37.2", "platform": "linux/amd64"})
	case path == "/healthz" || path == "/livez" || path == "/readyz":
		c.answer(http.StatusOK, "text/plain; charset=utf-8", []byte("ok"))
	case (path == "/api" || path == "/apis") && c.wantsAggregated():
		c.json(aggregated, aggregatedList(served, down, path == "/api"))
	case path == "/api":
		c.json("application/json", object{"kind": "APIVersions", "versions": []string{"v1"}})
	case path == "/apis":
		c.json("application/json", groupList(served))
	case slices.ContainsFunc(served, func(r Resource) bool {
		return r.APIVersion() == groupVersion && (root == "api") == (r.Group == "")
	}):
		c.json("application/json", resourceList(served, groupVersion))
	default:
		c.answer(http.StatusNotFound, "text/plain; charset=utf-8", []byte("404 page not found\n"))
	}
}

func (c *call) json(contentType string, v any) {
	raw, _ := json.Marshal(v) // maps, slices and strings always marshal
	c.answer(http.StatusOK, contentType, raw)
}

// wantsAggregated tells whether aggregated discovery is what the client likes best.
func (c *call) wantsAggregated() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	first, _, _ := strings.Cut(c.q.Header.Get("Accept"), ",")
	mediaType, params, err := mime.ParseMediaType(first)
	return err == nil && !c.s.old && mediaType == "application/json" &&
		params["as"] == "APIGroupDiscoveryList" && params["g"] == "apidiscovery.k8s.io" && params["v"] == "v2"
}

// served is the resources that are there, by path, and the group versions that are down.
func (s *Server) served() ([]Resource, map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rs []Resource
	for _, t := range s.tables {
		if !t.removed {
			rs = append(rs, t.res)
		}
	}
	slices.SortFunc(rs, func(a, b Resource) int { return strings.Compare(a.Path(""), b.Path("")) })
	down := map[string]bool{}
	for groupVersion, is := range s.down {
		down[groupVersion] = is
	}
	return rs, down
}

// groupVersions is the versions of the groups, each group once, in order. The core group is not among them.
func groupVersions(rs []Resource) (groups []string, versions map[string][]string) {
	versions = map[string][]string{}
	for _, r := range rs {
		if r.Group != "" && !slices.Contains(versions[r.Group], r.Version) {
			versions[r.Group] = append(versions[r.Group], r.Version)
		}
		if r.Group != "" && !slices.Contains(groups, r.Group) {
			groups = append(groups, r.Group)
		}
	}
	return groups, versions
}

func groupList(rs []Resource) object {
	list := []object{}
	groups, versions := groupVersions(rs)
	for _, group := range groups {
		var vs []object
		for _, v := range versions[group] {
			vs = append(vs, object{"groupVersion": group + "/" + v, "version": v})
		}
		list = append(list, object{"name": group, "versions": vs, "preferredVersion": vs[0]})
	}
	return object{"kind": "APIGroupList", "apiVersion": "v1", "groups": list}
}

// resourceList has a status subresource with each resource, as most have, and in the core group something that can
// only be created.
func resourceList(rs []Resource, groupVersion string) object {
	list := []object{}
	if groupVersion == "v1" {
		list = append(list, object{"name": "bindings", "singularName": "binding", "namespaced": true, "kind": "Binding", "verbs": []string{"create"}})
	}
	for _, r := range rs {
		if r.APIVersion() != groupVersion {
			continue
		}
		entry := object{"name": r.Name, "singularName": strings.ToLower(r.Kind), "namespaced": r.Namespaced, "kind": r.Kind, "verbs": r.verbs()}
		if r.ShortNames != nil {
			entry["shortNames"] = r.ShortNames
		}
		list = append(list, entry, object{"name": r.Name + "/status", "singularName": "", "namespaced": r.Namespaced, "kind": r.Kind,
			"verbs": []string{"get", "patch", "update"}})
	}
	return object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": groupVersion, "resources": list}
}

func aggregatedList(rs []Resource, down map[string]bool, core bool) object {
	groups, versions := groupVersions(rs)
	if core {
		groups, versions = []string{""}, map[string][]string{"": {"v1"}}
	}
	items := []object{}
	for _, group := range groups {
		vs := []object{}
		for _, v := range versions[group] {
			version := object{"version": v, "freshness": "Current", "resources": aggregatedResources(rs, group, v)}
			if down[strings.TrimPrefix(group+"/"+v, "/")] {
				version = object{"version": v, "freshness": "Stale"}
			}
			vs = append(vs, version)
		}
		items = append(items, object{"metadata": object{"name": group}, "versions": vs})
	}
	return object{"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": object{}, "items": items}
}

func aggregatedResources(rs []Resource, group, version string) []object {
	list := []object{}
	for _, r := range rs {
		if r.Group != group || r.Version != version {
			continue
		}
		kind := object{"group": r.Group, "version": r.Version, "kind": r.Kind}
		scope := "Cluster"
		if r.Namespaced {
			scope = "Namespaced"
		}
		entry := object{"resource": r.Name, "responseKind": kind, "scope": scope, "singularResource": strings.ToLower(r.Kind), "verbs": r.verbs(),
			"subresources": []object{{"subresource": "status", "responseKind": kind, "verbs": []string{"get", "patch", "update"}}}}
		if r.ShortNames != nil {
			entry["shortNames"] = r.ShortNames
		}
		list = append(list, entry)
	}
	return list
}
