package health

import (
	"cmp"
	"slices"
	"strings"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Applied is the revision that the cluster's objects of a source come from; false
// before there is one.
func Applied(r state.Reader, src *schema.Source) (*schema.Revision, bool) {
	return revisionOf(r, src.Name, src.Status.Applied.Commit)
}

// Asked is the revision that Git asks for; false before there is one.
func Asked(r state.Reader, src *schema.Source) (*schema.Revision, bool) {
	return revisionOf(r, src.Name, src.Status.Desired.Commit)
}

func revisionOf(r state.Reader, source, commit string) (*schema.Revision, bool) {
	if commit == "" {
		return nil, false
	}
	return state.Get[*schema.Revision](r, "", schema.RevisionName(source, commit))
}

// Means reports whether a user who says want may mean the revision: by its name, or
// by how its commit begins.
func Means(rev *schema.Revision, want string) bool {
	return want != "" && (rev.Name == want || strings.HasPrefix(rev.Spec.Commit, want))
}

// FindRevisions are those of the revisions that a user may mean, by name.
func FindRevisions(revs []*schema.Revision, want string) []*schema.Revision {
	var found []*schema.Revision
	for _, rev := range revs {
		if Means(rev, want) {
			found = append(found, rev)
		}
	}
	slices.SortFunc(found, func(a, b *schema.Revision) int { return cmp.Compare(a.Name, b.Name) })
	return found
}

// LastHealthy is the one of a source's revisions that was healthy most recently,
// other than those that failed since; nil if there is none.
func LastHealthy(revs []*schema.Revision) *schema.Revision {
	good := slices.DeleteFunc(slices.Clone(revs), func(rev *schema.Revision) bool { return !rev.GoodToGoBackTo() })
	if len(good) == 0 {
		return nil
	}
	return slices.MaxFunc(good, func(a, b *schema.Revision) int {
		return cmp.Or(a.Entered(schema.PhaseHealthy).Compare(b.Entered(schema.PhaseHealthy)), cmp.Compare(a.ResourceVersion, b.ResourceVersion))
	})
}
