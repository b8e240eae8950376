package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/cmd/fairlead/internal/validation"
	"fairlead/schema"
	"fairlead/schema/layout"
	"fairlead/schema/load"
)

// askTimeout bounds how long validate waits for a cluster that need not be there.
const askTimeout = 5 * time.Second

// validateFlags are the flags of validate.
type validateFlags struct {
	spec       schema.SourceSpec
	output     string
	kubeconfig string
	source     schema.SourceName
}

func validateCommand() *cobra.Command {
	var flags validateFlags
	cmd := &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check a tree of manifests without applying it",
		Long: `Check the manifests below PATH, a directory or one file, the current directory
if left out. Everything wrong is told at once, each at its line.

In a clone of a source's repository, what the Source says of path, include,
exclude, namespace, unsupported, createNamespaces and missingReferences holds,
if the cluster can be asked; flags override it. All that the Source reads is
judged then, beside what other sources have there; what is wrong at or below PATH
is told. If the cluster cannot be asked, a Source's defaults hold, and a
line says so. A ConfigMap or Secret of which only the answer is missing is a
warning.

A file that is part of a kustomization is not checked alone: name its directory.
A PATH without manifests is invalid: nothing was checked.

Exit code 0 means valid, 1 invalid, 2 that the command was called wrongly.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "."
			if len(args) == 1 {
				name = args[0]
			}
			return flags.validate(cmd, name)
		},
	}
	f := cmd.Flags()
	outputFlag(cmd, &flags.output, "text", "json", "yaml")
	specFlags(cmd, &flags.spec)
	f.StringVar((*string)(&flags.source), "source", "", "source that the tree is of (default the one whose repository PATH is a clone of)")
	offer(cmd, "source", func(cmd *cobra.Command) []string { return (&clusterFlags{kubeconfig: flags.kubeconfig}).sources(cmd) })
	f.StringVar(&flags.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster that is asked (default $KUBECONFIG, else the cluster that up made last)")
	return cmd
}

// specFlags registers flags that say what a Source says.
func specFlags(cmd *cobra.Command, spec *schema.SourceSpec) {
	f := cmd.Flags()
	f.StringVarP(&spec.Namespace, "namespace", "n", "default", "namespace of objects that name none")
	f.StringVar(&spec.Unsupported, "unsupported", "error", "what becomes of fields that are not acted on yet and only add behaviour: error or warn")
	f.BoolVar(&spec.CreateNamespaces, "create-namespaces", false, "take objects in namespaces that nobody declares, which are made then")
	f.StringVar(&spec.MissingReferences, "missing-references", "error", "what becomes of pods that name a ConfigMap or Secret that nobody declares: error or wait")
	f.StringSliceVar(&spec.Include, "include", nil, "read only files that match a glob; may be repeated")
	f.StringSliceVar(&spec.Exclude, "exclude", nil, "leave out files that match a glob; may be repeated")
	offer(cmd, "unsupported", func(*cobra.Command) []string { return []string{"error", "warn"} })
	offer(cmd, "missing-references", func(*cobra.Command) []string { return []string{schema.ErrorOnMissing, schema.WaitForMissing} })
}

func (f *validateFlags) validate(cmd *cobra.Command, name string) error {
	if err := checkSourceFlags(f.spec); err != nil {
		return err
	}
	part, spec, around, err := f.settings(cmd, name)
	if err != nil {
		return &exitError{code: 2, err: err}
	}
	tree, err := part.tree()
	if err != nil {
		return &exitError{code: 2, err: err}
	}
	options := around.options()
	options.DiagnosticsOnly = true
	result := load.Load(cmd.Context(), tree, spec, options)
	if err := around.unasked(); err != nil {
		layout.Fprintf(cmd.ErrOrStderr(), "note: not all that other sources have could be asked for: %v\n", err)
	}
	told := part.told(result.Diagnostics)
	report := validation.Of(name, validation.Checked{Files: result.Files, Objects: result.Count, Below: part.reads(tree, spec)}, told)
	if elsewhere := len(result.Diagnostics) - len(told); elsewhere > 0 {
		layout.Fprintf(cmd.ErrOrStderr(), "note: %s elsewhere in what the source reads\n", layout.Count(elsewhere, "diagnostic"))
	}
	if f.output != "text" {
		err = writeAs(cmd.OutOrStdout(), f.output, report)
	} else {
		layout.WriteText(cmd.OutOrStdout(), report.Text())
	}
	if err == nil && !report.Valid {
		return &exitError{code: 1}
	}
	return err
}

// settings are what to judge at a place, by what, and beside what: the Source's spec and
// what other sources have where these can be had, with what flags say in their place.
func (f *validateFlags) settings(cmd *cobra.Command, name string) (portion, schema.SourceSpec, *surroundings, error) {
	co, isClone := checkoutAt(cmd.Context(), name)
	defaults, own := alone(cmd.Context(), name), f.spec
	own.Path = defaults.prefix
	if !isClone && f.source == "" {
		return defaults, own, nil, nil
	}
	src, around, err := f.ask(cmd.Context(), co)
	part := defaults
	switch {
	case err != nil:
	case co.IsOf(src):
		part, err = co.whole(cmd.Context(), src, name)
	default:
		part = elsewhere(cmd.Context(), src, name)
	}
	switch {
	case err != nil && (f.source != "" || f.kubeconfig != ""):
		return defaults, own, nil, err
	case err != nil:
		if !f.saysAny(cmd) {
			layout.Fprintf(cmd.ErrOrStderr(), "note: judged by the defaults of a Source: %v\n", err)
		}
		return defaults, own, nil, nil
	}
	return part, f.over(cmd, src.Spec), around, nil
}

// ask finds the source that a place in a clone belongs to, and what it lies beside.
func (f *validateFlags) ask(ctx context.Context, co checkout) (*schema.Source, *surroundings, error) {
	kubeconfig, err := client.Find(f.kubeconfig)
	if err != nil {
		return nil, nil, errors.New("there is no cluster to ask")
	}
	c, err := client.Open(kubeconfig)
	if err != nil {
		return nil, nil, err
	}
	limited, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	sources, err := sourcesOf(limited, c)
	if err != nil {
		return nil, nil, err
	}
	var src *schema.Source
	if f.source != "" {
		src, err = sourceNamed(sources, f.source)
	} else if src, err = co.SourceOf(sources); src == nil && err == nil {
		err = errors.New("no source of the cluster follows this repository")
	}
	if err != nil {
		return nil, nil, err
	}
	around, err := readSurroundings(limited, ctx, c, src.SourceName())
	return src, around, err
}

// ownFlags are those that say what a Source says.
var ownFlags = []string{"namespace", "unsupported", "include", "exclude", "create-namespaces", "missing-references"}

func (f *validateFlags) saysAny(cmd *cobra.Command) bool {
	return slices.ContainsFunc(ownFlags, func(name string) bool { return cmd.Flags().Changed(name) })
}

// over is the Source's spec with what flags say.
func (f *validateFlags) over(cmd *cobra.Command, spec schema.SourceSpec) schema.SourceSpec {
	for _, name := range ownFlags {
		if !cmd.Flags().Changed(name) {
			continue
		}
		switch name {
		case "namespace":
			spec.Namespace = f.spec.Namespace
		case "unsupported":
			spec.Unsupported = f.spec.Unsupported
		case "create-namespaces":
			spec.CreateNamespaces = f.spec.CreateNamespaces
		case "missing-references":
			spec.MissingReferences = f.spec.MissingReferences
		case "include":
			spec.Include = f.spec.Include
		case "exclude":
			spec.Exclude = f.spec.Exclude
		}
	}
	return spec
}

// checkSourceFlags holds the flags to what a Source may say.
func checkSourceFlags(spec schema.SourceSpec) error {
	spec.Embedded = true
	source := &schema.Source{Spec: schema.DefaultSourceSpec(spec)}
	source.Name = "flags"
	var problems []error
	for _, p := range schema.Validate(source) {
		field, _, _ := strings.Cut(strings.TrimPrefix(p.Field, "spec."), "[")
		flag := strings.Replace(field, "missingReferences", "missing-references", 1)
		problems = append(problems, fmt.Errorf("--%s: %s", flag, p.Message))
	}
	if len(problems) > 0 {
		return &exitError{code: 2, err: errors.Join(problems...)}
	}
	return nil
}
