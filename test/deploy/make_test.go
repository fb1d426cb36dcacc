package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// runMake runs make in the repository with a PATH that holds only these programs, each of which writes its arguments, one
// a line. It returns make's output.
func runMake(t *testing.T, programs []string, args ...string) (string, error) {
	t.Helper()
	path := t.TempDir()
	for _, name := range programs {
		script := "#!/bin/sh\nprintf '%s\\n' " + name + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(path, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("make", args...)
	cmd.Dir, cmd.Env = repository, []string{"PATH=" + path}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestMakeImageTakesTheFirstProgramThatBuildsImages(t *testing.T) {
	for _, c := range []struct {
		programs []string
		args     []string
		want     string
	}{
		{[]string{"docker"}, nil, "docker build -t watcher:v1.2.3 --build-arg VERSION=v1.2.3 ."},
		{[]string{"podman"}, nil, "podman build -t watcher:v1.2.3 --build-arg VERSION=v1.2.3 ."},
		{[]string{"buildah"}, nil, "buildah build -t watcher:v1.2.3 --build-arg VERSION=v1.2.3 ."},
		{[]string{"buildah", "docker", "podman"}, nil, "docker build -t watcher:v1.2.3 --build-arg VERSION=v1.2.3 ."},
		{[]string{"buildah", "podman"}, nil, "podman build -t watcher:v1.2.3 --build-arg VERSION=v1.2.3 ."},
		{[]string{"docker", "podman"}, []string{"BUILDER=podman"}, "podman build -t watcher:v1.2.3 --build-arg VERSION=v1.2.3 ."},
		{[]string{"docker"}, []string{"PLATFORM=linux/arm64"}, "docker build -t watcher:v1.2.3 --build-arg VERSION=v1.2.3 --platform=linux/arm64 ."},
		{[]string{"docker"}, []string{"IMAGE=r.example/w:1"}, "docker build -t r.example/w:1 --build-arg VERSION=v1.2.3 ."},
		{[]string{"docker"}, []string{"VERSION=v1.2.3+deb.1"}, "docker build -t watcher:v1.2.3_deb.1 --build-arg VERSION=v1.2.3+deb.1 ."},
	} {
		args := append([]string{"image", "VERSION=v1.2.3"}, c.args...)
		// Without the variable docker may take a builder that does not know BUILDPLATFORM.
		shown := append([]string{"DOCKER_BUILDKIT=1"}, strings.Fields(c.want)...)
		if out, err := runMake(t, c.programs, append(args, "-n")...); err != nil || !slices.Equal(strings.Fields(out), shown) {
			t.Errorf("make -n %q: %q, %v, want %q", args, out, err, shown)
		}
		out, err := runMake(t, c.programs, append(args, "-s")...)
		if want := strings.ReplaceAll(c.want, " ", "\n") + "\n"; err != nil || out != want {
			t.Errorf("make %q runs %q, %v, want %q", args, out, err, want)
		}
	}
}

func TestMakeImageSaysWhatToInstall(t *testing.T) {
	out, err := runMake(t, nil, "image")
	if err == nil || !strings.Contains(out, "install docker (with buildx), podman or buildah") {
		t.Errorf("make image: %v, %q, want it to name the programs", err, out)
	}
}

func TestTheImageIsBuiltAsTheMakefileBuilds(t *testing.T) {
	want, err := runMake(t, nil, "build", "-n", "VERSION="+version)
	if err != nil {
		t.Fatal(err)
	}
	commands := unbuilt(t, nil).stages[0].Commands
	run, is := commands[len(commands)-1].(*instructions.RunCommand)
	if !is {
		t.Fatalf("the last command of the build stage is %v, want RUN", commands[len(commands)-1])
	}
	got := strings.NewReplacer("GOOS=$TARGETOS GOARCH=$TARGETARCH ", "", "$VERSION", version).Replace(run.CmdLine[0])
	if !slices.Equal(strings.Fields(got), strings.Fields(want)) {
		t.Errorf("the Dockerfile runs %q, make build %q", got, want)
	}
}
