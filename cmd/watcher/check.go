package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"watcher/internal/watch"
)

// errUnfit is the end of a check whose report has said why.
var errUnfit = errors.New("run would not work")

func newCheck(stdout, stderr *os.File) *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "check [RESOURCE ...]",
		Short: "Find out whether run would work",
		Long: `Find out whether 'watcher run' with the same arguments would work, by doing once what it does to the API server: what may
be read and what is answered, how many objects there are and how large they are. Each problem comes with what mends it.`,
		Example: `  watcher check                            pods, deployments and services of all namespaces
  watcher check pods -n shop               with the arguments that run is to get
  watcher check -o json | jq .problems     for a program; the exit code is 1 if run would not work`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			conf, err := f.parse(c.Flags(), args, stdout)
			if err != nil {
				return err
			}
			if err := f.reach(conf, stderr); err != nil {
				return err
			}
			r, err := watch.Preflight(c.Context(), conf.watch, func(user string) string { return conf.grant(c.Flags(), user) })
			if err != nil {
				return err
			}
			return printReport(stdout, r, f.output == "json")
		},
	}
	f.bind(c)
	c.Flags().Lookup("output").Usage = "text or json (default text)"
	hide(c, "max-event-bytes", "initial", "buffer-bytes", "progress-interval", "only", "state-dir", "repair-budget", "cluster-name", "log-level", "log-format")
	return c
}

// grant is the command that gives a user the permissions for all that run reads. It goes to the cluster that the
// flags name, but not as who they name.
func (c *config) grant(given *pflag.FlagSet, user string) string {
	var to []string
	for _, name := range []string{"kubeconfig", "context", "cluster", "server", "certificate-authority", "tls-server-name", "insecure-skip-tls-verify", "proxy-url"} {
		if flag := given.Lookup(name); flag.Changed {
			to = append(to, "--"+name+"="+flag.Value.String())
		}
	}
	manifests := c.rbacCommand(cmp.Or(user, "USER"))
	if !c.offline() && len(to) > 0 {
		manifests += " " + shell(to...)
	}
	return manifests + " | " + shell(append([]string{"kubectl", "apply", "-f", "-"}, to...)...)
}

func printReport(stdout io.Writer, r *watch.Report, asJSON bool) error {
	if err := write(stdout, r, asJSON, func(b *bytes.Buffer) { printText(b, r) }); err != nil {
		return err
	}
	if !r.OK {
		return errUnfit
	}
	return nil
}

func printText(b *bytes.Buffer, r *watch.Report) {
	printServer(b, &r.Server)
	printReadings(b, r.Resources)
	for i, p := range r.Problems {
		about := ""
		if p.Resource != "" {
			about = p.Resource + ": "
		}
		fmt.Fprintf(b, "%-8s %s%s\n", strings.ToUpper(string(p.Severity)), about, p.Problem)
		if last := i == len(r.Problems)-1; p.Mend != "" && (last || r.Problems[i+1].Mend != p.Mend) { // several may have one
			hint := ""
			if strings.HasPrefix(p.Mend, "watcher rbac") {
				hint = "      (as somebody who may grant it)"
			}
			fmt.Fprintf(b, "         %s%s\n", p.Mend, hint)
		}
	}
	if len(r.Problems) > 0 {
		fmt.Fprintln(b)
	}
	errs, warnings := count(r, watch.Error), count(r, watch.Warning)
	switch {
	case !r.OK:
		fmt.Fprintf(b, "%s: `watcher run` would not work as asked.\n", strings.Join(withoutEmpty([]string{errs, warnings}), ", "))
	case warnings != "":
		fmt.Fprintf(b, "ok, %s: `watcher run` would work.\n", warnings)
	default:
		fmt.Fprintln(b, "ok: `watcher run` would work.")
	}
}

// count says how many problems of a severity there are, in words; "" if there is none.
func count(r *watch.Report, s watch.Severity) string {
	n := 0
	for _, p := range r.Problems {
		if p.Severity == s {
			n++
		}
	}
	switch n {
	case 0:
		return ""
	case 1:
		return "1 " + string(s)
	default:
		return fmt.Sprintf("%d %ss", n, s)
	}
}

func printServer(b *bytes.Buffer, s *watch.Server) {
	as := ""
	if s.User != "" {
		as = "as " + s.User
	}
	fmt.Fprintf(b, "API server  %s\n", strings.Join(withoutEmpty([]string{s.Address, s.Version, as}), "  "))
	clock := ""
	if s.ClockAhead != nil {
		switch off := time.Duration(*s.ClockAhead * float64(time.Second)).Round(time.Second); {
		case off > 0:
			clock = fmt.Sprintf("clock %v ahead", off)
		case off < 0:
			clock = fmt.Sprintf("clock %v behind", -off)
		default:
			clock = "clock within 1 s"
		}
	}
	if s.Cluster != "" || clock != "" {
		fmt.Fprintf(b, "cluster     %s\n", strings.Join(withoutEmpty([]string{cmp.Or(s.Cluster, "unknown"), clock}), "  "))
	}
	fmt.Fprintln(b)
}

func printReadings(b *bytes.Buffer, readings []watch.Reading) {
	if len(readings) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RESOURCE\tNAMESPACE\tLIST\tWATCH\tEXACT\tOBJECTS\tLARGEST")
	for _, r := range readings {
		namespace := "-"
		if r.Namespaced {
			namespace = cmp.Or(r.Namespace, "all")
		}
		objects, largest := "-", "-"
		if r.List == watch.Yes {
			objects = fmt.Sprint(r.Objects)
		}
		if r.Largest != nil {
			largest = size(r.Largest.Bytes) + " " + r.Largest.Object
		}
		fmt.Fprintln(t, strings.Join([]string{r.Resource, namespace, column(r.List), column(r.Watch), column(r.Exact), objects, largest}, "\t"))
	}
	_ = t.Flush() // into memory
	fmt.Fprintln(b)
}

func column(a watch.Answer) string {
	if a == watch.No {
		return "NO"
	}
	return cmp.Or(string(a), "-")
}

// size is a number of bytes for people.
func size(n int) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}
