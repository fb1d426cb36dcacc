package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"watcher/internal/watch/watchtest"
)

// parsed is what run's flags come to on the kubeconfig of a scripted API server, which is never asked.
func parsed(t *testing.T, args ...string) *config {
	t.Helper()
	args = append(args, "--kubeconfig", watchtest.New(t).WriteKubeconfig(t.TempDir()))
	var f runFlags
	c := &cobra.Command{}
	f.bind(c)
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close() //nolint:errcheck // nothing was written
	conf, err := f.parse(c.Flags(), c.Flags().Args(), null)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.connect(conf); err != nil {
		t.Fatal(err)
	}
	return conf
}

func TestProgressIsSaidOnceAMinuteButNotToPeople(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want time.Duration
	}{
		{nil, time.Minute},
		{[]string{"-o", "json"}, time.Minute},
		{[]string{"-o", "text"}, 0},
		{[]string{"-o", "text", "--progress-interval", "5s"}, 5 * time.Second},
		{[]string{"--progress-interval", "0"}, 0},
	} {
		if got := parsed(t, c.args...).watch.Progress; got != c.want {
			t.Errorf("%q: %v, want %v", c.args, got, c.want)
		}
	}
}

func TestTheClusterIsNamedByFlagElseByKubeconfig(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"watchtest": nil,
		"eu/1":      {"--cluster-name", "eu/1"},
		"in-flags":  {"--cluster-name", "in-flags", "--context", "watchtest"},
	} {
		if got := parsed(t, args...).watch.Cluster; got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
}

func TestResourcesAndNamespacesMayBeListedInAnyWay(t *testing.T) {
	t.Parallel()
	c := parsed(t, "po,svc,", "deployments.apps", ",cm", "-n", "b,a", "--namespace", "c", "-n", "a").watch
	if !slices.Equal(c.Resources, []string{"po", "svc", "deployments.apps", "cm"}) || !slices.Equal(c.Namespaces, []string{"a", "b", "c"}) {
		t.Errorf("%q in %q", c.Resources, c.Namespaces)
	}
	if c := parsed(t).watch; !slices.Equal(c.Resources, []string{"pods", "deployments.apps", "services"}) || len(c.Namespaces) > 0 {
		t.Errorf("%q in %q", c.Resources, c.Namespaces)
	}
}

func TestSizesAreReadAsKubernetesWritesThem(t *testing.T) {
	t.Parallel()
	for size, want := range map[string]int{"1": 1, "4Mi": 4 << 20, "4M": 4_000_000, "1.5Ki": 1536, "0": 0} {
		if got := parsed(t, "--max-event-bytes", size).maxEvent; got != want {
			t.Errorf("%s: %d, want %d", size, got, want)
		}
	}
	if c := parsed(t); c.maxEvent != 0 || c.watch.BufferBytes != 16<<20 {
		t.Errorf("by default: %d, %d", c.maxEvent, c.watch.BufferBytes)
	}
}
