package watch

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
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
	served []served
	down   []string // group versions that could not be discovered
}

// A served resource is one by any of its names, with what can be done with it.
type served struct {
	Resource
	names [3][]string // by rank: the plural, short names, other names
	verbs []string
}

func (c *catalog) add(gv schema.GroupVersion, r metav1.APIResource) {
	names := [3][]string{{r.Name}, r.ShortNames, {r.SingularName, strings.ToLower(r.Kind)}}
	if !strings.Contains(r.Name, "/") { // a subresource
		c.served = append(c.served, served{Resource{gv.WithResource(r.Name), r.Kind, r.Namespaced}, names, r.Verbs})
	}
}

// An index is what /api and /apis answer: everything in one document (KEP-3352), or from old servers the groups alone.
type index struct {
	Items []struct {
		Metadata struct{ Name string }
		Versions []struct {
			Version, Freshness string
			Resources          []struct {
				Resource, Scope, SingularResource string
				ResponseKind                      struct{ Kind string }
				ShortNames, Verbs                 []string
			}
		}
	}
	Versions []string          // of the core group
	Groups   []metav1.APIGroup // of the others
}

const indexTypes = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList," +
	"application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"

// discover asks the API server what it serves. An aggregated API that is down hides only itself. It is client-go's
// discovery without the types of all built-in resources, which that links into the program: 17 MB.
func (c *Client) discover(ctx context.Context) (*catalog, error) {
	var cat catalog
	for _, root := range []string{"/api", "/apis"} {
		var found index
		err := ask(ctx, c.api.Get().AbsPath(root).SetHeader("Accept", indexTypes), &found)
		if root == "/api" && apierrors.IsNotFound(err) {
			continue // an API server need not have the core group
		}
		if err == nil {
			cat.addIndex(found)
			err = cat.addGroups(ctx, c.api, root, found)
		}
		if err != nil {
			return nil, fmt.Errorf("discover resources: %w", err)
		}
	}
	return &cat, nil
}

func (c *catalog) addIndex(found index) {
	for _, group := range found.Items {
		for _, v := range group.Versions {
			gv := schema.GroupVersion{Group: group.Metadata.Name, Version: v.Version}
			if v.Freshness == "Stale" { // the list is an old one: the API is down
				c.down = append(c.down, gv.String())
				continue
			}
			for _, r := range v.Resources {
				c.add(gv, metav1.APIResource{
					Name: r.Resource, SingularName: r.SingularResource, Kind: r.ResponseKind.Kind, Namespaced: r.Scope == "Namespaced",
					ShortNames: r.ShortNames, Verbs: r.Verbs,
				})
			}
		}
	}
}

// addGroups asks an old server for each version of each group.
func (c *catalog) addGroups(ctx context.Context, api rest.Interface, root string, found index) error {
	versions := found.Versions
	for _, g := range found.Groups {
		preferred := g.PreferredVersion.GroupVersion
		versions = append(versions, preferred)
		for _, v := range g.Versions {
			if v.GroupVersion != preferred {
				versions = append(versions, v.GroupVersion)
			}
		}
	}
	lists, errs := make([]metav1.APIResourceList, len(versions)), make([]error, len(versions))
	var asking sync.WaitGroup
	for i, version := range versions { // all at once: one that is down may take its time
		asking.Go(func() { errs[i] = ask(ctx, api.Get().AbsPath(root, version), &lists[i]) })
	}
	asking.Wait()
	for i, version := range versions {
		gv, _ := schema.ParseGroupVersion(version) // one that does not parse serves nothing that has a name
		switch err := errs[i]; {
		case err == nil:
			for _, r := range lists[i].APIResources {
				c.add(gv, r)
			}
		case !strings.Contains(gv.Group, "."), ctx.Err() != nil, apierrors.IsUnauthorized(err), apierrors.IsTooManyRequests(err):
			return err // it is the API server itself that does not answer, or not us: only its own groups have no dot
		default:
			c.down = append(c.down, version)
		}
	}
	return nil
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
	if gr.Resource == "" {
		return Resource{}, c.unknown(arg)
	}
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

func (s served) check(arg string) (Resource, error) {
	for _, verb := range []string{"list", "watch"} {
		if !slices.Contains(s.verbs, verb) {
			return Resource{}, &UsageError{fmt.Sprintf("resource %q cannot be watched: the API server offers no %q for it", arg, verb)}
		}
	}
	return s.Resource, nil
}

// lookup finds a resource as kubectl does: a plural of any group comes before a short name of another, and so on.
func (c *catalog) lookup(name string, in func(schema.GroupVersion) bool) (served, bool) {
	for rank := range len(served{}.names) {
		for _, s := range c.served {
			if in(s.GroupVersion()) && slices.Contains(s.names[rank], name) {
				return s, true
			}
		}
	}
	return served{}, false
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
	for _, s := range c.served {
		for _, n := range slices.Concat(s.names[:]...) {
			if d := edits(name, n); n != "" && d < least {
				best, least = s.Name(), d
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
