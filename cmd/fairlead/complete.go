package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

const (
	// completionTimeout bounds how long a shell waits for a cluster that may be down.
	completionTimeout = 2 * time.Second
	// maxOffers bounds what one completion offers: more nobody reads.
	maxOffers = 1000
)

// offer completes a flag with what values says at that moment.
func offer(cmd *cobra.Command, flag string, values func(cmd *cobra.Command) []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return beginning(typed, values(cmd)), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic("complete --" + flag + ": " + err.Error()) // the flag is not there, or is offered twice
	}
}

// offerFirst completes the first argument.
func offerFirst(cmd *cobra.Command, values func(cmd *cobra.Command, typed string) []string) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		offers := beginning(typed, values(cmd, typed))
		if len(offers) > 0 && strings.HasSuffix(offers[0], "/") {
			directive |= cobra.ShellCompDirectiveNoSpace // a name comes behind it
		}
		return offers, directive
	}
}

// beginning is what of the values begins as typed. What is behind a tab describes.
func beginning(typed string, values []string) []string {
	out := slices.DeleteFunc(slices.Clone(values), func(v string) bool { return !strings.HasPrefix(v, typed) })
	return out[:min(len(out), maxOffers)]
}

// named lists the objects of a kind as completions; nothing where there is no cluster
// that answers at once.
func named[T schema.Object](f *clusterFlags, kind schema.Kind, about func(T) string) []string {
	c, err := f.connect()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	objects, _, err := client.List[T](ctx, c, kind)
	if err != nil {
		return nil
	}
	var out []string
	for _, obj := range objects {
		if offered := about(obj); offered != "" {
			out = append(out, schema.Printable(offered))
		}
	}
	return out
}

func (f *clusterFlags) sources(*cobra.Command) []string {
	return named(f, schema.KindFor[*schema.Source](), func(s *schema.Source) string { return s.Name })
}

func (f *clusterFlags) nodes(*cobra.Command) []string {
	return named(f, schema.KindFor[*corev1.Node](), func(n *corev1.Node) string { return n.Name })
}

// revisions are those of the source that the command is about, newest first.
func (f *clusterFlags) revisions(*cobra.Command) []string {
	revs := map[string]*schema.Revision{}
	names := named(f, schema.KindFor[*schema.Revision](), func(r *schema.Revision) string {
		if r.Spec.Source != f.source {
			return ""
		}
		revs[schema.Printable(r.Name)] = r
		return r.Name
	})
	slices.SortFunc(names, func(a, b string) int { return newestFirst(revs[a], revs[b]) })
	return names
}

// objects complete KIND/NAME: the kinds until there is a slash, then the names.
func (f *clusterFlags) objects(namespace, typed string) []string {
	kind, _, slash := strings.Cut(typed, "/")
	var out []string
	for _, info := range schema.Kinds() {
		switch {
		case !slash:
			out = append(out, info.Singular+"/")
		case isCalled(info, kind):
			out = named(f, info.Kind, func(obj schema.Object) string {
				if info.Namespaced && namespace != "" && obj.GetNamespace() != namespace {
					return ""
				}
				return kind + "/" + obj.GetName()
			})
			slices.Sort(out)
			return slices.Compact(out)
		}
	}
	return out
}

// sources are the names of those that the master's configuration or directory has.
func (f *authorityFlags) sources(*cobra.Command) []string {
	c, err := f.read()
	if err != nil {
		return nil
	}
	var out []string
	for _, s := range c.Sources {
		out = append(out, s.Name)
	}
	for _, place := range []string{"git", "cache"} {
		found, _ := filepath.Glob(filepath.Join(c.Dir, place, "*.git")) // the pattern is well formed
		for _, dir := range found {
			out = append(out, strings.TrimSuffix(filepath.Base(dir), ".git"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
