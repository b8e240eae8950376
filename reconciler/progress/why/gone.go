package why

import (
	"fmt"
	"slices"

	"fairlead/reconciler/health"
	"fairlead/reconciler/progress"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Kept are the keys of objects of a kind that are gone and that a revision keeps
// evidence of, in any namespace where none is given; sorted.
func Kept(r state.Reader, kind schema.Kind, namespace, name string) []schema.Key {
	found := map[schema.Key]bool{}
	for rev := range state.All[*schema.Revision](r, "") {
		for _, e := range rev.Status.Evidence {
			key := schema.Key{Kind: kind, Namespace: e.Namespace(), Name: name}
			if (namespace == "" || namespace == key.Namespace) && isOf(e, key) && r.Get(key) == nil {
				found[key] = true
			}
		}
	}
	out := make([]schema.Key, 0, len(found))
	for key := range found {
		out = append(out, key)
	}
	slices.SortFunc(out, schema.Key.Compare)
	return out
}

// isOf reports whether evidence is of a pod with that key, or of a pod of the workload
// with that key.
func isOf(e schema.Evidence, key schema.Key) bool {
	return e.Workload == key.String() || podKey(e) == key
}

func evidenceOf(rev *schema.Revision, key schema.Key) (out []schema.Evidence) {
	for _, e := range rev.Status.Evidence {
		if isOf(e, key) {
			out = append(out, e)
		}
	}
	return out
}

// keptOf is the newest revision that has evidence of an object, and the evidence; nil
// where there is none.
func keptOf(r state.Reader, key schema.Key) (newest *schema.Revision, evidence []schema.Evidence) {
	for rev := range state.All[*schema.Revision](r, "") {
		found := evidenceOf(rev, key)
		if len(found) > 0 && (newest == nil || newest.Entered(schema.PhaseSeen).Before(rev.Entered(schema.PhaseSeen))) {
			newest, evidence = rev, found
		}
	}
	return newest, evidence
}

// gone tells of an object that is no longer there what its revision keeps of it.
func (c *chain) gone(key schema.Key, rev *schema.Revision, evidence []schema.Evidence) cause {
	c.commitLink(rev)
	reason, at := lastPhase(rev)
	c.add(rev, Link{Step: "revision", State: string(rev.Status.Phase) + ": " + reason, At: at})
	first := evidence[0]
	c.Links = append(c.Links, Link{Step: schema.Info(key.Kind).Singular, Name: key.Namespace + "/" + key.Name, State: "gone; it was on " + progress.Where(first), At: &first.At})
	c.Evidence = evidence
	found := cause{code: codeOf(first), text: fmt.Sprintf("it is gone with revision %s, which is %s; while it was there: %s", rev.Name, rev.Status.Phase, first.Reason)}
	if len(first.Log) > 0 {
		found.log = &Log{Namespace: first.Namespace(), Pod: first.PodName(), Container: first.Container, Lines: first.Log}
	}
	return found
}

// codeOf is the cause that evidence names. One that a later version knows is told as
// a failure.
func codeOf(e schema.Evidence) health.Code {
	if code := health.Code(e.Code); slices.ContainsFunc(health.Rules(), func(r health.Rule) bool { return r.Code == code }) {
		return code
	}
	return health.Failed
}
