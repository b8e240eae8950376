// Package validation is the answer to whether a tree is valid, and how it reads. The
// command validate gives it.
package validation

import (
	"fmt"
	"strings"

	"fairlead/schema"
	"fairlead/schema/layout"
)

// Report is what validate says, and its JSON.
type Report struct {
	Valid       bool               `json:"valid"`
	Files       int                `json:"files"`
	Objects     int                `json:"objects"`
	Errors      int                `json:"errors"`
	Warnings    int                `json:"warnings"`
	Diagnostics schema.Diagnostics `json:"diagnostics"`
}

// Checked is how much was looked at.
type Checked struct {
	Files   int // that were read
	Objects int // in them
	Below   int // files that count, at or below the path that was asked about
}

// Of reports on a path: told is what there is to say of it.
func Of(path string, n Checked, told schema.Diagnostics) Report {
	r := Report{Files: n.Files, Objects: n.Objects, Diagnostics: append(told, nothingChecked(path, n, told)...)}
	for _, d := range r.Diagnostics {
		if d.Severity == schema.Error {
			r.Errors++
		} else {
			r.Warnings++
		}
	}
	r.Valid = r.Errors == 0
	return r
}

// nothingChecked tells of a path below which there was nothing to check: most often it
// is the wrong one.
func nothingChecked(path string, n Checked, told schema.Diagnostics) schema.Diagnostics {
	switch {
	case len(told) > 0 || n.Below > 0 && n.Objects > 0:
		return nil
	case n.Below == 0:
		return schema.Diagnostics{{
			Position: schema.Position{Path: path}, Severity: schema.Error, Message: "there are no manifests here, so nothing was checked",
			Hint: "manifests are the files named .yaml, .yml, .json and .cue that are not left out",
		}}
	}
	return schema.Diagnostics{{Position: schema.Position{Path: path}, Severity: schema.Warning, Message: "there are no objects in the manifests here"}}
}

// Text is each diagnostic in its lines, and what they come to in the last.
func (r Report) Text() string {
	var b strings.Builder
	for _, d := range r.Diagnostics {
		fmt.Fprintln(&b, d)
	}
	in := " in " + layout.Count(r.Files, "file")
	switch {
	case r.Errors > 0 && r.Warnings > 0:
		fmt.Fprintf(&b, "%s, %s%s\n", layout.Count(r.Errors, "error"), layout.Count(r.Warnings, "warning"), in)
	case r.Errors > 0:
		fmt.Fprintf(&b, "%s%s\n", layout.Count(r.Errors, "error"), in)
	case r.Warnings > 0:
		fmt.Fprintf(&b, "%s%s, valid, %s\n", layout.Count(r.Objects, "object"), in, layout.Count(r.Warnings, "warning"))
	default:
		fmt.Fprintf(&b, "%s%s, valid\n", layout.Count(r.Objects, "object"), in)
	}
	return b.String()
}
