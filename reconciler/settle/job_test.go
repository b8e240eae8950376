package settle

import (
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
)

func job(change ...func(*batchv1.Job)) *batchv1.Job {
	ttl := int32(60)
	j := objecttest.Job("migrate", append([]func(*batchv1.Job){func(j *batchv1.Job) { j.Spec.TTLSecondsAfterFinished = &ttl }}, change...)...)
	schema.Default(j)
	return j
}

// jobWorld is a source's Job on one node, with the engine.
type jobWorld struct {
	t         *testing.T
	at        *state.Snapshot
	queue     *Queue
	addresses int // given to pods
	now       time.Time
}

func newJobWorld(t *testing.T) *jobWorld {
	w := &jobWorld{t: t, at: state.Empty(state.Counters{}), queue: NewQueue(), now: now}
	w.round(func(tx *state.Txn) {
		tx.Put(objecttest.Node("n1", "8", "1Gi"))
		tx.Put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}})
	})
	return w
}

func (w *jobWorld) round(f func(tx *state.Txn)) {
	tx := w.at.Begin()
	f(tx)
	for e := engine(); ; {
		e.Run(tx, w.queue, w.now)
		if w.queue.Rested() {
			break
		}
	}
	w.at = tx.Commit()
}

// apply applies the objects as the source's tree and returns what that changed.
func (w *jobWorld) apply(objs ...schema.Object) (actions []Action) {
	w.t.Helper()
	tree := desired(objs...)
	changes, diags := Difference(w.at, "main", tree)
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	w.take(tree, changes, false)
	for _, ch := range changes {
		actions = append(actions, ch.Action)
	}
	return actions
}

func (w *jobWorld) take(tree []*schema.Desired, changes []ObjectChange, back bool) {
	w.round(func(tx *state.Txn) {
		src, _ := state.Source(tx, "main")
		next := state.Edit(src)
		next.Status.Finished = Finished(tx, src, tree, changes, back)
		tx.Put(next)
		Apply(engine().Context(tx, w.now), changes)
	})
}

func (w *jobWorld) pods() []*corev1.Pod { return slices.Collect(state.All[*corev1.Pod](w.at, "")) }

// succeed ends every pod well.
func (w *jobWorld) succeed() {
	w.round(func(tx *state.Txn) {
		for pod := range state.All[*corev1.Pod](tx, "") {
			next := state.Edit(pod)
			next.Status.Phase = corev1.PodSucceeded
			tx.Put(next)
		}
	})
}

// A Job that went by its time to live is made again only when it asks for something
// else.
func TestAJobThatWentIsNotMadeAgain(t *testing.T) {
	w := newJobWorld(t)
	if got := w.apply(job()); !slices.Equal(got, []Action{Create}) || len(w.pods()) != 1 || w.pods()[0].Spec.NodeName != "n1" {
		t.Fatalf("got %v and pods %v", got, w.pods())
	}
	w.succeed()
	have, _ := state.Get[*batchv1.Job](w.at, "default", "migrate")
	if !health.JobFinished(have) || !health.Of(w.at, have, w.now).Complete {
		t.Fatalf("the Job is not complete: %+v", have.Status)
	}
	w.now = w.now.Add(2 * time.Minute)
	w.round(func(*state.Txn) {})
	if _, ok := state.Get[*batchv1.Job](w.at, "default", "migrate"); ok {
		t.Fatal("its time to live is over and it is there")
	}
	if got := w.apply(job()); len(got) != 0 {
		t.Errorf("the same Job: got %v, want nothing", got)
	}
	if got := w.apply(job(func(j *batchv1.Job) { j.Spec.BackoffLimit, j.Spec.TTLSecondsAfterFinished = new(int32), nil })); len(got) != 0 {
		t.Errorf("the same work, in another way: got %v, want nothing", got)
	}
	if got := w.apply(job(func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "localhost/migrate:2" })); !slices.Equal(got, []Action{Create}) {
		t.Errorf("another one of that name: got %v, want it created", got)
	}
}

// An Indexed Job that went may be resized step by step as if it were there, and back
// again; what could not have come of it runs.
func TestAResizedJobThatWentIsNotMadeAgain(t *testing.T) {
	indexed := func(completions, parallelism int32) *batchv1.Job {
		return job(func(j *batchv1.Job) {
			mode := batchv1.IndexedCompletion
			j.Spec.CompletionMode, j.Spec.Completions, j.Spec.Parallelism = &mode, &completions, &parallelism
		})
	}
	w := newJobWorld(t)
	w.apply(indexed(5, 2))
	for range 3 { // two, two and one
		w.succeed()
	}
	w.now = w.now.Add(2 * time.Minute)
	w.round(func(*state.Txn) {})
	if _, ok := state.Get[*batchv1.Job](w.at, "default", "migrate"); ok {
		t.Fatal("its time to live is over and it is there")
	}
	for _, step := range []struct{ completions, parallelism int32 }{{5, 5}, {7, 7}, {7, 2}, {7, 7}, {3, 3}, {3, 1}, {9, 9}} {
		if got := w.apply(indexed(step.completions, step.parallelism)); len(got) != 0 {
			t.Errorf("%d, %d at once: got %v, want nothing", step.completions, step.parallelism, got)
		}
		src, _ := state.Source(w.at, "main")
		asked := 0
		for _, did := range src.Status.Finished {
			if !did.Left {
				asked++
			}
		}
		if asked != 1 {
			t.Errorf("%d, %d at once: %d records are of what is asked for: %v", step.completions, step.parallelism, asked, src.Status.Finished)
		}
	}
	back := desired(indexed(5, 2))
	if changes, _ := DifferenceBack(w.at, "main", back); len(changes) != 0 {
		t.Errorf("going back to where it ran: got %v, want nothing", changes)
	}
	if got := w.apply(indexed(10, 2)); !slices.Equal(got, []Action{Create}) {
		t.Errorf("more indexes, two at once: got %v, want it created", got)
	}
	src, _ := state.Source(w.at, "main")
	for _, did := range src.Status.Finished {
		if !did.Left {
			t.Errorf("it runs, and is remembered as done: %v", did)
		}
	}
}

func TestAChangedTemplateReplacesAJobThatAsksForIt(t *testing.T) {
	w := newJobWorld(t)
	w.apply(job())
	second := job(func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "localhost/migrate:2" })
	if _, diags := Difference(w.at, "main", desired(second)); !diags.HasErrors() {
		t.Fatal("a changed template is no error")
	} else if got := diags[0]; !slices.ContainsFunc([]string{got.Hint}, func(s string) bool { return len(s) > 0 }) {
		t.Errorf("no hint: %v", got)
	}
	second.Annotations = map[string]string{schema.AnnotationReplace: "true"}
	if got := w.apply(second); !slices.Equal(got, []Action{Replace}) {
		t.Fatalf("got %v", got)
	}
	if pods := w.pods(); len(pods) != 1 || pods[0].DeletionTimestamp == nil {
		t.Fatalf("the old pod must end before the new one is made: %v", pods)
	}
	w.round(func(tx *state.Txn) { tx.Delete(schema.KeyOf(w.pods()[0])) })
	if pods := w.pods(); len(pods) != 1 || pods[0].DeletionTimestamp != nil || pods[0].Spec.Containers[0].Image != second.Spec.Template.Spec.Containers[0].Image {
		t.Errorf("got pods %v", pods)
	}
}

// revision makes the commit that a source has applied one of a phase.
func (w *jobWorld) revision(commit schema.Commit, phase schema.Phase) {
	w.round(func(tx *state.Txn) {
		src, _ := state.Source(tx, "main")
		next := state.Edit(src)
		next.Status.Applied.Commit = commit
		tx.Put(next)
		rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: string(schema.RevisionOf("main", commit))}, Spec: schema.RevisionSpec{Source: "main", Commit: commit}}
		rev.Status.Phase = phase
		if phase == schema.PhaseHealthy {
			at := metav1.NewTime(w.now)
			rev.Status.ProvenAt = &at
		}
		tx.Put(rev)
	})
}

// back goes back to a tree.
func (w *jobWorld) back(objs ...schema.Object) (actions []Action) {
	w.t.Helper()
	tree := desired(objs...)
	changes, diags := DifferenceBack(w.at, "main", tree)
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	w.take(tree, changes, true)
	for _, ch := range changes {
		actions = append(actions, ch.Action)
	}
	return actions
}

const first, second = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"

func version(n string, replace string) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Spec.Template.Spec.Containers[0].Image = "localhost/migrate:" + n
		j.Annotations = map[string]string{schema.AnnotationReplace: replace}
	}
}

// What a Job did is not done again when a commit that took it out, or put another in its
// place, makes way for the one before.
func TestGoingBackRunsNoJobAgain(t *testing.T) {
	for _, c := range []struct {
		name    string
		expires bool            // before the failing commit comes
		failing []schema.Object // what the failing commit asks for
		ends    bool            // its Job succeeds
		want    []Action        // going back
		there   string          // image of the Job that is there then
	}{
		{name: "pruned", want: nil},
		{name: "expired and no longer asked for", expires: true, want: nil},
		{name: "replaced by one at work", failing: []schema.Object{job(version("2", "true"))}, want: []Action{Prune}},
		{name: "replaced by one that succeeded", failing: []schema.Object{job(version("2", "true"))}, ends: true, want: nil, there: "localhost/migrate:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newJobWorld(t)
			w.apply(job())
			w.revision(first, schema.PhaseHealthy)
			w.succeed()
			if c.expires {
				w.now = w.now.Add(2 * time.Minute)
				w.round(func(*state.Txn) {})
			}
			w.apply(c.failing...)
			w.revision(second, schema.PhaseFailed)
			w.round(func(tx *state.Txn) {
				for _, pod := range w.pods() {
					if pod.DeletionTimestamp != nil {
						tx.Delete(schema.KeyOf(pod))
					}
				}
			})
			if c.ends {
				w.succeed()
			}
			if got := w.back(job()); !slices.Equal(got, c.want) {
				t.Errorf("going back: got %v, want %v", got, c.want)
			}
			image := ""
			if have, ok := state.Get[*batchv1.Job](w.at, "default", "migrate"); ok {
				image = have.Spec.Template.Spec.Containers[0].Image
			}
			if image != c.there {
				t.Errorf("going back: the Job there is %q, want %q", image, c.there)
			}
			w.revision(first, schema.PhaseHealthy)
			if got := w.apply(job()); len(got) > 0 && c.there == "" {
				t.Errorf("the next commit like it: got %v, want nothing", got)
			}
		})
	}
}

// A Job that a commit took out which turned out well runs when it is asked for again.
func TestAJobAskedForAnewRuns(t *testing.T) {
	w := newJobWorld(t)
	w.apply(job())
	w.revision(first, schema.PhaseHealthy)
	w.succeed()
	w.apply()
	w.revision(second, schema.PhaseHealthy)
	if got := w.apply(job()); !slices.Equal(got, []Action{Create}) {
		t.Errorf("got %v, want it created", got)
	}
	src, _ := state.Source(w.at, "main")
	if len(src.Status.Finished) != 0 {
		t.Errorf("the source remembers %v", src.Status.Finished)
	}
}

// A Job that did its work, and that a failing commit took out, is not run by the fix:
// the tree that was gone back to is well, but it took nothing out.
func TestAFixRunsNoJobAgain(t *testing.T) {
	w := newJobWorld(t)
	w.apply()
	w.revision(first, schema.PhaseHealthy)
	w.apply(job())
	w.succeed()
	w.revision(second, schema.PhaseFailed)
	w.apply()
	w.back()
	w.revision(first, schema.PhaseHealthy)
	if got := w.apply(job()); len(got) > 0 {
		t.Errorf("the fix: got %v, want nothing", got)
	}
}

// Going back to a tree whose Job cannot be had by a change replaces the one that takes
// its place, where that one asked to be replaced.
func TestGoingBackReplacesAJobThatAskedForIt(t *testing.T) {
	w := newJobWorld(t)
	w.apply(job())
	w.revision(first, schema.PhaseHealthy)
	w.apply(job(version("2", "true")))
	w.revision(second, schema.PhaseFailed)
	if got := w.back(job()); !slices.Equal(got, []Action{Replace}) {
		t.Errorf("got %v, want it replaced", got)
	}
}
