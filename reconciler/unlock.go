package reconciler

import (
	"context"

	"fairlead/reconciler/follow"
	"fairlead/schema"
)

// open reads the values of a commit's Secrets again. What runs was judged when it was
// applied: rights that are narrower by now, and entries that a later version refuses,
// keep no pod from its Secrets. What they take is told to the loop: other sources are
// judged beside it.
func (f *Follower) open(ctx context.Context, src *schema.Source, git Git, commit schema.Commit) error {
	tree, err := git.Tree(commit, src.Spec.Path)
	if err != nil {
		return follow.Unread(err, follow.TreeRefused, commit)
	}
	tree.Faults, tree.Refused = nil, nil
	return f.turns.take(ctx, src.SourceName(), func(ctx context.Context) error {
		objects, _ := f.Load(ctx, src.SourceName(), tree, src.Spec, schema.AllRights(), NamespacesOutside(f.Feed.Snapshot(), src.SourceName()))
		_, secrets := f.Vault.Seal(objects)
		f.Vault.Hold(secrets)()
		if err := ctx.Err(); err != nil {
			return err
		}
		size := SecretSize{Source: src.SourceName(), Commit: commit, KiB: secretKiB(secrets.size())}
		if size.KiB == src.Status.SecretKiB {
			return nil
		}
		return f.Loop.Post(ctx, size)
	})
}
