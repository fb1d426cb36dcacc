package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	b := bench{watcher: filepath.Join(dir, "watcher"), rounds: 1, events: 400, pods: 1200, docs: dir, settled: time.Millisecond}
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

// TestPodsCanBeMadeOfOthers: a frame that is written over is that of the other pod.
func TestPodsCanBeMadeOfOthers(t *testing.T) {
	encodings := map[string]func(p *corev1.Pod) []byte{
		"json":     func(p *corev1.Pod) []byte { return newFrame(jsonType, "MODIFIED", p) },
		"protobuf": func(p *corev1.Pod) []byte { return newFrame(protobufType, "MODIFIED", p) },
		"metadata": func(p *corev1.Pod) []byte { return encode(jsonType, partial(p)) },
	}
	for name, encoding := range encodings {
		for i := range ring {
			f := frameOf(encoding(pod(i)), i)
			other := pod(i + 3*ring)
			other.ResourceVersion = "123456789"
			if got, want := f.append(nil, i+3*ring, 123456789), encoding(other); !bytes.Equal(got, want) {
				t.Fatalf("%s of pod %d:\n got %s\nwant %s", name, i, got, want)
			}
		}
	}
}
