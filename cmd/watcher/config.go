package main

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"watcher/internal/event"
	"watcher/internal/watch"
)

var defaultResources = []string{"pods", "deployments.apps", "services"}

// runFlags are run's flags as given. Other commands take them too, so that one only has to swap the word.
type runFlags struct {
	namespaces              []string
	all, once, managed      bool
	selector, fieldSelector string
	output, payload         string
	initial, clusterName    string
	stateDir                string
	only                    []string
	budget                  int
	buffer, maxEvent        bytesFlag
	progress                time.Duration
	logLevel, logFormat     string
	qps                     float32
	burst                   int
	loading                 *clientcmd.ClientConfigLoadingRules
	overrides               clientcmd.ConfigOverrides
}

func (f *runFlags) bind(c *cobra.Command) {
	own := c.Flags()
	own.SortFlags = false
	own.StringSliceVarP(&f.namespaces, "namespace", "n", nil, "watch these `namespaces` only (repeatable, commas)")
	own.BoolVarP(&f.all, "all-namespaces", "A", false, "watch all namespaces (the default)")
	own.StringVarP(&f.selector, "selector", "l", "", "label `selector`; the API server applies it")
	own.StringVar(&f.fieldSelector, "field-selector", "", "field `selector`, e.g. metadata.namespace!=kube-system")
	own.StringSliceVar(&f.only, "only", nil, "write a modified event only if one of these `parts` changed: spec, metadata, status (default all)")
	own.StringVarP(&f.output, "output", "o", "", "json: a CloudEvent a line; text: a readable line (default text on a terminal, else json)")
	own.StringVar(&f.payload, "payload", "", "full, metadata, or none: identity only (default full; of core secrets metadata)")
	own.BoolVar(&f.managed, "managed-fields", false, "keep metadata.managedFields")
	f.maxEvent, f.buffer = 0, 16<<20
	own.Var(&f.maxEvent, "max-event-bytes", "a larger event is written without its object (default no limit)")
	own.StringVar(&f.initial, "initial", "snapshot", "snapshot: list what exists first; none: start at now")
	own.StringVar(&f.stateDir, "state-dir", "", "keep positions in this `directory`, and go on there after a restart (default a restart begins anew)")
	own.IntVar(&f.budget, "repair-budget", 5000, "reads of single objects that the repair of one gap may cost; the rest comes from lists")
	own.BoolVar(&f.once, "once", false, "list what exists now, and exit")
	own.Var(&f.buffer, "buffer-bytes", "what may wait for the output; then reading stops")
	own.DurationVar(&f.progress, "progress-interval", time.Minute, "how often to say how far each resource is; 0: never (default 1m; with -o text 0)")
	own.StringVar(&f.clusterName, "cluster-name", "", "the cluster's `name` in events (default the kubeconfig context's cluster)")
	own.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	own.StringVar(&f.logFormat, "log-format", "", "text or json (default text on a terminal, else json)")
	own.Lookup("progress-interval").DefValue = "0" // so that the default is not printed twice
	f.bindKube(c)
}

// bindKube adds the flags that lead to the API server, client-go's own.
func (f *runFlags) bindKube(c *cobra.Command) {
	kube := pflag.NewFlagSet("kube", pflag.ContinueOnError)
	f.loading = clientcmd.NewDefaultClientConfigLoadingRules()
	kube.StringVar(&f.loading.ExplicitPath, "kubeconfig", "", "kubeconfig `file` (default KUBECONFIG, ~/.kube/config, else in-cluster)")
	names := clientcmd.RecommendedConfigOverrideFlags("")
	names.ContextOverrideFlags.Namespace.LongName = "" // ours takes several
	names.Timeout.LongName = ""                        // it would cut watches
	names.ClusterOverrideFlags.DisableCompression.LongName = ""
	clientcmd.BindOverrideFlags(&f.overrides, kube, names)
	kube.Float32Var(&f.qps, "kube-api-qps", 100, "LISTs a second, all resources together")
	kube.IntVar(&f.burst, "kube-api-burst", 200, "LISTs at once")
	c.Flags().AddFlagSet(kube)
	c.SetUsageFunc(func(c *cobra.Command) error { return usage(c, kube) })
}

// hide leaves flags out of the help of a command for which they make no difference; it takes them all the same.
func hide(c *cobra.Command, flags ...string) {
	for _, name := range flags {
		c.Flags().Lookup(name).Hidden = true
	}
}

// usage prints our flags first and client-go's behind them.
func usage(c *cobra.Command, kube *pflag.FlagSet) error {
	ours := pflag.NewFlagSet("ours", pflag.ContinueOnError)
	ours.SortFlags = false
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if kube.Lookup(f.Name) == nil {
			ours.AddFlag(f)
		}
	})
	_, err := fmt.Fprintf(c.OutOrStdout(), "Usage:\n  %s\n\nExamples:\n%s\n\nFlags:\n%s\nAPI server:\n%s",
		c.UseLine(), c.Example, ours.FlagUsages(), kube.FlagUsages())
	return err
}

// config is what run needs to know, validated.
type config struct {
	watch    watch.Config
	kube     *rest.Config
	qps      float32
	burst    int
	text     bool
	maxEvent int
	logLevel string
	logForm  string
	stateDir string
}

// parse validates the flags, and refuses early: each error names the flag, the rule and the value.
func (f *runFlags) parse(given *pflag.FlagSet, args []string, stdout *os.File) (*config, error) {
	if err := f.validate(given); err != nil {
		return nil, err
	}
	c := &config{
		watch: watch.Config{
			Resources: split(args), Namespaces: f.namespaces, LabelSelector: f.selector, FieldSelector: f.fieldSelector,
			Payload: watch.Payload(f.payload), ManagedFields: f.managed, Initial: watch.Initial(f.initial), Once: f.once,
			RepairBudget: f.budget, BufferBytes: int(f.buffer), Progress: f.progress, Version: versionName(),
		},
		qps: f.qps, burst: f.burst, maxEvent: int(f.maxEvent), logLevel: f.logLevel, logForm: f.logFormat, stateDir: f.stateDir,
	}
	for _, part := range f.only {
		c.watch.Only |= event.PartNamed(part)
	}
	if len(c.watch.Resources) == 0 {
		c.watch.Resources = defaultResources
	}
	c.text = f.output == "text" || f.output == "" && term.IsTerminal(int(stdout.Fd()))
	if c.text && !given.Changed("progress-interval") {
		c.watch.Progress = 0
	}
	return c, nil
}

var clusterForm = regexp.MustCompile(`^[A-Za-z0-9.:/_-]{1,100}$`)

func (f *runFlags) validate(given *pflag.FlagSet) error {
	refuse := func(flag, value, rule string) error {
		return &usageError{fmt.Sprintf("--%s %q: %s", flag, value, rule)}
	}
	for flag, choice := range map[string]struct {
		value string
		of    []string
	}{
		"output":     {f.output, []string{"", "json", "text"}},
		"payload":    {f.payload, []string{"", "full", "metadata", "none"}},
		"initial":    {f.initial, []string{"snapshot", "none"}},
		"log-format": {f.logFormat, []string{"", "text", "json"}},
		"log-level":  {f.logLevel, []string{"debug", "info", "warn", "error"}},
	} {
		if !slices.Contains(choice.of, choice.value) {
			return refuse(flag, choice.value, "must be one of "+strings.Join(withoutEmpty(choice.of), ", "))
		}
	}
	if f.all && len(f.namespaces) > 0 {
		return &usageError{"--namespace and --all-namespaces exclude each other"}
	}
	if given.Changed("namespace") && len(f.namespaces) == 0 {
		return refuse("namespace", "", "must not be empty; leave it out for all namespaces")
	}
	for _, part := range f.only {
		if event.PartNamed(part) == 0 {
			return refuse("only", part, "must be one of spec, metadata, status")
		}
	}
	for _, ns := range f.namespaces {
		if problems := validation.IsDNS1123Label(ns); len(problems) > 0 {
			return refuse("namespace", ns, problems[0])
		}
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return refuse("selector", f.selector, err.Error())
	}
	if _, err := fields.ParseSelector(f.fieldSelector); err != nil {
		return refuse("field-selector", f.fieldSelector, err.Error())
	}
	switch {
	case f.progress < 0:
		return refuse("progress-interval", f.progress.String(), "must not be negative")
	case f.budget < 0:
		return refuse("repair-budget", fmt.Sprint(f.budget), "must not be negative")
	case f.buffer <= 0:
		return refuse("buffer-bytes", fmt.Sprint(int64(f.buffer)), "must be positive")
	case f.clusterName != "" && !clusterForm.MatchString(f.clusterName):
		return refuse("cluster-name", f.clusterName, "must match "+clusterForm.String())
	}
	slices.Sort(f.namespaces)
	f.namespaces = slices.Compact(f.namespaces)
	return f.limits()
}

// limits validates how much the API server is asked at a time.
func (f *runFlags) limits() error {
	switch {
	case !(f.qps > 0): // NaN neither
		return &usageError{fmt.Sprintf("--kube-api-qps %q: must be positive", fmt.Sprint(f.qps))}
	case f.burst <= 0:
		return &usageError{fmt.Sprintf("--kube-api-burst %q: must be positive", fmt.Sprint(f.burst))}
	}
	return nil
}

// connect finds the API server: a flag first, then the kubeconfig, else the cluster that we run in.
func (f *runFlags) connect(c *config) error {
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(f.loading, &f.overrides)
	var err error
	switch c.kube, err = loader.ClientConfig(); {
	case clientcmd.IsEmptyConfig(err):
		return &usageError{fmt.Sprintf("no API server to talk to: none is named in %s, and this is no pod; give --kubeconfig or --server, or set KUBECONFIG",
			strings.Join(f.loading.GetLoadingPrecedence(), ", "))}
	case err != nil:
		return &usageError{fmt.Sprintf("cannot use the kubeconfig: %v (see --kubeconfig, --context, --cluster, --user)", err)}
	}
	if c.watch.Cluster = f.clusterName; f.clusterName != "" {
		return nil
	}
	c.watch.Cluster = "in-cluster"
	if raw, err := loader.RawConfig(); err == nil {
		name := raw.CurrentContext
		if f.overrides.CurrentContext != "" {
			name = f.overrides.CurrentContext
		}
		if ctx := raw.Contexts[name]; ctx != nil {
			c.watch.Cluster = ctx.Cluster
		}
		if f.overrides.Context.Cluster != "" {
			c.watch.Cluster = f.overrides.Context.Cluster
		}
	}
	if !clusterForm.MatchString(c.watch.Cluster) {
		return &usageError{fmt.Sprintf("the kubeconfig's cluster %q cannot name it in events: give --cluster-name", c.watch.Cluster)}
	}
	return nil
}

// dialTimeout is how long a command that ends by itself waits for a connection: the address may be dead.
const dialTimeout = 5 * time.Second

// reach is connect and open for such a command.
func (f *runFlags) reach(c *config, stderr *os.File) error {
	if err := f.connect(c); err != nil {
		return err
	}
	c.kube.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	return c.open(stderr)
}

func split(args []string) []string { return withoutEmpty(strings.Split(strings.Join(args, ","), ",")) }

func withoutEmpty(list []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" })
}

// bytesFlag is a number of bytes, with or without one of Kubernetes' suffixes: 16Mi.
type bytesFlag int64

// String implements pflag.Value.
func (b *bytesFlag) String() string {
	if *b == 0 {
		return ""
	}
	return resource.NewQuantity(int64(*b), resource.BinarySI).String()
}

// Set implements pflag.Value.
func (b *bytesFlag) Set(s string) error {
	q, err := resource.ParseQuantity(s)
	if err != nil || q.Sign() < 0 {
		return fmt.Errorf("%q is no number of bytes such as 4194304 or 4Mi", s)
	}
	*b = bytesFlag(q.Value())
	return nil
}

// Type implements pflag.Value.
func (b *bytesFlag) Type() string { return "bytes" }
