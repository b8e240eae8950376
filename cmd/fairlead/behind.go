package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fairlead/cmd/fairlead/internal/place"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// maxBehind is how many commits a note names that a tree lacks.
const maxBehind = 5

// behind tells that a clone's commit lacks commits that the source's branch has: its
// tree, planned or pushed over them, takes back what they did. It is "" when it lacks
// none that changed what the source reads.
func (co checkout) behind(ctx context.Context, src *schema.Source) string {
	tip := cmp.Or(src.Status.Desired.Commit, src.Status.Applied.Commit)
	head, err := co.git.commit(ctx, "HEAD")
	if err != nil || tip == "" || head == tip || slices.Contains(co.parents(ctx, head), tip) {
		return ""
	}
	branch := src.Spec.Branch
	unknown := fmt.Sprintf("whether this tree lacks commits of %s cannot be told: %%s, %s", branch, co.git.deepen(ctx, branch))
	if _, err := co.git.commit(ctx, string(tip)); err != nil {
		return fmt.Sprintf(unknown, "commit "+tip.Short()+", which it is at, is not in this clone")
	}
	if _, err := co.git.run(ctx, "merge-base", "--is-ancestor", string(tip), string(head)); err == nil {
		return ""
	}
	if co.git.isShallow(ctx) {
		return fmt.Sprintf(unknown, "the history of this clone is cut off")
	}
	lacks := []string{string(head) + ".." + string(tip), "--"}
	if reads := place.SourcePath(src.Spec); reads != "" {
		lacks = append(lacks, ":(top,literal)"+reads)
	}
	n, err := strconv.Atoi(co.git.ask(ctx, append([]string{"rev-list", "--count"}, lacks...)...))
	if err != nil || n == 0 {
		return ""
	}
	log := co.git.ask(ctx, append([]string{"log", fmt.Sprintf("--max-count=%d", maxBehind), "--format=%h %s (%an)"}, lacks...)...)
	names := strings.Split(log, "\n")
	if more := n - len(names); more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return fmt.Sprintf("this tree is behind %s: the plan takes back %s of it: %s. Merge %s into it, or rebase it, to see what it changes itself",
		branch, layout.Count(n, "commit"), strings.Join(names, ", "), branch)
}

// parents are a commit's as it was written: in a shallow clone git walks none of them.
func (co checkout) parents(ctx context.Context, commit schema.Commit) (out []schema.Commit) {
	header, _, _ := strings.Cut(co.git.ask(ctx, "cat-file", "commit", string(commit)), "\n\n")
	for line := range strings.Lines(header) {
		if parent, ok := strings.CutPrefix(line, "parent "); ok {
			out = append(out, schema.Commit(strings.TrimSpace(parent)))
		}
	}
	return out
}

func (c clone) isShallow(ctx context.Context) bool {
	return c.ask(ctx, "rev-parse", "--is-shallow-repository") == "true"
}

// deepen says how to get the commits of a branch that the clone lacks.
func (c clone) deepen(ctx context.Context, branch string) string {
	if c.isShallow(ctx) {
		return fmt.Sprintf("run `git fetch --unshallow %s %s` first", cmp.Or(c.remote(ctx, branch), "<remote>"), branch)
	}
	return "run `git fetch` first"
}
