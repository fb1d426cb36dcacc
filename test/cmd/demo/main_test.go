package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestDemo runs the whole of it, shorter. That it ends well says that the log was complete.
func TestDemo(t *testing.T) {
	watcher := os.Getenv("WATCHER")
	if watcher == "" {
		watcher = build(t, "../../..", "./cmd/watcher")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, build(t, ".", "."), "-watcher", watcher, "-seconds", "12").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	gap := strings.Index(string(out), "GAP ")
	if gap < 0 {
		t.Fatal("it shows no gap")
	}
	if n := strings.Count(string(out[gap:]), " repaired"); n <= deletions {
		t.Errorf("it shows %d repaired changes, want those of deployments and %d deletions", n, deletions)
	}
}

// build returns the path of the program.
func build(t *testing.T, dir, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}
