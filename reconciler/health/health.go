// Package health answers "is it well?" of any workload: whether it is complete and
// how far it is, what troubles it, whose fault that is, who must act and since
// when. It is the one answer to that question: the revision's phases, the lines of
// progress, status, the explanations and the API all ask it. It judges from objects
// alone, as the tables or the API have them, and does nothing about what it finds.
package health

import (
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Trouble is what keeps a workload, or one pod, from being well. One whose code is
// Healthy or Completed is none.
type Trouble struct {
	Code  Code
	Fault Fault  // the code's, unless it is too early to blame anybody
	Text  string // one sentence, no full stop; names the pod and the container
	// Since is when the pod got its node, its creation before that; zero where the
	// trouble is no pod's.
	Since     time.Time
	Pod       schema.Key
	Container string // "" when it is the whole pod
	Running   bool   // the container runs; only its probes are missing
	// Previous says that the container's run before this one shows the trouble.
	Previous bool
}

func newTrouble(code Code, text string) Trouble {
	_, rule := RuleOf(code)
	return Trouble{Code: code, Fault: rule.Fault, Text: text}
}

// Well reports whether it is no trouble at all.
func (t Trouble) Well() bool { return t.Code == Healthy || t.Code == Completed }

// Worse reports whether t is to be told rather than other, of two workloads or pods.
func (t Trouble) Worse(other Trouble) bool {
	rank, _ := RuleOf(t.Code)
	than, _ := RuleOf(other.Code)
	return rank < than
}

// Workload is how one workload is.
type Workload struct {
	Object schema.Object
	// Complete says that the latest change was acted on and every pod that is asked
	// for is there, of the current template, and available or through with its work.
	Complete bool
	// Unseen says that no controller has looked at the latest change yet.
	Unseen bool
	// Failed is why it has failed for good, nil while it may still get there.
	Failed *Trouble
	// Leaving says that it is to go: nothing but its end is awaited.
	Leaving bool
	// Moved is when it came nearer to being complete for the last time; zero when it
	// has not for longer than it is allowed.
	Moved time.Time
	// Deadline is how long it may go without a move; zero where it does not say.
	Deadline time.Duration
	// Troubles are what keeps it from being complete, in the order of the pods' names,
	// found one after the other as they are asked for: of thousands of pods the first
	// tells enough most of the time. Of a complete workload there are none.
	Troubles iter.Seq[Trouble]
	// Pods are those of its current template, in name order.
	Pods iter.Seq[*corev1.Pod]

	progress func() string // worded when somebody asks: most are judged and not told of
}

// Progress is how far it is, in words.
func (w Workload) Progress() string { return w.progress() }

// Name is the workload's kind and key, "Deployment shop/api".
func (w Workload) Name() string { return schema.KeyOf(w.Object).String() }

// row is what is known of one kind.
type row struct {
	kind schema.Kind
	// of judges one. It fills in all but Object.
	of schema.Cell[judgement]
	// in are those of a source that nothing else made.
	in schema.Cell[workloads]
	// current reports whether what owner controls is of its present template.
	current schema.Cell[owning]
}

type (
	judgement = func(r state.Reader, obj schema.Object, now time.Time) Workload
	owning    = func(r state.Reader, owner, owned schema.Object) bool
	workloads = func(r state.Reader, source schema.SourceName) iter.Seq[schema.Object]
)

// rows are the kinds in the order in which their workloads are told. Those that run
// nothing are well as soon as they are applied.
var rows = schema.RowsOf(func(r *row) schema.Kind { return r.kind }, slices.Concat([]row{deploymentRow, replicaSetRow, jobRow, cronJobRow, podRow}, idle)...)

// Of is how a workload is at now. A kind that has no row is not complete, and told
// as such: what nobody can judge is never well.
func Of(r state.Reader, obj schema.Object, now time.Time) Workload {
	kind := schema.KindOf(obj)
	w := unknown(kind)
	if row := rows.Of(kind); row != nil && row.of.Do != nil {
		w = row.of.Do(r, obj, now)
	}
	w.Object = obj
	return w
}

// Counts reports whether a source's objects of that kind are among In: whether they
// are well decides how its revision is.
func Counts(kind schema.Kind) bool {
	for _, w := range walks {
		if w.kind == kind {
			return true
		}
	}
	return false
}

// WorkloadOf is what stands in Git of which the pod is: itself where nothing made it.
// False for a pod of an earlier template, and for one whose owner is gone.
func WorkloadOf(r state.Reader, pod *corev1.Pod) (schema.Object, bool) {
	obj := schema.Object(pod)
	for range len(rows.All()) { // what owns nothing of its own kind ends sooner
		ref := metav1.GetControllerOfNoCopy(obj)
		if ref == nil {
			return obj, true
		}
		info, ok := schema.Lookup(schema.Kind(ref.Kind))
		if !ok {
			return nil, false
		}
		owner := r.Get(schema.Key{Kind: info.Kind, Namespace: obj.GetNamespace(), Name: ref.Name})
		if owner == nil {
			return nil, false
		}
		if row := rows.Of(info.Kind); row != nil && row.current.Do != nil && !row.current.Do(r, owner, obj) {
			return nil, false
		}
		obj = owner
	}
	return nil, false
}

func unknown(kind schema.Kind) Workload {
	told := newTrouble(Unknown, "this version cannot judge the health of kind "+string(kind))
	return Workload{progress: func() string { return told.Text }, Troubles: just(told), Pods: none[*corev1.Pod]}
}

// In are the workloads of a source that nothing else made, kind by kind in the order
// of the rows, in key order. Those of a kind without a row come last.
func In(r state.Reader, source schema.SourceName) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		for _, walk := range walks {
			for obj := range walk.in(r, source) {
				if !yield(obj) {
					return
				}
			}
		}
	}
}

// walk is the way to a source's workloads of one kind.
type walk struct {
	kind schema.Kind
	in   workloads
}

var walks = walksOf(schema.Kinds())

// walksOf are the ways to a source's workloads, one for each kind that has or should
// have a row.
func walksOf(kinds []schema.KindInfo) (out []walk) {
	for _, row := range rows.All() {
		if row.in.Do != nil {
			out = append(out, walk{row.kind, row.in.Do})
		}
	}
	for _, info := range kinds {
		if info.Desired && rows.Of(info.Kind) == nil {
			out = append(out, walk{info.Kind, bySource(info.Kind)})
		}
	}
	return out
}

func bySource(kind schema.Kind) workloads {
	return func(r state.Reader, source schema.SourceName) iter.Seq[schema.Object] {
		return r.BySource(kind, source)
	}
}

// barePods walks the pods without an owner: a source's own are mostly made by others.
func barePods(r state.Reader, source schema.SourceName) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		for obj := range r.By(state.PodsByOwner, "") {
			if schema.SourceOf(obj) == source && metav1.GetControllerOfNoCopy(obj) == nil && !yield(obj) {
				return
			}
		}
	}
}

func just[T any](one T) iter.Seq[T] { return func(yield func(T) bool) { yield(one) } }

func none[T any](func(T) bool) {}
