package watch

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// A Resource is a kind of object that an API server serves.
type Resource struct {
	schema.GroupVersionResource
	Kind       string
	Namespaced bool
}

// Name is the resource as a user would type it: pods, deployments.apps.
func (r Resource) Name() string { return r.GroupResource().String() }

// A UsageError is a mistake in what the user asked for; only the user can mend it.
type UsageError struct{ Problem string }

func (e *UsageError) Error() string { return e.Problem }

// A pendingError says that a fully qualified resource is not served yet. It may come: a custom resource's definition is
// often installed later than what watches it.
type pendingError struct{ gvr schema.GroupVersionResource }

func (e *pendingError) Error() string {
	return fmt.Sprintf("the API server does not serve %s.%s.%s yet", e.gvr.Resource, e.gvr.Version, e.gvr.Group)
}

// A catalog is what discovery found, in the API server's order, each group's preferred version first.
type catalog struct {
	lists []*metav1.APIResourceList
	down  []string // group versions that could not be discovered
}

// discover asks the API server what it serves. An aggregated API that is down hides only itself.
func (c *Client) discover(ctx context.Context) (*catalog, error) {
	groups, lists, err := c.discovery.ServerGroupsAndResourcesWithContext(ctx)
	var cat catalog
	var partly *discovery.ErrGroupDiscoveryFailed
	switch {
	case errors.As(err, &partly):
		for gv := range partly.Groups {
			cat.down = append(cat.down, gv.String())
		}
		slices.Sort(cat.down)
	case err != nil:
		return nil, fmt.Errorf("discover resources: %w", err)
	}
	byVersion := map[string]*metav1.APIResourceList{}
	for _, l := range lists {
		byVersion[l.GroupVersion] = l
	}
	for _, g := range groups {
		for _, v := range append([]metav1.GroupVersionForDiscovery{g.PreferredVersion}, g.Versions...) {
			if l := byVersion[v.GroupVersion]; l != nil {
				cat.lists = append(cat.lists, l)
				delete(byVersion, v.GroupVersion)
			}
		}
	}
	return &cat, nil
}

// A Found is what one argument of the user's stands for.
type Found struct {
	Resource
	Arg string
	// Unserved says why the resource is only what Arg says: it is not served yet, or its API is down.
	Unserved error
}

// Find resolves args as Run does, and returns each resource once. The error is a *UsageError for what only the user can
// mend.
func (c *Client) Find(ctx context.Context, args []string) ([]Found, error) {
	cat, err := c.discover(ctx)
	if err != nil {
		what, do := diagnoseNetwork(err)
		return nil, complaint(what, do, err)
	}
	return cat.findAll(args)
}

func (c *catalog) findAll(args []string) ([]Found, error) {
	var all []Found
	for _, arg := range args {
		res, err := c.find(arg)
		f := Found{Resource: res, Arg: arg}
		switch {
		case errors.As(err, new(*pendingError)), errors.As(err, new(*hiddenError)):
			f.Resource, f.Unserved = taken(arg), err
		case err != nil:
			return nil, err
		}
		if !slices.ContainsFunc(all, func(g Found) bool { return g.GroupVersionResource == f.GroupVersionResource }) {
			all = append(all, f)
		}
	}
	return all, nil
}

// taken is arg at its word: a plural with its group, of a resource that lives in namespaces.
func taken(arg string) Resource {
	gvr, gr := schema.ParseResourceArg(strings.ToLower(arg))
	if gvr == nil || !versionForm.MatchString(gvr.Version) {
		return Resource{GroupVersionResource: gr.WithVersion(""), Namespaced: true}
	}
	return Resource{GroupVersionResource: *gvr, Namespaced: true}
}

var versionForm = regexp.MustCompile(`^v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?$`)

// find resolves kubectl's syntax for a resource: a plural, singular or short name, or a kind, alone or followed by
// .group or .version.group. The error is a *UsageError, a *pendingError or a *hiddenError.
func (c *catalog) find(arg string) (Resource, error) {
	gvr, gr := schema.ParseResourceArg(strings.ToLower(arg))
	if gvr != nil && versionForm.MatchString(gvr.Version) {
		r, ok := c.lookup(gvr.Resource, func(gv schema.GroupVersion) bool { return gv == gvr.GroupVersion() })
		if !ok {
			return Resource{}, &pendingError{*gvr}
		}
		return r.check(arg)
	}
	if gr.Group != "" && c.hides(gr) {
		return Resource{}, &hiddenError{arg, c.down} // or another version would be taken for the preferred one
	}
	if gr.Group != "" {
		if r, ok := c.lookup(gr.Resource, func(gv schema.GroupVersion) bool { return gv.Group == gr.Group }); ok {
			return r.check(arg)
		}
		// kubectl reads pods.v1 as version v1 of the core group.
		if r, ok := c.lookup(gr.Resource, func(gv schema.GroupVersion) bool { return gv == schema.GroupVersion{Version: gr.Group} }); ok {
			return r.check(arg)
		}
	} else if r, ok := c.lookup(gr.Resource, func(schema.GroupVersion) bool { return true }); ok {
		return r.check(arg)
	}
	return Resource{}, c.unknown(arg)
}

// A hiddenError says that a resource's group is not wholly known, since one of its versions is down.
type hiddenError struct {
	arg  string
	down []string
}

func (e *hiddenError) Error() string {
	return fmt.Sprintf("look for resource %q: these APIs are down: %s", e.arg, strings.Join(e.down, ", "))
}

// hides reports whether an API of the resource's group is down.
func (c *catalog) hides(gr schema.GroupResource) bool {
	return slices.ContainsFunc(c.down, func(version string) bool {
		gv, err := schema.ParseGroupVersion(version)
		return err == nil && gr.Group == gv.Group
	})
}

// A served resource and what can be done with it.
type served struct {
	Resource
	verbs metav1.Verbs
}

func (s served) check(arg string) (Resource, error) {
	for _, verb := range []string{"list", "watch"} {
		if !slices.Contains(s.verbs, verb) {
			return Resource{}, &UsageError{fmt.Sprintf("resource %q cannot be watched: the API server offers no %q for it", arg, verb)}
		}
	}
	return s.Resource, nil
}

func (c *catalog) lookup(name string, in func(schema.GroupVersion) bool) (served, bool) {
	for _, l := range c.lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil || !in(gv) {
			continue
		}
		for _, r := range l.APIResources {
			if slices.Contains(namesOf(r), name) {
				return served{Resource{gv.WithResource(r.Name), r.Kind, r.Namespaced}, r.Verbs}, true
			}
		}
	}
	return served{}, false
}

// namesOf returns what a resource may be called, the plural first; nothing for a subresource.
func namesOf(r metav1.APIResource) []string {
	if strings.Contains(r.Name, "/") {
		return nil
	}
	return append([]string{r.Name, r.SingularName, strings.ToLower(r.Kind)}, r.ShortNames...)
}

func (c *catalog) unknown(arg string) error {
	problem := fmt.Sprintf("unknown resource %q: the API server serves none of that name", arg)
	if best := c.nearest(arg); best != "" {
		problem += fmt.Sprintf("; did you mean %q?", best)
	} else {
		problem += "; kubectl api-resources lists them"
	}
	if len(c.down) > 0 {
		problem += "; not discovered, since they are down: " + strings.Join(c.down, ", ")
	}
	return &UsageError{problem}
}

// nearest is the resource whose name is the fewest edits away from arg, or "" if none is near.
func (c *catalog) nearest(arg string) string {
	name, _, _ := strings.Cut(strings.ToLower(arg), ".")
	best, least := "", max(1, len(name)/3)+1
	for _, l := range c.lists {
		gv, _ := schema.ParseGroupVersion(l.GroupVersion) // one that does not parse is no worse a suggestion
		for _, r := range l.APIResources {
			for _, n := range namesOf(r) {
				if d := edits(name, n); n != "" && d < least {
					best, least = schema.GroupResource{Group: gv.Group, Resource: r.Name}.String(), d
				}
			}
		}
	}
	return best
}

// edits is the Levenshtein distance of a and b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
