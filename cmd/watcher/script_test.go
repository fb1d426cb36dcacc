package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"watcher/internal/watch/watchtest"
)

// TestScripts runs testdata/script/*.txtar, each with an API server of its own, which KUBECONFIG leads to. Beside
// testscript's own commands there are:
//
//	create|update RESOURCE NAMESPACE/NAME [MEMBER=JSON ...]   labels.KEY=TEXT and annotations.KEY=TEXT as well
//	delete RESOURCE NAMESPACE/NAME
//	forbid RESOURCE VERB ...                                  allow takes it back
//	server bookmark|down|up|compact|skew|ignore-exact     skew sets its clock back by two minutes
//	start NAME ARG ...         watcher in the background, stdout appended to NAME.out, stderr to NAME.err
//	await [-N] FILE PATTERN    until N lines match, 1 if not given
//	watching N                 until N watches are open
//	end NAME SIGNAL CODE       a signal, and the exit code it must lead to
//	exits CODE ARG ...         watcher to its end, for stdout and stderr to look at
//	valid FILE                 every line is valid by schema and CloudEvents SDK
//	events [-of RESOURCE] FILE WANT     the lines in short are those of the file WANT
//	diagnostics FILE [-complaints N]    every line is a diagnostic in JSON, N of them warnings or worse
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), RequireUniqueNames: true, RequireExplicitExec: true, UpdateScripts: *update, Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"create": command((*stage).create), "update": command((*stage).update), "delete": command((*stage).delete),
			"forbid": command((*stage).forbid), "allow": command((*stage).allow), "server": command((*stage).server),
			"start": command((*stage).start), "await": command((*stage).await), "watching": command((*stage).watching),
			"end": command((*stage).end), "exits": command((*stage).exits),
			"valid": command((*stage).valid), "events": command((*stage).events), "diagnostics": command((*stage).diagnostics),
		},
	})
}

var resources = []watchtest.Resource{
	watchtest.Pods, watchtest.Services, watchtest.Secrets, watchtest.ConfigMaps, watchtest.Namespaces, watchtest.Deployments,
	watchtest.Widgets, watchtest.Gadgets,
	{Version: "v1", Name: "componentstatuses", Kind: "ComponentStatus", Verbs: []string{"get", "list"}},
}

// A stage is what the commands of one script share.
type stage struct {
	*watchtest.Server
	*testscript.TestScript
	processes map[string]*process
}

type stageKey struct{}

func command(f func(*stage, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("this command cannot be negated")
		}
		s := ts.Value(stageKey{}).(*stage)
		s.TestScript = ts
		f(s, args)
	}
}

// inScript makes a tb of a script.
type inScript struct{ env *testscript.Env }

func (inScript) Helper()                             {}
func (s inScript) Fatalf(format string, args ...any) { s.env.T().Fatal(fmt.Sprintf(format, args...)) }
func (s inScript) Cleanup(f func())                  { s.env.Defer(f) }

func setup(env *testscript.Env) error {
	srv := watchtest.New(inScript{env}, resources...)
	kubeconfig := srv.WriteKubeconfig(env.WorkDir)
	env.Vars = append(environment(env.WorkDir, kubeconfig), "WORK="+env.WorkDir, "SERVER="+srv.TLSConfig().Host)
	env.Values[stageKey{}] = &stage{Server: srv, processes: map[string]*process{}}
	return nil
}

// Helper and Cleanup make a tb of a stage.
func (s *stage) Helper()          {}
func (s *stage) Cleanup(f func()) { s.Defer(f) }

func (s *stage) resource(name string) watchtest.Resource {
	i := slices.IndexFunc(resources, func(r watchtest.Resource) bool { return r.Name == name })
	if i < 0 {
		s.TestScript.Fatalf("no resource %q on this server", name)
	}
	return resources[i]
}

func (s *stage) edits(args []string) []watchtest.Edit {
	var edits []watchtest.Edit
	for _, arg := range args {
		member, value, _ := strings.Cut(arg, "=")
		switch head, key, _ := strings.Cut(member, "."); head {
		case "labels":
			edits = append(edits, watchtest.Labels(key, value))
		case "annotations":
			edits = append(edits, watchtest.Annotations(key, value))
		case "metadata":
			edits = append(edits, watchtest.Meta(key, value))
		default:
			edits = append(edits, watchtest.Raw(member, value))
		}
	}
	return edits
}

func (s *stage) create(args []string) {
	s.Server.Create(s.resource(args[0]), args[1], s.edits(args[2:])...)
}

func (s *stage) update(args []string) {
	s.Server.Update(s.resource(args[0]), args[1], s.edits(args[2:])...)
}

func (s *stage) delete(args []string) { s.Server.Delete(s.resource(args[0]), args[1]) }
func (s *stage) forbid(args []string) { s.Server.Forbid(s.resource(args[0]), args[1:]...) }
func (s *stage) allow(args []string)  { s.Server.Allow(s.resource(args[0]), args[1:]...) }

func (s *stage) server(args []string) {
	switch args[0] {
	case "bookmark":
		s.Advance(10)
		s.Bookmark()
	case "down":
		s.Down()
	case "up":
		s.Up()
	case "skew":
		s.SkewClock(-2 * time.Minute)
	case "ignore-exact":
		s.On(watchtest.Lists().When(func(q *watchtest.Request) bool { return q.Query.Get("resourceVersionMatch") == "Exact" }), watchtest.IgnoreExact())
	case "rewind": // etcd is restored from a backup
		s.Rewind(s.RV() - 1)
	case "compact": // and connections break
		s.Advance(10)
		s.Compact(s.RV())
		s.Restart()
	default:
		s.TestScript.Fatalf("the server cannot %s", args[0])
	}
}

func (s *stage) environment() []string {
	return append(environment(s.Getenv("HOME"), s.Getenv("KUBECONFIG")), "NO_COLOR="+s.Getenv("NO_COLOR"))
}

func (s *stage) start(args []string) {
	s.processes[args[0]] = begin(s, s.MkAbs("."), args[0], s.environment(), nil, args[1:]...)
}

func (s *stage) await(args []string) {
	n := 1
	if count, ok := strings.CutPrefix(args[0], "-"); ok {
		n, _ = strconv.Atoi(count) // 0 would match at once
		args = args[1:]
	}
	pattern := regexp.MustCompile("(?m)" + args[1])
	path := s.MkAbs(args[0])
	if !poll(func() bool { return len(pattern.FindAllString(slurp(path), -1)) >= n }) {
		s.TestScript.Fatalf("waited for %q in vain:\n%.3000s", args[1], slurp(path))
	}
}

func (s *stage) watching(args []string) {
	n, _ := strconv.Atoi(args[0])
	if !poll(func() bool { return s.Watching() == n }) {
		s.TestScript.Fatalf("%d watches are open", s.Watching())
	}
}

var signals = map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL}

func (s *stage) end(args []string) {
	p := s.processes[args[0]]
	if code := p.end(signals[args[1]]); strconv.Itoa(code) != args[2] {
		s.TestScript.Fatalf("exit code %d, want %s\n%s", code, args[2], p.stderr())
	}
}

func (s *stage) exits(args []string) {
	code, stdout, stderr := once(s, s.MkAbs("."), s.environment(), args[1:]...)
	_, out := io.WriteString(s.Stdout(), stdout)
	_, errout := io.WriteString(s.Stderr(), stderr)
	s.Check(errors.Join(out, errout))
	if strconv.Itoa(code) != args[0] {
		s.TestScript.Fatalf("exit code %d, want %s\n%s", code, args[0], stderr)
	}
}

func (s *stage) valid(args []string) {
	text := s.ReadFile(args[0])
	if text == "" {
		s.TestScript.Fatalf("%s is empty", args[0])
	}
	s.Check(valid(text))
}

func (s *stage) events(args []string) {
	of := ""
	if args[0] == "-of" {
		of, args = args[1], args[2:]
	}
	lines, err := read(s.ReadFile(args[0]))
	s.Check(err)
	var got []string
	for _, l := range lines {
		if of == "" || l.Data.Resource == of {
			got = append(got, l.String())
		}
	}
	if want := strings.TrimSpace(s.ReadFile(args[1])); strings.Join(got, "\n") != want {
		s.TestScript.Fatalf("%s is in short\n%s\nwant\n%s", args[0], strings.Join(got, "\n"), want)
	}
}

func (s *stage) diagnostics(args []string) {
	stderr := s.ReadFile(args[0])
	all := diagnostics(s, stderr)
	if len(args) < 3 {
		return
	}
	if n := len(complaints(s, stderr)); strconv.Itoa(n) != args[2] {
		s.TestScript.Fatalf("%d complaints, want %s: %v", n, args[2], all)
	}
}
