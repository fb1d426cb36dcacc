package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestVersionsAreThoseOfTheModules: a version names the cached program, so a
// new one in go.mod must show here, or the old program would be used for ever.
func TestVersionsAreThoseOfTheModules(t *testing.T) {
	for _, s := range []server{kubeAPIServer(), etcdServer(), etcdutl()} {
		data, err := os.ReadFile(filepath.Join("..", "servers", s.module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		module := strings.TrimSuffix(s.pkg, "/cmd/kube-apiserver")
		if want := regexp.MustCompile(regexp.QuoteMeta(module+" "+s.version) + `\b`); !want.Match(data) {
			t.Errorf("servers/%s/go.mod does not require %s %s", s.module, module, s.version)
		}
		if !strings.Contains(string(data), "tool "+s.pkg+"\n") {
			t.Errorf("servers/%s/go.mod does not name the tool %s", s.module, s.pkg)
		}
	}
}

func TestBuildCountsPackages(t *testing.T) {
	dir, s := source(t, "package main\n\nfunc main() { println(\"works\") }\n")
	var log bytes.Buffer
	bin := filepath.Join(t.TempDir(), "tiny")
	if err := s.build(t.Context(), dir, bin, &log); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin).CombinedOutput(); err != nil || string(out) != "works\n" {
		t.Errorf("the program says %q, %v", out, err)
	}
	if !regexp.MustCompile(`(?s)^building tiny .*built tiny in \d+s\n$`).Match(log.Bytes()) {
		t.Errorf("progress:\n%s", log.Bytes())
	}
	total, fresh, err := s.count(t.Context(), dir)
	if err != nil || total < 10 || fresh < total-1 {
		t.Errorf("%d of %d packages are fresh after a build, %v; want all, but perhaps the program", fresh, total, err)
	}
}

func TestBuildShowsWhatTheCompilerSays(t *testing.T) {
	dir, s := source(t, "package main\n\nfunc main() { nonsense }\n")
	err := s.build(t.Context(), dir, filepath.Join(t.TempDir(), "tiny"), &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("build: %v, want the compiler's words", err)
	}
}

func source(t *testing.T, code string) (dir string, s server) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"main.go": code, "go.mod": "module tiny\n\ngo 1.26.0\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, server{name: "tiny", pkg: "tiny"}
}

func TestOneProcessBuildsAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.lock")
	unlock, err := lock(t.Context(), path, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var log bytes.Buffer
	if _, err := lock(ctx, path, &log); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second lock: %v, want it to wait", err)
	}
	if want := "another process is building tiny: waiting\n"; log.String() != want {
		t.Errorf("log %q, want %q", log.String(), want)
	}
	unlock()
	again, err := lock(t.Context(), path, &log)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
