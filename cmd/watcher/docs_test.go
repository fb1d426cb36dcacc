package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// eventsPage is the page for readers of events: its prose, and the lines of its JSON examples.
func eventsPage(t *testing.T) (prose string, examples []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	fence := ""
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "```") && fence == "":
			fence = strings.TrimSpace(line)
		case strings.HasPrefix(line, "```"):
			fence = ""
		case fence == "":
			prose += line
		case fence == "```json":
			examples = append(examples, line)
		}
	}
	return prose, examples
}

// properties are the names that a schema gives to members, at any depth.
func properties(schema any, add func(name string)) {
	switch v := schema.(type) {
	case map[string]any:
		for key, sub := range v {
			if named, ok := sub.(map[string]any); ok && key == "properties" {
				for name := range named {
					add(name)
				}
			}
			properties(sub, add)
		}
	case []any:
		for _, sub := range v {
			properties(sub, add)
		}
	}
}

// TestExamplesOfTheDocsAreEvents shows that each one is valid, and that no type lacks one.
func TestExamplesOfTheDocsAreEvents(t *testing.T) {
	t.Parallel()
	_, examples := eventsPage(t)
	text := strings.Join(examples, "")
	if err := valid(text); err != nil {
		t.Fatal(err)
	}
	lines, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{
		"present": true, "added": true, "modified": true, "deleted": true, "left": true,
		"started": true, "synced": true, "gap": true, "progress": true, "stopped": true,
		"objectOmitted": true,
	}
	for _, l := range lines {
		delete(missing, l.Type[strings.LastIndexByte(l.Type, '.')+1:])
		if l.Data.ObjectOmitted != nil {
			delete(missing, "objectOmitted")
		}
	}
	for what := range missing {
		t.Errorf("docs/events.md has no example of %s", what)
	}
}

// TestDocsNameEveryField shows that the page forgets no member that the schemas allow.
func TestDocsNameEveryField(t *testing.T) {
	t.Parallel()
	prose, _ := eventsPage(t)
	found := 0
	for _, name := range []string{"object", "stream"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", "schemas", name+"-event.schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		var schema any
		if err := json.Unmarshal(text, &schema); err != nil {
			t.Fatal(err)
		}
		properties(schema, func(field string) {
			found++
			if !strings.Contains(prose, "`"+field+"`") {
				t.Errorf("docs/events.md does not name `%s` of the %s events", field, name)
			}
		})
	}
	if found < 30 {
		t.Errorf("only %d fields in the schemas", found)
	}
}
