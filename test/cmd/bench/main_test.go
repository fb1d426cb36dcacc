package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test's own program be the child that measures one way.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "way" {
		die(child(os.Args[2]))
		return
	}
	os.Exit(m.Run())
}

// TestEveryWayReadsTheChanges measures a little of everything: that a way works, not what it costs.
func TestEveryWayReadsTheChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := bench{watcher: filepath.Join(dir, "watcher"), rounds: 1, events: 400, pods: 1200, docs: dir}
	build := exec.Command("go", "build", "-o", b.watcher, "./cmd/watcher")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build watcher: %v\n%s", err, out)
	}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"costs.md", "costs.svg"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range append(ways, informers...) {
			if !strings.Contains(string(text), w.does) {
				t.Errorf("%s does not tell of %s", name, w.does)
			}
		}
	}
}

// TestFramesCanBeGivenAnotherVersion: it is written over where it is.
func TestFramesCanBeGivenAnotherVersion(t *testing.T) {
	for _, mediaType := range []string{jsonType, protobufType} {
		for i := range ring {
			f := modified(mediaType, i)
			if n := bytes.Count(f.bytes, f.bytes[f.version:f.version+9]); f.version < 0 || n != 1 {
				t.Fatalf("%s of pod %d: its version is there %d times", mediaType, i, n)
			}
		}
	}
}
