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
)

func job(change ...func(*batchv1.Job)) *batchv1.Job {
	ttl := int32(60)
	j := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "migrate", Namespace: "default"},
		Spec: batchv1.JobSpec{TTLSecondsAfterFinished: &ttl, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/migrate:1"}},
		}}},
	}
	for _, f := range change {
		f(j)
	}
	schema.Default(j)
	return j
}

// jobWorld is a source's Job on one node, with the engine.
type jobWorld struct {
	t     *testing.T
	at    *state.Snapshot
	queue *Queue
	now   time.Time
}

func newJobWorld(t *testing.T) *jobWorld {
	w := &jobWorld{t: t, at: state.Empty(state.Counters{}), queue: NewQueue(), now: now}
	w.round(func(tx *state.Txn) {
		tx.Put(node("n1", "8"))
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
	w.round(func(tx *state.Txn) {
		src, _ := state.Get[*schema.Source](tx, "", "main")
		next := state.Edit(src)
		next.Status.Finished = Finished(src.Status.Finished, tree)
		tx.Put(next)
		Apply(engine().Context(tx, w.now), changes)
	})
	for _, ch := range changes {
		actions = append(actions, ch.Action)
	}
	return actions
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
	if got := w.apply(job(func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "localhost/migrate:2" })); !slices.Equal(got, []Action{Create}) {
		t.Errorf("another one of that name: got %v, want it created", got)
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
