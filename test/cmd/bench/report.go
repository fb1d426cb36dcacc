package main

import (
	"bytes"
	_ "embed" // the forms
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

// A report is everything that was measured.
type report struct {
	Machine, Date string
	Rounds        int
	Tables        []table
	Pods          int // that were listed while memory was measured
	Memory        []footprint
	Continuity    *continuity
}

// A table is what the ways cost with one server.
type table struct {
	Server string
	Events int // a measurement
	Bytes  int // an event, in the stream
	Rows   []row
}

// A row is the medians of one way's rounds, an event.
type row struct {
	Does          string
	CPU, Wall     float64 // microseconds
	Ratio         spread  // of CPU, to the floor in the same round
	Allocs, Bytes float64
	Peak          float64 // MB
}

type spread struct{ Least, Median, Most float64 }

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Least, s.Most) }

// A footprint is the most memory that was resident, in MB.
type footprint struct {
	Does string
	Peak float64
}

func spreadOf(all []float64) spread {
	slices.Sort(all)
	return spread{all[0], (all[(len(all)-1)/2] + all[len(all)/2]) / 2, all[len(all)-1]}
}

// add makes a table of the costs, by way and round.
func (r *report) add(server string, s span, costs map[string][]cost) {
	t := table{Server: server, Events: s.Events, Bytes: (s.AllBytes - s.WarmBytes) / s.Events}
	for _, w := range ways {
		all := costs[w.name]
		median := func(of func(i int, c cost) float64) spread {
			var values []float64
			for i, c := range all {
				values = append(values, of(i, c))
			}
			return spreadOf(values)
		}
		each := func(of func(cost) float64) float64 {
			return median(func(_ int, c cost) float64 { return of(c) / float64(c.Events) }).Median
		}
		t.Rows = append(t.Rows, row{
			Does:   w.does,
			Ratio:  median(func(i int, c cost) float64 { return c.cpuEach() / costs[ways[0].name][i].cpuEach() }),
			CPU:    each(func(c cost) float64 { return float64(c.CPU.Nanoseconds()) / 1e3 }),
			Wall:   each(func(c cost) float64 { return float64(c.Wall.Nanoseconds()) / 1e3 }),
			Allocs: each(func(c cost) float64 { return float64(c.Allocs) }),
			Bytes:  each(func(c cost) float64 { return float64(c.Bytes) }),
			Peak:   median(func(_ int, c cost) float64 { return float64(c.PeakRSS) / 1e6 }).Median,
		})
	}
	r.Tables = append(r.Tables, t)
}

func (c cost) cpuEach() float64 { return float64(c.CPU) / float64(c.Events) }

var (
	//go:embed costs.md.tmpl
	pageText string
	//go:embed costs.svg.tmpl
	pictureText string

	pageForm    = template.Must(template.New("costs.md").Parse(pageText))
	pictureForm = template.Must(template.New("costs.svg").Funcs(template.FuncMap{"bars": bars, "add": func(a, b int) int { return a + b }}).Parse(pictureText))
)

// write prints the report and, if docs is not empty, writes costs.md and costs.svg there.
func (r *report) write(docs string) error {
	if err := pageForm.Execute(os.Stdout, r); err != nil || docs == "" {
		return err
	}
	for _, form := range []*template.Template{pageForm, pictureForm} {
		var b bytes.Buffer
		if err := form.Execute(&b, r); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(docs, form.Name()), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// A bar of the picture.
type bar struct {
	Y, Width int // pixels
	Does     string
	Value    string
	Ours     bool
}

// bars are the rows of a panel of the picture: of a table or of the memory, on a linear scale.
func bars(rows any, top int) []bar {
	var all []bar
	var values []float64
	add := func(does string, value float64, unit string) {
		form := "%.0f %s"
		if value < 100 {
			form = "%.1f %s"
		}
		all = append(all, bar{Y: top + 24*len(all), Does: does, Value: fmt.Sprintf(form, value, unit), Ours: strings.HasPrefix(does, "watcher")})
		values = append(values, value)
	}
	switch rows := rows.(type) {
	case []row:
		for _, r := range rows {
			add(r.Does, r.CPU, "µs")
		}
	case []footprint:
		for _, f := range rows {
			add(f.Does, f.Peak, "MB")
		}
	}
	for i := range all {
		all[i].Width = max(1, int(340*values[i]/slices.Max(values)))
	}
	return all
}

// machine says what the numbers were taken on.
func machine() string {
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d CPUs, %s, %s/%s", model, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func today() string { return time.Now().Format(time.DateOnly) }
