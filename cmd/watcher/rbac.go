package main

import (
	"bytes"
	"context"
	_ "embed" // the manifests
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"unicode"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"watcher/internal/watch"
)

const (
	serviceAccountPrefix = "system:serviceaccount:"
	defaultSubject       = serviceAccountPrefix + "watcher:watcher"
)

func newRBAC(stdout, stderr *os.File) *cobra.Command {
	var f runFlags
	var subject string
	c := &cobra.Command{
		Use:   "rbac [RESOURCE ...]",
		Short: "Print the permissions that run needs, as manifests",
		Long: `Print the least permissions that 'watcher run' with the same arguments needs, as manifests for kubectl apply. No API
server is asked about pods, deployments.apps and services. Applied for other resources, namespaces or flags, they replace the
permissions that the same roles gave before.`,
		Example: `  watcher rbac | kubectl apply -f -                pods, deployments and services of all namespaces
  watcher rbac pods -n shop --subject jane         the pods of one namespace, for a person
  watcher rbac --once --subject system:serviceaccount:ops:audit`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			conf, err := f.parse(c.Flags(), args, stdout)
			if err != nil {
				return err
			}
			m, err := newManifests(conf, subject)
			if err != nil {
				return err
			}
			found, err := f.find(c.Context(), conf, stderr)
			if err != nil {
				return err
			}
			return m.write(stdout, found)
		},
	}
	f.bind(c)
	c.Flags().StringVar(&subject, "subject", defaultSubject, "who is to have them: a `user` as the API server names it")
	hide(c, "selector", "output", "payload", "managed-fields", "max-event-bytes", "initial", "buffer-bytes", "progress-interval", "only", "state-dir", "repair-budget",
		"cluster-name", "log-level", "log-format", "kube-api-qps", "kube-api-burst")
	return c
}

// known are the resources that every cluster serves alike.
var known = map[string]watch.Resource{
	"pods":             {GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "pods"}, Namespaced: true},
	"services":         {GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "services"}, Namespaced: true},
	"deployments.apps": {GroupVersionResource: schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}, Namespaced: true},
}

// offline reports whether no API server has to be asked what the resources are.
func (c *config) offline() bool {
	return !slices.ContainsFunc(c.watch.Resources, func(arg string) bool { _, ok := known[arg]; return !ok })
}

// find resolves the resources. What could not be checked is said.
func (f *runFlags) find(ctx context.Context, c *config, stderr *os.File) ([]watch.Found, error) {
	if c.offline() {
		var found []watch.Found
		for _, arg := range c.watch.Resources {
			found = append(found, watch.Found{Resource: known[arg], Arg: arg})
		}
		return found, nil
	}
	if err := f.reach(c, stderr); err != nil {
		return nil, err
	}
	found, err := c.watch.Client.Find(ctx, c.watch.Resources)
	for _, r := range found {
		if r.Unserved != nil {
			fmt.Fprintf(stderr, "watcher: %s was not checked: %v\n", r.Arg, r.Unserved)
		}
	}
	return found, err
}

// manifests are what the template prints.
type manifests struct {
	*config
	Command string // that prints them
	Default bool   // the subject is the default one, whose namespace is part of the manifests
	Subject subject
	Name    string // of the roles and their bindings
	Found   []watch.Found
	Roles   []role
}

// A subject is a service account, or without a namespace a user.
type subject struct{ Namespace, Name string }

// A role without a namespace is for the whole cluster.
type role struct {
	Namespace string
	Rules     []permission
	Identity  bool // it lets the cluster's identity be read
}

// A permission is for the resources of one API group.
type permission struct {
	Group     string
	Resources []string
	Names     []string // all if there is none
}

func newManifests(c *config, user string) (*manifests, error) {
	m := &manifests{
		config: c, Command: c.rbacCommand(user), Default: user == defaultSubject, Subject: subject{Name: user},
		Name: "watcher:" + strings.NewReplacer("/", "=2F", "%", "=25", "=", "=3D").Replace(user), // a name has no '/' and no '%'
	}
	if m.Default {
		m.Name = "watcher"
	}
	if user == "" {
		return nil, &usageError{`--subject "": must not be empty`}
	}
	if account, ok := strings.CutPrefix(user, serviceAccountPrefix); ok {
		m.Subject.Namespace, m.Subject.Name, _ = strings.Cut(account, ":")
		if problems := slices.Concat(validation.IsDNS1123Label(m.Subject.Namespace), validation.IsDNS1123Subdomain(m.Subject.Name)); len(problems) > 0 {
			return nil, &usageError{fmt.Sprintf("--subject %q: must be %sNAMESPACE:NAME: %s", user, serviceAccountPrefix, problems[0])}
		}
	}
	return m, nil
}

// Verbs are what run does to the resources.
func (m *manifests) Verbs() []string {
	if m.watch.Once {
		return []string{"list"}
	}
	return []string{"list", "watch"}
}

// Everywhere reports whether all namespaces are watched.
func (m *manifests) Everywhere() bool { return len(m.watch.Namespaces) == 0 }

//go:embed rbac.yaml.tmpl
var manifestsText string

var manifestsForm = template.Must(template.New("").Funcs(template.FuncMap{"text": strconv.Quote, "list": quoteAll, "shell": shell}).Parse(manifestsText))

func (m *manifests) write(stdout *os.File, found []watch.Found) error {
	m.Found, m.Roles = found, m.roles(found)
	var b bytes.Buffer
	if err := manifestsForm.Execute(&b, m); err != nil {
		return err
	}
	_, err := stdout.Write(b.Bytes())
	return err
}

// identity is the namespace whose uid names the cluster.
const identity = "kube-system"

func (m *manifests) roles(found []watch.Found) []role {
	var inside, outside []watch.Found
	for _, f := range found {
		if f.Namespaced && !m.Everywhere() {
			inside = append(inside, f)
		} else {
			outside = append(outside, f)
		}
	}
	var roles []role
	if len(outside) > 0 {
		roles = append(roles, role{Rules: m.rules(outside)})
	}
	for _, ns := range m.watch.Namespaces {
		if len(inside) > 0 {
			roles = append(roles, role{Namespace: ns, Rules: m.rules(inside)})
		}
	}
	if m.watch.Once {
		return roles
	}
	// A namespace has one role of the name: kube-system may be watched as well.
	i := slices.IndexFunc(roles, func(r role) bool { return r.Namespace == identity })
	if i < 0 {
		i, roles = len(roles), append(roles, role{Namespace: identity})
	}
	roles[i].Identity = true
	return roles
}

// rules are one rule a group, in order. The API server authorizes by name what is selected by name.
func (m *manifests) rules(found []watch.Found) []permission {
	byGroup := map[string][]string{}
	for _, f := range found {
		byGroup[f.Group] = append(byGroup[f.Group], f.GroupVersionResource.Resource)
	}
	var names []string
	if name := m.watch.SelectedName(); name != "" {
		names = []string{name}
	}
	var rules []permission
	for group, resources := range byGroup {
		slices.Sort(resources)
		rules = append(rules, permission{group, slices.Compact(resources), names})
	}
	slices.SortFunc(rules, func(a, b permission) int { return strings.Compare(a.Group, b.Group) })
	return rules
}

// quoteAll writes a list in YAML, which knows the escapes of Go.
func quoteAll(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// rbacCommand is the command that prints what run with this configuration needs, for a shell.
func (c *config) rbacCommand(user string) string {
	words := []string{"watcher", "rbac"}
	if !slices.Equal(c.watch.Resources, defaultResources) {
		words = append(words, c.watch.Resources...)
	}
	if len(c.watch.Namespaces) > 0 {
		words = append(words, "-n", strings.Join(c.watch.Namespaces, ","))
	}
	if c.watch.FieldSelector != "" {
		words = append(words, "--field-selector", c.watch.FieldSelector)
	}
	if c.watch.Once {
		words = append(words, "--once")
	}
	if user != defaultSubject {
		words = append(words, "--subject", user)
	}
	return shell(words...)
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9@%+=:,./_-]+$`)

// shell writes words so that a shell reads them again as they are, on one line.
func shell(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		switch unprintable := func(r rune) bool { return !unicode.IsPrint(r) }; {
		case plainWord.MatchString(w):
			quoted[i] = w
		case strings.ContainsFunc(w, unprintable):
			q := strconv.QuoteToASCII(w)
			quoted[i] = "$'" + strings.ReplaceAll(q[1:len(q)-1], "'", `\'`) + "'"
		default:
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
