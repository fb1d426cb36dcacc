package deploy

import (
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

func TestTheImageHoldsTheProgramAlone(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			b := built(t, arch)
			if want := []string{strings.TrimPrefix(b.image.entrypoint[0], "/")}; !slices.Equal(files(t, b.image.root), want) {
				t.Fatalf("it holds %q, want its entry point and nothing else: %q", files(t, b.image.root), want)
			}
			path := filepath.Join(b.image.root, b.image.entrypoint[0])
			if st, err := os.Stat(path); err != nil || st.Mode().Perm()&0o001 == 0 {
				t.Errorf("not everybody may run the program: %v, %v", st.Mode(), err)
			}
			program, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = program.Close() }()
			if program.Machine != machine {
				t.Errorf("the program is for %v, want %v", program.Machine, machine)
			}
			if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
				t.Error("the program wants a dynamic linker")
			}
			if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
				t.Errorf("the program wants the libraries %q, %v", libraries, err)
			}
		})
	}
}

// built returns a builder that has built the image for an architecture.
func built(t *testing.T, arch string) *builder {
	t.Helper()
	if arch == runtime.GOARCH {
		b, err := native()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := unbuilt(t, buildArgs(arch))
	if err := b.build(); err != nil {
		t.Fatal(err)
	}
	return b
}

func unbuilt(t *testing.T, args map[string]string) *builder {
	t.Helper()
	b, err := newBuilder(repository, t.TempDir(), args)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files are the paths of all files below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestTheImageRunsWithoutAnEnvironment(t *testing.T) {
	if out, want := start(t, nil, "version"), "watcher "+version+"\n"; out != want {
		t.Errorf("version says %q, want %q", out, want)
	}
	if out := start(t, nil); !strings.Contains(out, "no API server to talk to") {
		t.Errorf("without arguments it says %q, want it to look for an API server", out)
	}
}

func TestTheImageIsNotRoot(t *testing.T) {
	user, group, _ := strings.Cut(built(t, runtime.GOARCH).image.user, ":")
	for _, id := range []string{user, group} {
		if n, err := strconv.Atoi(id); err != nil || n <= 0 {
			t.Errorf("user %q, group %q: want both as numbers, for runAsNonRoot to trust, and not 0", user, group)
		}
	}
}

func TestTheImageSaysWhatItIs(t *testing.T) {
	want := map[string]string{
		"org.opencontainers.image.title":       "watcher",
		"org.opencontainers.image.description": "Change data capture for Kubernetes",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     version,
	}
	if got := built(t, runtime.GOARCH).image.labels; !reflect.DeepEqual(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
}

func TestBaseImagesAreTheOnesThatWereMeant(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(repository, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	golang := "docker.io/library/golang:" + regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))[1]
	for _, c := range []struct {
		args map[string]string
		want []string
	}{
		{nil, []string{golang, "gcr.io/distroless/static-debian12:nonroot"}},
		{map[string]string{"GO_VERSION": "1.99", "BASE": "mirror/static"}, []string{"docker.io/library/golang:1.99", "mirror/static"}},
	} {
		b := unbuilt(t, c.args)
		var got []string
		for _, from := range b.stages {
			s, err := b.begin(from)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, s.base)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("with %v the stages begin from %q, want %q", c.args, got, c.want)
		}
		if b.stages[0].Platform != "$BUILDPLATFORM" {
			t.Errorf("the compiler runs on %q, want the builder's own platform: another one is emulated", b.stages[0].Platform)
		}
	}
}

func TestTheImageNeedsNoShell(t *testing.T) {
	b := unbuilt(t, nil)
	for _, c := range b.stages[len(b.stages)-1].Commands {
		if _, is := c.(*instructions.RunCommand); is {
			t.Errorf("the last stage, which has no shell, has %q", c)
		}
	}
}

func TestANewVersionOrSourceDownloadsNoModules(t *testing.T) {
	var copied []string
	for _, c := range unbuilt(t, nil).stages[0].Commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			copied = append(copied, c.SourcePaths...)
		case *instructions.ArgCommand:
			t.Errorf("%v is before the download, which a change of it repeats", c)
		case *instructions.RunCommand:
			if want := []string{"go.mod", "go.sum"}; !slices.Equal(copied, want) || c.CmdLine[0] != "go mod download" {
				t.Errorf("%q is the first command, when %q are copied, want go mod download with %q", c.CmdLine, copied, want)
			}
			return
		}
	}
}

func TestOnlyWhatIsCompiledReachesTheBuild(t *testing.T) {
	b := built(t, runtime.GOARCH)
	for _, name := range files(t, b.built["build"].root) {
		if !regexp.MustCompile(`^src/(go\.mod|go\.sum|bin/watcher|(cmd|internal)/.*)$`).MatchString(name) ||
			regexp.MustCompile(`_test\.go$|test/|/testdata/`).MatchString(name) {
			t.Errorf("%s is in the build", name)
		}
	}
	// What lies about where somebody works need not be there now.
	for _, name := range []string{
		".cluster/kubeconfig", ".env", ".git/config", "bin/watcher", "cmd/watcher/main_test.go", "deploy/rbac.yaml", "Dockerfile",
		"internal/event/testdata/lines.jsonl", "internal/sink/sinktest/sink.go", "kubeconfig", "test/go.mod",
	} {
		if ignored, err := b.ignored.MatchesOrParentMatches(name); err != nil || !ignored {
			t.Errorf("%s: ignored %t, %v, want it to stay out of the build", name, ignored, err)
		}
	}
}
