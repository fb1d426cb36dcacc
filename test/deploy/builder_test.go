package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// An image is what a Dockerfile makes, on top of a base image.
type image struct {
	base            string
	root            string // a folder with the files that the Dockerfile adds
	user            string
	entrypoint, cmd []string
	labels          map[string]string
}

// A builder does what docker does with a Dockerfile, without docker and without base images: each stage begins as an
// empty folder, and RUN runs on this machine. What it does not know is an error.
type builder struct {
	context fs.FS  // the folder to build from
	dir     string // where stages get their folders
	ignored *patternmatcher.PatternMatcher
	args    map[string]string // what the builder is told
	global  []instructions.ArgCommand
	stages  []instructions.Stage
	built   map[string]*stage // by name
	image   image             // of the last stage
}

// A stage is one that is being built.
type stage struct {
	image
	dir  string            // the WORKDIR
	args map[string]string // the ARGs so far
}

func newBuilder(context, dir string, args map[string]string) (*builder, error) {
	b := &builder{context: os.DirFS(context), dir: dir, args: args, built: map[string]*stage{}}
	dockerfile, err := fs.ReadFile(b.context, "Dockerfile")
	if err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, err
	}
	if b.stages, b.global, err = instructions.Parse(parsed.AST, nil); err != nil {
		return nil, err
	}
	ignore, err := fs.ReadFile(b.context, ".dockerignore")
	if err != nil {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(ignore))
	if err != nil {
		return nil, err
	}
	b.ignored, err = patternmatcher.New(patterns)
	return b, err
}

// build builds all stages.
func (b *builder) build() error {
	for _, from := range b.stages {
		s, err := b.begin(from)
		if err != nil {
			return fmt.Errorf("%s: %w", from.SourceCode, err)
		}
		for _, c := range from.Commands {
			if err := b.apply(s, c); err != nil {
				return fmt.Errorf("%v: %w", c, err)
			}
		}
		b.built[from.Name], b.image = s, s.image
	}
	return nil
}

// begin is FROM.
func (b *builder) begin(from instructions.Stage) (*stage, error) {
	global := &stage{args: map[string]string{}}
	for _, c := range b.global {
		if err := b.apply(global, &c); err != nil {
			return nil, err
		}
	}
	base, err := global.expand(from.BaseName)
	if err != nil {
		return nil, err
	}
	s := &stage{image: image{base: base, labels: map[string]string{}}, dir: "/", args: map[string]string{}}
	s.root, err = os.MkdirTemp(b.dir, "stage-")
	return s, err
}

func (b *builder) apply(s *stage, command instructions.Command) error {
	if c, ok := command.(instructions.SupportsSingleWordExpansion); ok {
		if err := c.Expand(s.expand); err != nil {
			return err
		}
	}
	switch c := command.(type) {
	case *instructions.ArgCommand:
		for _, a := range c.Args {
			if value, given := b.args[a.Key]; given {
				s.args[a.Key] = value
			} else if a.Value != nil {
				s.args[a.Key] = *a.Value
			}
		}
	case *instructions.WorkdirCommand:
		s.dir = s.path(c.Path)
		return os.MkdirAll(filepath.Join(s.root, s.dir), 0o755)
	case *instructions.CopyCommand:
		return b.copy(s, c)
	case *instructions.RunCommand:
		return s.run(c)
	case *instructions.LabelCommand:
		for _, l := range c.Labels {
			s.labels[l.Key] = l.Value
		}
	case *instructions.UserCommand:
		s.user = c.User
	case *instructions.EntrypointCommand:
		s.entrypoint = commandLine(c.ShellDependantCmdLine)
	case *instructions.CmdCommand:
		s.cmd = commandLine(c.ShellDependantCmdLine)
	default:
		return fmt.Errorf("this test does not know %s", c.Name())
	}
	return nil
}

func (s *stage) expand(word string) (string, error) {
	word, unknown, err := shell.NewLex('\\').ProcessWord(word, shell.EnvsFromSlice(s.environment()))
	if err == nil && len(unknown) > 0 {
		err = fmt.Errorf("no ARG declares %v", slices.Collect(maps.Keys(unknown)))
	}
	return word, err
}

func (s *stage) environment() []string {
	var env []string
	for k, v := range s.args {
		env = append(env, k+"="+v)
	}
	return env
}

func (s *stage) path(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(s.dir, name)
}

func commandLine(c instructions.ShellDependantCmdLine) []string {
	if c.PrependShell {
		return append([]string{"/bin/sh", "-c"}, c.CmdLine...)
	}
	return c.CmdLine
}

// copy takes files from the context or an earlier stage: a file gets the name of the destination or, if that ends with a
// slash, goes into it; of a folder it takes what it holds.
func (b *builder) copy(s *stage, c *instructions.CopyCommand) error {
	if c.Chown+c.Chmod != "" || c.Link || c.Parents || len(c.ExcludePatterns)+len(c.SourceContents) > 0 {
		return fmt.Errorf("this test knows no flags of COPY but --from")
	}
	from, ignored := b.context, b.ignored.MatchesOrParentMatches
	if c.From != "" {
		earlier := b.built[c.From]
		if earlier == nil {
			return fmt.Errorf("there is no stage %s", c.From)
		}
		from, ignored = os.DirFS(earlier.root), func(string) (bool, error) { return false, nil }
	}
	for _, source := range c.SourcePaths {
		source, copied := strings.TrimPrefix(path.Clean(source), "/"), 0
		err := fs.WalkDir(from, source, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if skip, err := ignored(name); skip || err != nil {
				return err
			}
			below, err := filepath.Rel(source, name)
			if err != nil {
				return err
			}
			if below == "." && strings.HasSuffix(c.DestPath, "/") {
				below = path.Base(source)
			}
			copied++
			return copyFile(filepath.Join(s.root, s.path(c.DestPath), below), from, name, d)
		})
		if err == nil && copied == 0 {
			err = fmt.Errorf("%s holds no file that .dockerignore lets through", source)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(dst string, from fs.FS, name string, d fs.DirEntry) error {
	st, err := d.Info()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", name)
	}
	data, err := fs.ReadFile(from, name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	return os.WriteFile(dst, data, st.Mode().Perm())
}

// run is RUN.
func (s *stage) run(c *instructions.RunCommand) error {
	if len(c.FlagsUsed) > 0 || len(c.Files) > 0 {
		return fmt.Errorf("this test knows no flags of RUN, and no files")
	}
	env, err := goImage()
	if err != nil {
		return err
	}
	line := commandLine(c.ShellDependantCmdLine)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Dir, cmd.Env = filepath.Join(s.root, s.dir), append(env, s.environment()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// goImage is the environment in an image with Go: nothing that this machine sets for the go command but where it finds
// modules, and its caches in place of empty ones.
func goImage() ([]string, error) {
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOPRIVATE").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	var kept map[string]string
	if err := json.Unmarshal(out, &kept); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GO") || strings.HasPrefix(v, "CGO_") })
	env = append(env, "GOENV=off", "GOTOOLCHAIN=local")
	for k, v := range kept {
		env = append(env, k+"="+v)
	}
	return env, nil
}
