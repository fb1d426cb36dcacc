package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A pkg is what `go list` knows of a package; tests do not count.
type pkg struct {
	ImportPath, Dir string
	Standard        bool
	GoFiles         []string
	Imports, Deps   []string
}

// A rule says of the packages below in what they must not import: directly, or by any way.
type rule struct {
	in, why string
	direct  bool
	// production leaves out the packages of test support, whose names end in test.
	production bool
	forbid     func(path string) bool
}

func under(prefixes ...string) func(string) bool {
	return func(path string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p+"/") })
	}
}

var rules = []rule{
	{in: "watcher/internal/sink", why: "a sink knows events and nothing of Kubernetes", forbid: under("k8s.io", "sigs.k8s.io")},
	{in: "watcher/internal/sink", why: "the consumer declares the interface", forbid: under("watcher/internal/watch")},
	{in: "watcher/internal/watch", why: "reading does not know where events go", forbid: under("watcher/internal/sink", "github.com/nats-io")},
	{in: "watcher/internal/verify", why: "a log is judged without a cluster, a sink or a logger", direct: true, forbid: func(path string) bool {
		third := strings.Contains(strings.SplitN(path, "/", 2)[0], ".") || under("watcher")(path)
		return third && path != "watcher/internal/event" && path != "k8s.io/apimachinery/pkg/util/resourceversion" && !under("github.com/go-json-experiment/json")(path)
	}},
	{in: "watcher", why: "no informer cache", direct: true, forbid: under("k8s.io/client-go/informers", "k8s.io/client-go/tools/cache", "k8s.io/client-go/metadata/metadatainformer")},
	{in: "watcher", why: "raw frames, not typed or unstructured objects", direct: true,
		forbid: under("k8s.io/client-go/kubernetes", "k8s.io/client-go/dynamic", "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured")},
	{in: "watcher", why: "test support stays in tests", direct: true, production: true,
		forbid: under("testing", "watcher/internal/watch/watchtest", "watcher/internal/sink/sinktest", "github.com/rogpeppe/go-internal")},
}

// broken is what breaks the rules.
func broken(packages map[string]pkg) []string {
	var out []string
	for path, p := range packages {
		if p.Standard {
			continue
		}
		for _, r := range rules {
			imports := p.Deps
			if r.direct {
				imports = p.Imports
			}
			if !under(r.in)(path) || r.production && strings.HasSuffix(path, "test") {
				continue
			}
			for _, i := range imports {
				if r.forbid(i) {
					out = append(out, fmt.Sprintf("%s imports %s: %s", path, i, r.why))
				}
			}
		}
		if path == "watcher/internal/event" {
			for _, i := range p.Deps {
				if !packages[i].Standard {
					out = append(out, fmt.Sprintf("%s imports %s: events are the standard library's alone", path, i))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// listed is the main module's packages and all they depend on.
func listed(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,Imports,Deps", "watcher/...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	packages := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	t.Parallel()
	packages := listed(t)
	for _, path := range []string{"watcher/cmd/watcher", "watcher/internal/event", "watcher/internal/sink", "watcher/internal/verify", "watcher/internal/watch", "k8s.io/client-go/rest"} {
		if _, ok := packages[path]; !ok {
			t.Errorf("%s is not there: the rules rest on its name", path)
		}
	}
	for _, b := range broken(packages) {
		t.Error(b)
	}
}

// TestOnlyWireKnowsBothEnds: reading and writing meet in one file.
func TestOnlyWireKnowsBothEnds(t *testing.T) {
	t.Parallel()
	var both []string
	for path, p := range listed(t) {
		if path != "watcher" && !strings.HasPrefix(path, "watcher/") {
			continue
		}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			ends := map[string]bool{}
			for _, i := range f.Imports {
				ends[i.Path.Value] = true
			}
			if ends[`"watcher/internal/sink"`] {
				both = append(both, path+"/"+name)
			}
			if path == "watcher/cmd/watcher" && name == "wire.go" && !ends[`"watcher/internal/watch"`] {
				t.Error("wire.go does not know what it wires")
			}
		}
	}
	if !slices.Equal(both, []string{"watcher/cmd/watcher/wire.go"}) {
		t.Errorf("sinks are known to %v, and should be to cmd/watcher/wire.go alone", both)
	}
}

// TestTheImportRulesBite breaks each rule in a made-up module.
func TestTheImportRulesBite(t *testing.T) {
	t.Parallel()
	for path, imports := range map[string][]string{
		"watcher/internal/event":     {"github.com/google/uuid"},
		"watcher/internal/sink":      {"k8s.io/apimachinery/pkg/types", "sigs.k8s.io/json", "watcher/internal/watch"},
		"watcher/internal/sink/nats": {"k8s.io/klog/v2"},
		"watcher/internal/watch":     {"github.com/nats-io/nats.go", "watcher/internal/sink", "k8s.io/client-go/tools/cache", "k8s.io/client-go/informers"},
		"watcher/internal/verify":    {"watcher/internal/watch", "watcher/internal/sink", "k8s.io/client-go/rest", "go.uber.org/zap", "github.com/nats-io/nats.go"},
		"watcher/cmd/watcher":        {"k8s.io/client-go/kubernetes", "k8s.io/client-go/dynamic", "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured", "testing"},
	} {
		for _, i := range imports {
			fake := map[string]pkg{path: {ImportPath: path, Imports: []string{i, "fmt"}, Deps: []string{i, "fmt"}}, "fmt": {Standard: true}}
			if got := broken(fake); len(got) != 1 {
				t.Errorf("%s imports %s: %v", path, i, got)
			}
		}
	}
	if got := broken(map[string]pkg{"watcher/internal/watch": {Imports: []string{"k8s.io/client-go/rest"}, Deps: []string{"k8s.io/client-go/rest", "k8s.io/client-go/tools/cache"}}}); got != nil {
		t.Errorf("what client-go imports is its own affair: %v", got)
	}
}
