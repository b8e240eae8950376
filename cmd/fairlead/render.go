package main

import (
	"fmt"
	"maps"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime"

	"fairlead/cmd/fairlead/internal/validation"
	"fairlead/schema"
	"fairlead/schema/layout"
	"fairlead/schema/load"
)

// renderFlags are the flags of render.
type renderFlags struct {
	spec   schema.SourceSpec
	output string
}

func renderCommand() *cobra.Command {
	var flags renderFlags
	cmd := &cobra.Command{
		Use:   "render [PATH]",
		Short: "Print the objects that a tree comes to",
		Long: `Print the objects that the manifests below PATH (default: the current directory)
come to: what kustomizations build, what CUE evaluates to, what YAML and JSON say,
with defaults and namespaces filled in, as plan and push judge them. They are
sorted by kind, namespace and name, so that two trees can be compared.

Nothing is asked of a cluster: what a Source says, flags say here. Kinds that are
left out, with a warning, are not printed. The values of Secrets are, as they
stand in the tree: do not keep what is printed where others read it.

A tree with errors is not printed: they are told as validate tells them.

Exit code 0 means printed, 1 invalid, 2 that the command was called wrongly.`,
		Example: `  fairlead render overlays/prod
  diff <(fairlead render overlays/dev) <(fairlead render overlays/prod)`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "."
			if len(args) == 1 {
				name = args[0]
			}
			return flags.render(cmd, name)
		},
	}
	outputFlag(cmd, &flags.output, "yaml", "json")
	specFlags(cmd, &flags.spec)
	return cmd
}

func (f *renderFlags) render(cmd *cobra.Command, name string) error {
	if err := checkSourceFlags(f.spec); err != nil {
		return err
	}
	part := alone(cmd.Context(), name)
	tree, err := part.tree()
	if err != nil {
		return &exitError{code: 2, err: err}
	}
	spec := f.spec
	spec.Path = part.prefix
	result := load.Load(cmd.Context(), tree, spec, load.Options{})
	report := validation.Of(name, validation.Checked{Files: result.Files, Objects: result.Count, Below: part.reads(tree, spec)}, part.told(result.Diagnostics))
	for _, d := range report.Diagnostics {
		layout.WriteText(cmd.ErrOrStderr(), fmt.Sprintln(d))
	}
	if !report.Valid {
		return &exitError{code: 1}
	}
	objects, err := rendered(result.Objects)
	if err != nil {
		return err
	}
	return writeObjects(cmd, f.output, objects)
}

// rendered are objects as they would be written: without what the loader noted in them
// and what a cluster fills in.
func rendered(all []*schema.Desired) ([]any, error) {
	var out []any
	for _, d := range all {
		obj := d.Object.DeepCopyObject().(schema.Object)
		annotations := obj.GetAnnotations()
		maps.DeleteFunc(annotations, func(key, _ string) bool { return schema.IsOriginAnnotation(key) })
		if len(annotations) == 0 {
			obj.SetAnnotations(nil)
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", schema.KeyOf(obj), err)
		}
		delete(content, "status")
		out = append(out, withoutNulls(content))
	}
	return out, nil
}

// withoutNulls takes out fields without a value, which the types have where nothing was
// written.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value == nil {
				delete(v, key)
			} else {
				v[key] = withoutNulls(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}

// writeObjects writes objects as documents of YAML, or as one List of JSON.
func writeObjects(cmd *cobra.Command, format string, objects []any) error {
	if format == "json" {
		return writeAs(cmd.OutOrStdout(), format, map[string]any{"apiVersion": "v1", "kind": "List", "items": list(objects)})
	}
	for i, o := range objects {
		if i > 0 {
			fmt.Fprintln(cmd.OutOrStdout(), "---")
		}
		if err := writeAs(cmd.OutOrStdout(), format, o); err != nil {
			return err
		}
	}
	return nil
}
