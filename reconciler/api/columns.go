package api

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// column is one column of a Table. Wide ones are shown on request only.
type column struct {
	name   string
	kind   string // OpenAPI type; "" is string
	format string
	wide   bool
}

var (
	nameColumn = column{name: "Name", format: "name"}
	ageColumn  = column{name: "Age"}
	nameAndAge = []column{nameColumn, ageColumn}
	// workloadColumns end the rows of what runs pods.
	workloadColumns = []column{ageColumn, {name: "Containers", wide: true}, {name: "Images", wide: true}, {name: "Selector", wide: true}}
)

func (res *resource) definitions() []metav1.TableColumnDefinition {
	out := make([]metav1.TableColumnDefinition, len(res.columns))
	for i, c := range res.columns {
		out[i] = metav1.TableColumnDefinition{Name: c.name, Type: c.kind, Format: c.format}
		if c.kind == "" {
			out[i].Type = "string"
		}
		if c.wide {
			out[i].Priority = 1
		}
	}
	return out
}

const (
	unknown = "<unknown>"
	none    = "<none>"
	unset   = "<unset>"
)

// age is how long ago t was, as kubectl writes it: "5m", "3d4h".
func age(t, now metav1.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func orUnknown(s string) string {
	if s == "" {
		return unknown
	}
	return s
}

// joinMost lists at most 3 of items.
func joinMost(items []string, empty string) string {
	const most = 3
	switch {
	case len(items) == 0:
		return empty
	case len(items) <= most:
		return strings.Join(items, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(items[:most], ","), len(items)-most)
}

func workloadCells(created, now metav1.Time, template corev1.PodTemplateSpec, selector *metav1.LabelSelector) []any {
	var names, images []string
	for _, c := range template.Spec.Containers {
		names, images = append(names, c.Name), append(images, c.Image)
	}
	return []any{age(created, now), strings.Join(names, ","), strings.Join(images, ","), metav1.FormatLabelSelector(selector)}
}
