package reconciler

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/follow"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// isLocked reports whether the vault does not know a value of one of the source's
// Secrets: after a start.
func (f *Follower) isLocked(r state.Reader, src *schema.Source) bool {
	for obj := range r.BySource(schema.KindSecret, src.SourceName()) {
		if _, ok := f.Vault.Open(obj.(*corev1.Secret)); !ok {
			return true
		}
	}
	return false
}

// open reads the values of a commit's Secrets again. What runs was judged when it was
// applied: rights that are narrower by now, and entries that a later version refuses,
// keep no pod from its Secrets.
func (f *Follower) open(ctx context.Context, src *schema.Source, git Git, commit schema.Commit) error {
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return follow.Unread(err, follow.TreeRefused, commit)
	}
	tree.Faults, tree.Refused = nil, nil
	return f.turns.take(ctx, src.SourceName(), func(ctx context.Context) error {
		objects, _ := f.Load(ctx, src.SourceName(), tree, src.Spec, schema.AllRights(), foreignNamespaces(f.Feed.Snapshot(), src.SourceName()))
		_, secrets := f.Vault.Seal(objects)
		f.Vault.Hold(secrets)()
		return ctx.Err()
	})
}
