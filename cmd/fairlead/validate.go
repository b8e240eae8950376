package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"fairlead/schema"
	"fairlead/schema/layout"
	"fairlead/schema/load"
)

func validateCommand() *cobra.Command {
	var spec schema.SourceSpec
	var output string
	cmd := &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check a tree of manifests, offline",
		Long: `Check the manifests below PATH, a directory or one file, the current directory
if left out. Everything wrong is told at once, each at its line. Nothing is
asked of a cluster.

A PATH without manifests is invalid: nothing was checked.

Exit code 0 means valid, 1 invalid, 2 that the command was called wrongly.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "."
			if len(args) == 1 {
				path = args[0]
			}
			return validate(cmd, path, spec, output)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	flags.StringVarP(&spec.Namespace, "namespace", "n", "default", "namespace of objects that name none")
	flags.StringVar(&spec.Unsupported, "unsupported", "error", "what becomes of fields that are not acted on yet and only add behaviour: error or warn")
	flags.StringSliceVar(&spec.Include, "include", nil, "read only files that match a glob; may be repeated")
	flags.StringSliceVar(&spec.Exclude, "exclude", nil, "leave out files that match a glob; may be repeated")
	return cmd
}

func validate(cmd *cobra.Command, path string, spec schema.SourceSpec, output string) error {
	if output != "text" && output != "json" {
		return usageErrorf("--output %s: must be text or json", output)
	}
	if err := checkSourceFlags(spec); err != nil {
		return err
	}
	tree, err := load.Directory(path)
	if err != nil {
		return &exitError{code: 2, err: err}
	}
	result := load.Load(cmd.Context(), tree, spec, load.Options{VerdictOnly: true})
	report := validation{
		Files: result.Files, Objects: result.Count,
		Diagnostics: fromHere(result.Diagnostics, path),
	}
	report.notEmpty(path)
	report.count()
	if output == "json" {
		err = writeAs(cmd.OutOrStdout(), output, report)
	} else {
		report.writeText(cmd.OutOrStdout())
	}
	if err == nil && !report.Valid {
		return &exitError{code: 1}
	}
	return err
}

// checkSourceFlags holds the flags to what a Source may say.
func checkSourceFlags(spec schema.SourceSpec) error {
	spec.Embedded = true
	source := &schema.Source{Spec: schema.DefaultSourceSpec(spec)}
	source.Name = "flags"
	var problems []error
	for _, p := range schema.Validate(source) {
		flag, _, _ := strings.Cut(strings.TrimPrefix(p.Field, "spec."), "[")
		problems = append(problems, fmt.Errorf("--%s: %s", flag, p.Message))
	}
	if len(problems) > 0 {
		return &exitError{code: 2, err: errors.Join(problems...)}
	}
	return nil
}

// fromHere rewrites paths relative to the tree as paths relative to where the
// user stands.
func fromHere(diagnostics schema.Diagnostics, tree string) schema.Diagnostics {
	if info, err := os.Stat(tree); err == nil && !info.IsDir() {
		tree = filepath.Dir(tree)
	}
	out := make(schema.Diagnostics, len(diagnostics))
	for i, d := range diagnostics {
		d.Path = filepath.Join(tree, filepath.FromSlash(d.Path))
		out[i] = d
	}
	return out
}

// validation is what validate says, and its JSON.
type validation struct {
	Valid       bool               `json:"valid"`
	Files       int                `json:"files"`
	Objects     int                `json:"objects"`
	Errors      int                `json:"errors"`
	Warnings    int                `json:"warnings"`
	Diagnostics schema.Diagnostics `json:"diagnostics"`
}

// notEmpty tells of a path below which there was nothing to check: most often it is
// the wrong one.
func (v *validation) notEmpty(path string) {
	switch {
	case len(v.Diagnostics) > 0 || v.Objects > 0:
	case v.Files == 0:
		v.Diagnostics = append(v.Diagnostics, schema.Diagnostic{
			Position: schema.Position{Path: path}, Severity: schema.Error, Message: "there are no manifests here, so nothing was checked",
			Hint: "manifests are the files named .yaml, .yml, .json and .cue that are not left out",
		})
	default:
		v.Diagnostics = append(v.Diagnostics, schema.Diagnostic{
			Position: schema.Position{Path: path}, Severity: schema.Warning, Message: "there are no objects in the manifests here",
		})
	}
}

func (v *validation) count() {
	for _, d := range v.Diagnostics {
		if d.Severity == schema.Error {
			v.Errors++
		} else {
			v.Warnings++
		}
	}
	v.Valid = v.Errors == 0
}

func (v *validation) writeText(w io.Writer) {
	var b strings.Builder
	for _, d := range v.Diagnostics {
		fmt.Fprintln(&b, d)
	}
	in := " in " + plural(v.Files, "file")
	switch {
	case v.Errors > 0 && v.Warnings > 0:
		fmt.Fprintf(&b, "%s, %s%s\n", plural(v.Errors, "error"), plural(v.Warnings, "warning"), in)
	case v.Errors > 0:
		fmt.Fprintf(&b, "%s%s\n", plural(v.Errors, "error"), in)
	case v.Warnings > 0:
		fmt.Fprintf(&b, "%s%s, valid, %s\n", plural(v.Objects, "object"), in, plural(v.Warnings, "warning"))
	default:
		fmt.Fprintf(&b, "%s%s, valid\n", plural(v.Objects, "object"), in)
	}
	layout.WriteText(w, b.String())
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
