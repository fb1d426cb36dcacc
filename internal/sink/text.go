package sink

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"watcher/internal/event"
)

// Text makes events readable: one short line each, in columns, as wide as the terminal.
type Text struct {
	Width func() int     // of the terminal, in characters; 0: no terminal, nothing is cut
	Color bool           // ANSI colours
	Zone  *time.Location // of the times shown

	resource, name, changed column
}

// A column is as wide as the widest value so far, within bounds: it grows, but never jumps about.
type column struct{ width int }

type bounds struct{ least, most int }

func (c *column) fit(s string, b bounds) string {
	n := utf8.RuneCountInString(s)
	c.width = max(c.width, min(max(n, b.least), b.most))
	return s + strings.Repeat(" ", max(0, c.width-n))
}

const (
	dim, bold, red, green, yellow, reset = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
)

var colors = map[event.Type]string{
	event.Present: dim, event.Added: green, event.Modified: yellow, event.Deleted: red, event.Left: red,
	event.Started: dim, event.Synced: dim, event.Progress: dim, event.Stopped: dim, event.Gap: bold + red,
}

// Append is the Format: TIME OP RESOURCE NAMESPACE/NAME CHANGED SUMMARY (ACTOR).
func (t *Text) Append(dst []byte, ev *event.Event) []byte {
	op := ev.Type.String()
	if ev.Type == event.Gap {
		op = "GAP"
	}
	width, resource, name := t.Width(), bounds{len("deployments"), 24}, bounds{16, 48}
	if width > 0 { // of a narrow terminal the names may take a third, the summary what is left
		resource, name = bounds{min(len("deployments"), width/10), min(24, width/5)}, bounds{0, min(48, width/3)}
	}
	what := t.resource.fit(printable(ev.Stream.Resource), resource) + "  "
	switch {
	case ev.Type.OfObject():
		what += t.name.fit(printable(ev.Object.Key()), name) + "  "
		if parts := t.changed.fit(changed(ev.Changed), bounds{0, 20}); parts != "" { // from the first change on
			what += parts + "  "
		}
		what += printable(objectSummary(ev))
	case ev.Stream.Namespace != "":
		what += printable(ev.Stream.Namespace + ": " + streamSummary(ev))
	default:
		what += printable(streamSummary(ev))
	}
	head := ev.Time.In(t.Zone).Format("15:04:05") + " "
	rest := strings.TrimRight(fmt.Sprintf("%-8s %s", op, what), " ")
	if width > 0 {
		rest = shorten(rest, width-len(head))
	}
	if t.Color {
		n := min(len(op), len(rest))
		rest = colors[ev.Type] + rest[:n] + reset + rest[n:]
	}
	dst = append(dst, head...)
	dst = append(dst, rest...)
	return append(dst, '\n')
}

// printable keeps what an object's author wrote from steering the terminal or breaking the line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

// shorten cuts s to width characters.
func shorten(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:max(0, width-1)]) + "…"
}

// changed names the parts that a change touched: "-" is nothing but bookkeeping.
func changed(parts event.Parts) string {
	names := strings.Join(parts.Names(), ",")
	if names == "" && parts&event.Told != 0 {
		return "-"
	}
	return names
}

func objectSummary(ev *event.Event) string {
	s := summarize(ev.Stream, bytes.TrimSpace(ev.Object.Body))
	if s != "" && (ev.Type == event.Deleted || ev.Type == event.Left) {
		s = "was " + s
	}
	switch {
	case ev.Ambiguous:
		s = join(s, "no longer selected, or deleted")
	case ev.Type == event.Left:
		s = join(s, "no longer selected")
	}
	if ev.Origin == event.Repair {
		s = join(s, "repaired")
	}
	if ev.Actor.Manager != "" {
		s = strings.TrimPrefix(s+" ("+ev.Actor.Manager+")", " ")
	}
	return s
}

// join separates what stands at the end of a line from what is before it.
func join(s, more string) string {
	if s == "" {
		return more
	}
	return s + "  " + more
}

func streamSummary(ev *event.Event) string {
	switch d := ev.Data.(type) {
	case event.StartedData:
		if d.Resumed {
			return "after " + d.ResourceVersion
		}
		return "at " + d.ResourceVersion
	case event.GapData:
		return fmt.Sprintf("after %s, %s unseen (%s), repairing", d.From, unseen(d), d.Reason)
	case event.SyncedData:
		return synced(d)
	case event.ProgressData:
		return "at " + d.ResourceVersion
	case event.StoppedData:
		if d.ResourceVersion == "" {
			return "before all was listed"
		}
		return "at " + d.ResourceVersion
	default:
		return ""
	}
}

func unseen(d event.GapData) string {
	if d.FromTime.IsZero() {
		return "a while"
	}
	gap := d.ToTime.Sub(d.FromTime)
	if gap < 2*time.Minute {
		return fmt.Sprintf("%.0f s", gap.Seconds())
	}
	return strings.TrimSuffix(gap.Round(time.Minute).String(), "0s")
}

// synced says how much there is, or of a repair how finely it was healed.
func synced(d event.SyncedData) string {
	if d.Healed == nil {
		return plural(d.Present, "object")
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{d.History, "in full"}, {d.Net, "net"}, {d.Inferred, "gone, by name only"}, {d.Filtered, "filtered"}, {d.Present, "listed again"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	s := plural(d.History+d.Net+d.Inferred+d.Filtered+d.Present, "object")
	if len(parts) > 0 {
		s += ": " + strings.Join(parts, ", ")
	}
	if d.Deletions == "unknown" {
		s += "; what was deleted in the gap is not known"
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
