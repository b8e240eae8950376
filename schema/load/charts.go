package load

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// chartFile is what makes a directory a Helm chart.
const chartFile = "Chart.yaml"

// chartDirectories are those of a chart's directories that Helm knows.
var chartDirectories = []string{"charts", "ci", "crds", "templates", "tests"}

// findCharts finds the Helm charts that the source selects. Each is told as one thing:
// what is in it becomes objects only when it is rendered.
func (l *loader) findCharts(selection *selection) (told schema.Diagnostics) {
	for i := range l.tree.Files {
		f := &l.tree.Files[i]
		dir := path.Dir(f.Path)
		if !strings.HasSuffix(f.Path, chartFile) || path.Base(f.Path) != chartFile || !selection.covers(f.Path) || l.claims(f.Path) {
			continue
		}
		name, ok := chartName(f)
		if !ok {
			continue
		}
		if l.charts == nil {
			l.charts = make(map[string]bool)
		}
		l.charts[dir], l.hides = true, true
		hint := "commit what helm template prints, and exclude the chart"
		if dir != "." {
			hint = fmt.Sprintf("commit what helm template prints, and add %q to exclude in the Source", literally.Replace(selection.below(dir)))
		}
		told = append(told, schema.Diagnostic{
			Position: schema.Position{Path: f.Path, Line: 1, Column: 1}, Severity: schema.Error,
			Message: fmt.Sprintf("this directory is a Helm chart, %s, which is not rendered here", name), Hint: hint,
		})
	}
	return told
}

// chartName is what a chart's file calls it; false if it describes none.
func chartName(f *schema.File) (string, bool) {
	if f.Size > schema.MaxFileSize {
		return "", false
	}
	text, err := f.Open()
	if err != nil || len(text) > schema.MaxFileSize {
		return "", false
	}
	roots, problem := yaml.ParseYAML(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), new(yaml.Arena))
	if problem != nil || len(roots) == 0 || yaml.Child(roots[0], "kind") != nil {
		return "", false
	}
	name := yaml.TextAt(roots[0], "name")
	return name, name != ""
}

// claims reports whether a file is no plain manifest: a kustomization's, or a chart's.
func (l *loader) claims(name string) bool { return l.survey.Claims(name) || l.isOfChart(name) }

// isOfChart reports whether a file belongs to a chart. One in the root may have anything
// beside it.
func (l *loader) isOfChart(name string) bool {
	if len(l.charts) == 0 {
		return false
	}
	first, _, isBelow := strings.Cut(name, "/")
	if l.charts["."] && (!isBelow || slices.Contains(chartDirectories, first)) {
		return true
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if l.charts[dir] {
			return true
		}
	}
	return false
}
