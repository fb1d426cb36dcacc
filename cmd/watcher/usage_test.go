package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"watcher/internal/watch/watchtest"
)

// TestAWrongCommandLineIsRefusedByNameAndRule: exit code 2, nothing on stdout, and a message that names the flag, the
// value given and the rule.
func TestAWrongCommandLineIsRefusedByNameAndRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, resources...)
	write := func(name, text string) string {
		path := filepath.Join(w.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	broken := write("broken", "apiVersion: v1\nkind: Config\nclusters: [\n")
	binary := write("binary", "\x7fELF\x00\x01")
	empty := write("empty", "")
	unnamed := write("unnamed", strings.ReplaceAll(slurp(filepath.Join(w.dir, "kubeconfig")), "name: watchtest", "name: my cluster"))
	unnamed = write("unnamed", strings.NewReplacer("current-context: watchtest", "current-context: my cluster",
		"cluster: watchtest,", "cluster: my cluster,", "user: watchtest}", "user: my cluster}").Replace(slurp(unnamed)))
	for _, c := range []struct {
		name, args string // args separated by |
		says       string // a regular expression
	}{
		{"UnknownResourceWithTheNearestName", "run|deploymets", `unknown resource "deploymets".*did you mean "deployments.apps"\?`},
		{"UnknownResourceWithNothingNear", "run|zzzzzzzz", `unknown resource "zzzzzzzz": the API server serves none of that name; kubectl api-resources lists them\n`},
		{"UnknownResourceInAGroup", "run|widget.example.org", `unknown resource "widget.example.org".*did you mean "widgets.example.com"`},
		{"Subresource", "run|pods/status", `unknown resource "pods/status"`},
		{"ResourceWithoutWatch", "run|componentstatuses", `resource "componentstatuses" cannot be watched: the API server offers no "watch"`},
		{"FieldSelectorTheServerRefuses", "run|pods|--field-selector|spec.color=red", `pods: .*field label not supported: spec.color.*--field-selector`},

		{"UnknownCommand", "wach", `"wach"`},
		{"UnknownFlag", "run|--namespaces|a", `--namespaces`},
		{"UnknownShortFlag", "run|-z", `-z`},
		{"MissingValue", "run|-o", `-o`},
		{"Output", "run|-o|yaml", `--output "yaml": must be one of json, text`},
		{"Payload", "run|--payload|all", `--payload "all": must be one of full, metadata, none`},
		{"Initial", "run|--initial|list", `--initial "list": must be one of snapshot, none`},
		{"LogLevel", "run|--log-level|loud", `--log-level "loud": must be one of debug, info, warn, error`},
		{"LogFormat", "run|--log-format|xml", `--log-format "xml": must be one of text, json`},
		{"NamespaceAndAll", "run|-n|a|-A", `--namespace and --all-namespaces exclude each other`},
		{"EmptyNamespace", "run|-n|", `--namespace "": `},
		{"EmptyNamespaceAmongOthers", "run|-n|a,,b", `--namespace "": `},
		{"BadNamespace", "run|-n|My_Shop", `--namespace "My_Shop": .*lower case`},
		{"Selector", "run|-l|a in b", `--selector "a in b": `},
		{"FieldSelectorSyntax", "run|--field-selector|a", `--field-selector "a": `},
		{"ProgressInterval", "run|--progress-interval|-1s", `--progress-interval "-1s": must not be negative`},
		{"ProgressIntervalWithoutUnit", "run|--progress-interval|60", `--progress-interval`},
		{"OnlyWhat", "run|--only|spec,data", `--only "data": must be one of spec, metadata, status`},
		{"RepairBudgetNegative", "run|--repair-budget|-1", `--repair-budget "-1": must not be negative`},
		{"BufferBytesZero", "run|--buffer-bytes|0", `--buffer-bytes "0": must be positive`},
		{"BufferBytesNegative", "run|--buffer-bytes|-5", `"-5".*--buffer-bytes.*no number of bytes such as`},
		{"BufferBytesWord", "run|--buffer-bytes|much", `"much".*--buffer-bytes.*no number of bytes such as`},
		{"MaxEventBytesNegative", "run|--max-event-bytes|-1", `"-1".*--max-event-bytes.*no number of bytes such as`},
		{"MaxEventBytesWord", "run|--max-event-bytes|1Megabyte", `"1Megabyte".*--max-event-bytes.*no number of bytes such as`},
		{"QPSZero", "run|--kube-api-qps|0", `--kube-api-qps "0": must be positive`},
		{"QPSNegative", "run|--kube-api-qps|-2.5", `--kube-api-qps "-2.5": must be positive`},
		{"QPSNotANumber", "run|--kube-api-qps|NaN", `--kube-api-qps "NaN": must be`},
		{"BurstZero", "run|--kube-api-burst|0", `--kube-api-burst "0": must be positive`},
		{"BurstWord", "run|--kube-api-burst|many", `"many".*--kube-api-burst`},
		{"ClusterName", "run|--cluster-name|my cluster", `--cluster-name "my cluster": must match`},
		{"ClusterNameTooLong", "run|--cluster-name|" + strings.Repeat("x", 101), `--cluster-name "x+": must match`},
		{"OnceIsNoWord", "run|--once=perhaps", `"perhaps".*--once`},

		{"EmptySubject", "rbac|--subject|", `--subject "": must not be empty`},
		{"SubjectWithoutName", "rbac|--subject|system:serviceaccount:ops", `--subject "system:serviceaccount:ops": must be system:serviceaccount:NAMESPACE:NAME: `},
		{"SubjectWithEmptyName", "rbac|--subject|system:serviceaccount:ops:", `--subject "system:serviceaccount:ops:": must be`},
		{"SubjectWithBadNamespace", "rbac|--subject|system:serviceaccount:My_Ops:audit", `--subject "system:serviceaccount:My_Ops:audit": must be`},
		{"SubjectWithTooMuch", "rbac|--subject|system:serviceaccount:ops:audit:x", `--subject "system:serviceaccount:ops:audit:x": must be`},
		{"SubjectOfRun", "run|--subject|jane", `--subject`},
		{"RBACUnknownResource", "rbac|deploymets", `unknown resource "deploymets".*did you mean "deployments.apps"\?`},
		{"RBACNamespaceAndAll", "rbac|-n|a|-A", `--namespace and --all-namespaces exclude each other`},
		{"CheckOutput", "check|-o|yaml", `--output "yaml": must be one of json, text`},
		{"CheckUnknownResource", "check|deploymets", `unknown resource "deploymets".*did you mean "deployments.apps"\?`},
		{"CheckFieldSelectorTheServerRefuses", "check|pods|--field-selector|spec.color=red", `pods: .*field label not supported: spec.color.*--field-selector`},
		{"CheckMissingKubeconfig", "check|--kubeconfig|/nonexistent/config", `/nonexistent/config.*no such file.*--kubeconfig`},

		{"MissingKubeconfig", "run|--kubeconfig|/nonexistent/config", `/nonexistent/config.*no such file.*--kubeconfig`},
		{"BrokenKubeconfig", "run|--kubeconfig|" + broken, regexp.QuoteMeta(broken) + `.*--kubeconfig`},
		{"BinaryKubeconfig", "run|--kubeconfig|" + binary, regexp.QuoteMeta(binary) + `.*--kubeconfig`},
		{"EmptyKubeconfig", "run|--kubeconfig|" + empty, `no API server to talk to: none is named in .*/empty, .* give --kubeconfig or --server`},
		{"WrongContext", "run|--context|staging", `context.*"staging".*(does not exist|no context)`},
		{"WrongCluster", "run|--cluster|staging", `cluster.*"staging".*(does not exist|no server)`},
		{"WrongUser", "run|--user|nobody", `"nobody".*does not exist`},
		{"MissingCertificateAuthority", "run|--certificate-authority|/nonexistent/ca", `certificate-authority.*/nonexistent/ca`},
		{"ClusterThatCannotBeNamed", "run|--kubeconfig|" + unnamed, `the kubeconfig's cluster "my cluster" cannot name it in events: give --cluster-name`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			refused(t, w.dir, w.env, c.says, strings.Split(c.args, "|")...)
		})
	}
	t.Run("NoAPIServerAnywhere", func(t *testing.T) {
		t.Parallel()
		refused(t, w.dir, environment(w.dir, ""), `no API server to talk to: none is named in .*/.kube/config, .* give --kubeconfig or --server`, "run")
	})
	t.Run("KUBECONFIGNamesNothing", func(t *testing.T) {
		t.Parallel()
		refused(t, w.dir, environment(w.dir, "/nonexistent/config"), `no API server to talk to: none is named in /nonexistent/config, .* give --kubeconfig`, "run")
	})
}

// refused runs watcher, which must end at once with exit code 2.
func refused(t *testing.T, dir string, env []string, says string, args ...string) {
	t.Helper()
	code, stdout, stderr := once(t, dir, env, args...)
	for strings.HasPrefix(stderr, `{"level":"info",`) { // what it had begun to do
		_, stderr, _ = strings.Cut(stderr, "\n")
	}
	message, hint, _ := strings.Cut(stderr, "\n")
	switch {
	case code != 2:
		t.Errorf("exit code %d, want 2\n%s", code, stderr)
	case stdout != "":
		t.Errorf("stdout holds %q", stdout)
	case !regexp.MustCompile(says).MatchString(message + "\n"):
		t.Errorf("it says\n  %s\nwant\n  %s", message, says)
	case !strings.HasPrefix(message, "watcher: "):
		t.Errorf("it does not say who speaks: %s", message)
	case !strings.Contains(hint, "-h"):
		t.Errorf("it does not say where the flags are explained: %q", hint)
	}
	t.Log(message)
}

// TestHelpIsAsAReaderWantsIt pins the help texts.
func TestHelpIsAsAReaderWantsIt(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"help": {"-h"}, "help-run": {"run", "-h"}, "help-check": {"check", "-h"}, "help-rbac": {"rbac", "-h"}, "help-verify": {"verify", "-h"}, "help-version": {"version", "-h"}, "help-completion": {"completion", "-h"}} {
		code, stdout, stderr := once(t, t.TempDir(), environment(t.TempDir(), ""), args...)
		if code != 0 || stderr != "" {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
		golden(t, name, stdout)
	}
}

// TestTheTroubleIsSaidOnceAndWatcherGoesOn: what is not the user's mistake does not end the program, unless --once.
func TestTheTroubleIsSaidOnceAndWatcherGoesOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		spoil    func(w *world)
		says, do string // of the only complaint
	}{
		{"UnreachableServer", func(w *world) { w.TLSConfig(); w.Server.Close() }, `^the API server cannot be reached$`, `--server`},
		{"Forbidden", func(w *world) { w.Forbid(watchtest.Pods, "list", "watch") }, `^permission is missing$`,
			`grant list and watch on pods \('watcher rbac' prints how\), or narrow the scope with -n NAMESPACE`},
		{"Unauthorized", func(w *world) {
			w.On(watchtest.Lists(), watchtest.Fail(401, "Unauthorized", "Unauthorized"))
		}, `^the API server does not accept our credentials$`, `log in`},
		{"ExpiredCertificate", func(w *world) { w.serveAs(time.Now().Add(-time.Hour), true) }, `^the API server's certificate has expired or is not valid yet$`, `renew it`},
		{"CertificateNotValidYet", func(w *world) { w.serveAs(time.Now().Add(48*time.Hour), true) }, `^the API server's certificate has expired or is not valid yet$`, `clock`},
		{"UnknownAuthority", func(w *world) { w.serveAs(time.Now().Add(time.Hour), false) }, `^the API server's certificate is not trusted$`, `--certificate-authority`},
		{"Broken", func(w *world) { w.On(watchtest.Lists(), watchtest.HTML(502)) }, `^the API server answers with an error$`, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, watchtest.Pods)
			c.spoil(w)
			p := w.run("pods")
			p.await("a complaint", p.errout, func(text string) bool { return strings.Contains(text, `"level":"warn"`) })
			// A missing permission is looked for once a minute, and where nobody listens nobody counts.
			if c.name != "Forbidden" && c.name != "UnreachableServer" && !poll(func() bool { return w.tries() > 2 }) {
				t.Errorf("it was tried %d times", w.tries())
			}
			if code := p.end(os.Interrupt); code != 0 {
				t.Errorf("exit code %d after a signal", code)
			}
			bad := complaints(t, p.stderr())
			if len(bad) != 1 || !regexp.MustCompile(c.says).MatchString(bad[0].Message) || !regexp.MustCompile(c.do).MatchString(bad[0].Do) {
				t.Errorf("it says %+v", bad)
			}
			if p.stdout() != "" {
				t.Errorf("stdout holds %s", p.stdout())
			}
			code, stdout, stderr := once(t, w.dir, w.env, "run", "--once", "pods")
			if code != 1 || stdout != "" || !strings.Contains(stderr, "watcher: ") || !regexp.MustCompile(c.do).MatchString(stderr) {
				t.Errorf("--once: exit code %d\n%s\n%s", code, stdout, stderr)
			}
			t.Log(stderr)
		})
	}
}

// serveAs serves the world over TLS once more, with a certificate of a day that ends then, and makes that what the
// kubeconfig leads to. Its own authority is told, or another.
func (w *world) serveAs(end time.Time, trusted bool) {
	w.t.Helper()
	cert, ca := selfSigned(w.t, end)
	if !trusted {
		_, ca = selfSigned(w.t, end)
	}
	srv := httptest.NewUnstartedServer(w.Server)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	var conns atomic.Int64
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	w.tries = func() int { return int(conns.Load()) }
	srv.StartTLS()
	w.t.Cleanup(srv.Close)
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{name: x, context: {cluster: x, user: x}}]\n"+
		"users: [{name: x, user: {token: x}}]\nclusters: [{name: x, cluster: {server: %q, certificate-authority-data: %s}}]\n",
		srv.URL, base64.StdEncoding.EncodeToString(ca))
	if err := os.WriteFile(filepath.Join(w.dir, "kubeconfig"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func selfSigned(t *testing.T, end time.Time) (cert tls.Certificate, ca []byte) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: end.Add(-24 * time.Hour), NotAfter: end, IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, about, about, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: private}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}
