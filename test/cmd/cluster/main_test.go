package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"watcher/test/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestUpTwiceDownTwice(t *testing.T) {
	dir := filepath.Join(t.TempDir(), ".cluster")
	command(t, dir, "down", "No cluster is up")

	out := command(t, dir, "up", "Ready at https://127.0.0.1:")
	if want := "export KUBECONFIG=" + filepath.Join(dir, "kubeconfig"); !strings.Contains(out, want) {
		t.Errorf("up says\n%s\nwant %q in it", out, want)
	}
	first := address(out)
	command(t, dir, "up", "up already")

	// The API server is killed, and its id is now that of a process of somebody else: this one.
	killAPIServer(t, dir)
	out = command(t, dir, "up", "Removing what is left")
	if second := address(out); second == "" || second == first {
		t.Errorf("up after a crash: ready at %q, before at %q, want a new cluster", second, first)
	}

	command(t, dir, "down", "is down")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("stat of the folder after down: %v, want it gone", err)
	}
	command(t, dir, "down", "No cluster is up")
}

func TestDownLeavesAForeignFolderAlone(t *testing.T) {
	dir := t.TempDir()
	thesis := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(thesis, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, dir, "down", "No cluster is up")
	if _, err := os.Stat(thesis); err != nil {
		t.Error(err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"sideways"}, {"up", "-no"}, {"up", "more"}} {
		var out bytes.Buffer
		if code := run(t.Context(), args, &out); code != 2 || !strings.Contains(out.String(), "usage: cluster up|down") {
			t.Errorf("cluster %q: code %d, %q; want 2 and the usage", args, code, out.String())
		}
	}
}

func command(t *testing.T, dir, name, want string) string {
	t.Helper()
	var out bytes.Buffer
	if code := run(t.Context(), []string{name, "-dir", dir}, &out); code != 0 || !strings.Contains(out.String(), want) {
		t.Fatalf("%s: code %d\n%s\nwant 0 and %q", name, code, out.String(), want)
	}
	if name == "up" {
		t.Cleanup(func() { _ = down(dir, &out) })
	}
	return out.String()
}

func address(out string) string { return regexp.MustCompile(`https://[0-9.:]+`).FindString(out) }

func killAPIServer(t *testing.T, dir string) {
	t.Helper()
	file := filepath.Join(dir, "kube-apiserver.pid")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(data), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		d, err := cluster.Find(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !d.Running() {
			break
		}
		if time.Now().After(end) {
			t.Fatal("not in 10 s: the API server ends")
		}
	}
	if err := os.WriteFile(file, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		t.Fatal(err)
	}
}
