package plan

import (
	"fmt"

	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// compareWith is a fork of the cluster as it would be had the source settled on
// another tree, with the fork that tree is settled on used up. It is false, and
// the plan refused, when that tree cannot be applied now.
func (p *Plan) compareWith(f *fork, src *schema.Source, with *Against) (*fork, bool) {
	of := fmt.Sprintf("the tree of %s, which is compared with", with.Commit.Short())
	if with.Diagnostics.HasErrors() {
		p.Diagnostics = with.Diagnostics
		return nil, !p.refused(of)
	}
	changes, diags := settle.Difference(f.tx, src.SourceName(), with.Objects)
	if diags.HasErrors() {
		// What cannot be changed in place is made anew.
		gone, _ := settle.Difference(f.tx, src.SourceName(), nil)
		settle.Apply(f.context(), gone)
		f.run()
		if changes, diags = settle.Difference(f.tx, src.SourceName(), with.Objects); diags.HasErrors() {
			p.Diagnostics = diags
			return nil, !p.refused(of)
		}
	}
	settle.Apply(f.context(), changes)
	applied := state.Edit(src)
	applied.Status.Applied = schema.CommitRef{Commit: with.Commit, Tree: with.Tree}
	f.tx.Put(applied)
	f.run()
	return f.next(), true
}
