package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"watcher/internal/verify"
	"watcher/internal/watch"
)

// errUnaccounted is the end of a verification whose report has said what is wrong.
var errUnaccounted = errors.New("not everything is accounted for")

// An unreadableError says that a log, or with --live the cluster at its last position, could not be read.
type unreadableError struct{ err error }

func (e *unreadableError) Error() string { return e.err.Error() }

func (e *unreadableError) Unwrap() error { return e.err }

func newVerify(stdout, stderr *os.File) *cobra.Command {
	var f runFlags
	var live bool
	c := &cobra.Command{
		Use:   "verify [FILE|-]",
		Short: "Say what a log of events covers, and what is missing in it",
		Long: `Read a log of events, the output of 'watcher run -o json', and say what each stream covers, and what is missing, repeated, out
of order or altered, with its line. Exit code: 0 if everything is accounted for, 1 if not, 3 if the log cannot be read. What
was cut off behind the last line cannot be seen, unless with --live.`,
		Example: `  watcher verify audit.jsonl                    is the log whole?
  watcher verify --live audit.jsonl             and is the cluster as it says?
  cat audit.jsonl.1 audit.jsonl | watcher verify
  watcher verify -o json audit.jsonl | jq .findings`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			conf, err := f.parseVerify()
			if err != nil {
				return err
			}
			log, err := readLog(args, c.InOrStdin())
			if err != nil {
				return err
			}
			if live {
				err = f.compare(c.Context(), conf, log, stderr)
			}
			if errors.As(err, new(*usageError)) {
				return err
			}
			verified := printVerified(stdout, log.Report(), f.output == "json")
			return cmp.Or(err, verified)
		},
	}
	own := c.Flags()
	own.SortFlags = false
	own.BoolVar(&live, "live", false, "compare the cluster with the log, at the last version that the log says it covers")
	own.StringVarP(&f.output, "output", "o", "text", "text or json")
	f.bindKube(c)
	return c
}

// parseVerify validates the flags that verify takes.
func (f *runFlags) parseVerify() (*config, error) {
	if f.output != "text" && f.output != "json" {
		return nil, &usageError{fmt.Sprintf("--output %q: must be one of text, json", f.output)}
	}
	if err := f.limits(); err != nil {
		return nil, err
	}
	return &config{qps: f.qps, burst: f.burst, logLevel: "info"}, nil
}

func readLog(args []string, stdin io.Reader) (*verify.Log, error) {
	name, in := "the input", stdin
	if len(args) == 1 && args[0] != "-" {
		file, err := os.Open(args[0])
		if err != nil {
			return nil, &unreadableError{err}
		}
		defer file.Close() //nolint:errcheck // it is only read
		name, in = args[0], file
	} else if file, ok := stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return nil, &usageError{"a FILE is needed, or a log on stdin"}
	}
	log := verify.New()
	if err := log.Read(in); err != nil {
		return nil, &unreadableError{fmt.Errorf("read %s: %w", name, err)}
	}
	return log, nil
}

// compare lists what the log claims to know, where it claims to know it.
func (f *runFlags) compare(ctx context.Context, conf *config, log *verify.Log, stderr *os.File) error {
	claims := log.Claims()
	if len(claims) == 0 {
		return &unreadableError{errors.New("compare the log: no line of it belongs to a stream")}
	}
	f.clusterName = claims[0].Stream.Cluster
	for _, c := range claims {
		if c.Stream.Cluster != f.clusterName {
			return &unreadableError{fmt.Errorf("compare the log: it is of several clusters, %s and %s", f.clusterName, c.Stream.Cluster)}
		}
	}
	if err := f.reach(conf, stderr); err != nil {
		return err
	}
	for _, c := range claims {
		s := &c.Stream
		if c.ResourceVersion == "" {
			return &unreadableError{fmt.Errorf("compare %s: the log does not say up to which version it covers anything", s.Name())}
		}
		sel := watch.Selection{Namespace: s.Namespace, LabelSelector: s.LabelSelector, FieldSelector: s.FieldSelector, Payload: watch.PayloadNone}
		if c.Bodies {
			sel.Payload = watch.Payload(s.Payload)
		}
		res := watch.Resource{GroupVersionResource: schema.GroupVersionResource{Group: s.Group, Version: s.Version, Resource: s.Resource}, Kind: s.Kind}
		if err := log.Compare(c, conf.watch.Client.At(ctx, res, sel, c.ResourceVersion)); err != nil {
			return &unreadableError{fmt.Errorf("compare %s: %w", s.Name(), err)}
		}
	}
	return nil
}

func printVerified(stdout io.Writer, r *verify.Report, asJSON bool) error {
	if err := write(stdout, r, asJSON, func(b *bytes.Buffer) { printVerifiedText(b, r) }); err != nil {
		return err
	}
	if !r.OK {
		return errUnaccounted
	}
	return nil
}

func printVerifiedText(b *bytes.Buffer, r *verify.Report) {
	printStreams(b, r.Streams)
	table := b.Len()
	for _, s := range r.Streams {
		printGaps(b, &s)
	}
	if len(r.Torn) > 0 {
		fmt.Fprintf(b, "%-10s %s: cut where a run was killed, and another followed\n", "torn", lineNumbers(r.Torn))
	}
	for _, c := range r.Live {
		printComparison(b, &c)
	}
	printFindings(b, r)
	if b.Len() > table {
		fmt.Fprintln(b)
	}
	fmt.Fprintln(b, verdict(r))
}

func printStreams(b *bytes.Buffer, streams []verify.Stream) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STREAM\tFROM\tTO\tSINCE\tUNTIL\tRUNS\tEVENTS\tMISSING\tMISPLACED\tREPEATED\tGAPS\tOBJECTS")
	for _, s := range streams {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", s.Name(), orNone(s.From), orNone(s.To), moment(s.FromTime), moment(s.ToTime),
			s.Runs, s.Events, s.Missing, s.Misplaced, s.Repeated, len(s.Gaps), s.Objects)
	}
	_ = w.Flush() // into memory
	fmt.Fprintln(b)
}

func orNone(version string) string {
	if version == "" {
		return "-"
	}
	return version
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// mostGaps is how many of a stream's gaps are printed; JSON has them all.
const mostGaps = 20

func printGaps(b *bytes.Buffer, s *verify.Stream) {
	if n := len(s.Gaps) - mostGaps; n > 0 {
		fmt.Fprintf(b, "%-10s %s: %d more before these\n", "gap", s.Name(), n)
	}
	for _, g := range s.Gaps[max(0, len(s.Gaps)-mostGaps):] {
		fmt.Fprintf(b, "%-10s line %d: %s: after %s (%s), unseen %s to %s, %s\n", "gap", g.Line, s.Name(), g.From, g.Reason,
			moment(g.FromTime), moment(g.ToTime), fate(&g))
	}
}

// fate is what became of a gap, in words.
func fate(g *verify.Gap) string {
	switch {
	case g.Superseded > 0:
		return fmt.Sprintf("begun again in line %d", g.Superseded)
	case g.Repair == nil:
		return "its repair has not finished"
	case g.Repair.Healed == nil:
		return fmt.Sprintf("repaired in line %d", g.Synced)
	}
	h := g.Repair.Healed
	var by []string
	for _, level := range []struct {
		n    int
		word string
	}{{h.History, "in full"}, {h.Net, "by the net change"}, {h.Inferred, "by the deletion alone"}} {
		if level.n > 0 {
			by = append(by, fmt.Sprintf("%d %s", level.n, level.word))
		}
	}
	if len(by) == 0 {
		by = []string{"none changed"}
	}
	return fmt.Sprintf("repaired in line %d: objects %s; deletions %s", g.Synced, strings.Join(by, ", "), h.Deletions)
}

func lineNumbers(lines []int) string {
	words := make([]string, 0, min(len(lines), mostGaps))
	for _, n := range lines[:min(len(lines), mostGaps)] {
		words = append(words, fmt.Sprint(n))
	}
	if more := len(lines) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("%d more", more))
	}
	if len(lines) == 1 {
		return "line " + words[0]
	}
	return "lines " + strings.Join(words, ", ")
}

func printComparison(b *bytes.Buffer, c *verify.Comparison) {
	if c.Unlisted > 0 {
		fmt.Fprintf(b, "%-10s %s: %d objects that exist at %s are not in the log, which does not begin with a list\n", "live", c.Stream, c.Unlisted, c.ResourceVersion)
	}
	for _, d := range c.Differences {
		line := ""
		if d.Line > 0 {
			line = fmt.Sprintf("line %d: ", d.Line)
		}
		fmt.Fprintf(b, "%-10s %s%s: %s %s\n", "DIFFERENT", line, c.Stream, d.Object, d.Problem)
	}
	if more := c.Different - len(c.Differences); more > 0 {
		fmt.Fprintf(b, "%-10s %s: %d more\n", "DIFFERENT", c.Stream, more)
	}
}

func printFindings(b *bytes.Buffer, r *verify.Report) {
	printed := map[verify.Kind]int{}
	for _, f := range r.Findings {
		printed[f.Kind]++
		about := ""
		if f.Stream != "" {
			about = f.Stream + ": "
		}
		fmt.Fprintf(b, "%-10s line %d: %s%s\n", strings.ToUpper(string(f.Kind)), f.Line, about, f.Problem)
	}
	for _, k := range kinds(r) {
		if more := r.Kinds[k] - printed[k]; more > 0 {
			fmt.Fprintf(b, "%-10s and %d more\n", strings.ToUpper(string(k)), more)
		}
	}
}

// kinds are those of which there are findings.
func kinds(r *verify.Report) []verify.Kind {
	all := []verify.Kind{verify.Missing, verify.Repeated, verify.Order, verify.Altered, verify.Torn, verify.Unhealed, verify.Deletions, verify.Restart}
	return slices.DeleteFunc(all, func(k verify.Kind) bool { return r.Kinds[k] == 0 })
}

// verdict is the sentence that all comes down to.
func verdict(r *verify.Report) string {
	var counts, equal []string
	for _, k := range kinds(r) {
		counts = append(counts, fmt.Sprintf("%d %s", r.Kinds[k], k))
	}
	same := true
	for _, c := range r.Live {
		same = same && c.Equal
		equal = append(equal, fmt.Sprintf("%s at %s: %s", c.Stream, c.ResourceVersion, amount(c.Objects, "object")))
	}
	var parts []string
	if len(counts) > 0 {
		parts = append(parts, "not everything is accounted for: "+strings.Join(counts, ", "))
	} else {
		parts = append(parts, fmt.Sprintf("everything is accounted for: %s of %s", amount(r.Events, "event"), amount(len(r.Streams), "stream")))
	}
	switch {
	case len(r.Live) > 0 && same:
		parts = append(parts, "the log equals the cluster ("+strings.Join(equal, "; ")+")")
	case len(r.Live) > 0:
		parts = append(parts, "the log does not equal the cluster")
	}
	return strings.Join(parts, "; ") + "."
}

func amount(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
