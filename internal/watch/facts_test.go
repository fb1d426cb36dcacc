package watch_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"watcher/internal/event"
	"watcher/internal/watch/watchtest"
)

// A fact is one change of the true history, as a stream with the world's selector must tell it.
type fact struct {
	watchtest.Change
	is    event.Type
	actor string      // who made it, if that can be told
	parts event.Parts // that a modification touched
	done  bool        // it is written, or enclosed by a gap that was healed
}

// facts is the history as it was in an epoch of the server: what a later rewind undid is not in it.
func (w *world) facts(res watchtest.Resource, epoch int) []fact {
	var out []fact
	last, when, seen := map[string]map[string]any{}, map[string]string{}, map[string]bool{}
	for _, c := range w.history[res.Name] {
		if c.Epoch > epoch || slices.ContainsFunc(w.rewinds[c.Epoch:epoch], func(r rewind) bool { return c.RV > r.rv }) {
			continue
		}
		f := fact{Change: c}
		now := object(c.JSON)
		keep := !w.selects || label(now, "keep") == "yes"
		if c.Type == "DELETED" {
			keep = false
		}
		by, at := manager(c.JSON), written(c.JSON)
		switch was := seen[c.UID]; {
		case keep && !was:
			f.is = event.Added
			if !w.selects {
				f.actor = by
			}
		case keep:
			f.is, f.parts = event.Modified, differ(last[c.UID], now)
			if at > when[c.UID] {
				f.actor = by
			}
		case was && c.Type == "DELETED":
			f.is = event.Deleted
		case was:
			f.is = event.Left
		}
		if keep || f.is != event.Left {
			last[c.UID], when[c.UID] = now, at
		}
		if seen[c.UID] = keep; f.is != 0 {
			out = append(out, f)
		}
	}
	return out
}

func object(raw []byte) map[string]any {
	var o map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&o); err != nil {
		panic(fmt.Sprintf("%v: %s", err, raw))
	}
	if m, ok := o["metadata"].(map[string]any); ok {
		delete(m, "managedFields")
	}
	return o
}

// manager and written are of the newest entry of managedFields: here there is only one.
func manager(raw []byte) string { return between(raw, `"manager":"`) }

func written(raw []byte) string { return between(raw, `"time":"`) }

func between(raw []byte, head string) string {
	_, rest, _ := strings.Cut(string(raw), head)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

func label(o map[string]any, name string) string {
	m, _ := o["metadata"].(map[string]any)
	labels, _ := m["labels"].(map[string]any)
	s, _ := labels[name].(string)
	return s
}

// differ is which parts two states differ in.
func differ(a, b map[string]any) event.Parts {
	parts := event.Told
	for part, f := range map[event.Parts]func(map[string]any) any{
		event.Metadata: func(o map[string]any) any {
			m := map[string]any{}
			for k, v := range o["metadata"].(map[string]any) {
				if k != "resourceVersion" && k != "generation" {
					m[k] = v
				}
			}
			return m
		},
		event.Status: func(o map[string]any) any { return o["status"] },
		event.Spec: func(o map[string]any) any {
			m := map[string]any{}
			for k, v := range o {
				if k != "metadata" && k != "status" && k != "kind" && k != "apiVersion" {
					m[k] = v
				}
			}
			return m
		},
	} {
		if !bytes.Equal(canonical(f(a)), canonical(f(b))) {
			parts |= part
		}
	}
	return parts
}

func canonical(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
