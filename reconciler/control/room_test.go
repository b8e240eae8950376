package control

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// ofSource makes an object one of a source's.
func ofSource[T schema.Object](source string, obj T) T {
	obj.SetAnnotations(map[string]string{schema.AnnotationSource: source})
	return obj
}

// twoSources is a world with main, of the master's configuration, and team, of a tree.
func twoSources(t *testing.T) *world {
	w := newWorld(t)
	w.put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}, ofSource("main", &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "team"}}))
	return w
}

// warned are the warnings of that reason, about the object of that name.
func warned(w *world, reason, name string) (out []string) {
	for e := range state.All[*corev1.Event](w.tx, "") {
		if e.Reason == reason && e.InvolvedObject.Name == name {
			out = append(out, e.Message)
		}
	}
	return out
}

// Services of one source that select many pods cannot make what every node is told larger
// than its bound; what has no room is left out and told of, those of other sources have
// all of theirs, and room that others leave is used.
func TestEndpointsWithoutRoomAreLeftOut(t *testing.T) {
	w := twoSources(t)
	service := func(source, name string) *corev1.Service {
		return ofSource(source, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "api"}, Ports: []corev1.ServicePort{{Port: 80}}},
		})
	}
	share := int64(schema.MaxToldBytes / schema.DeclaredShare)
	var fillers []schema.Object
	for told := int64(0); told < share-40<<10; told += wire.TakesOf(fillers[0]).Told {
		fillers = append(fillers, ofSource("team", &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("filler-%03d", len(fillers))},
			Spec:       corev1.ServiceSpec{Ports: make([]corev1.ServicePort, 100), ClusterIP: corev1.ClusterIPNone},
		}))
	}
	w.put(fillers...)
	w.node("n1")
	for i := range 1200 {
		w.put(backend(fmt.Sprintf("p%04d", i), fmt.Sprintf("10.0.%d.%d", i/200, i%200+1)))
	}
	w.put(service("team", "hostile"), service("main", "quiet"))
	w.run(nil)
	told := map[schema.SourceName]int64{}
	for source, takes := range w.tx.Delivered() {
		told[source] = takes.Told
	}
	if n := len(listed(w, "hostile")); n == 0 || n >= 1200 || told["team"] > share {
		t.Errorf("%d endpoints are listed, and %d bytes are told of source team, at most %d", n, told["team"], share)
	}
	if n := len(listed(w, "quiet")); n != 1200 {
		t.Errorf("the service of another source has %d of 1200 endpoints", n)
	}
	if messages := warned(w, "EndpointsLeftOut", "hostile"); len(messages) == 0 || !strings.Contains(messages[0], "source team") || len(warned(w, "EndpointsLeftOut", "quiet")) > 0 {
		t.Errorf("told %q", messages)
	}
	for _, filler := range fillers {
		w.tx.Delete(schema.KeyOf(filler))
	}
	w.now = w.now.Add(roomRetry)
	reconcileEndpoints(w.context(), schema.Key{Kind: schema.KindService, Namespace: "shop", Name: "hostile"})
	if n := len(listed(w, "hostile")); n != 1200 {
		t.Errorf("with room there are %d of 1200 endpoints", n)
	}
}

// filled takes up the share of a declared source, but for so many bytes.
func filled(w *world, but int) {
	share := schema.MaxKeptBytes / schema.DeclaredShare
	w.put(ofSource("team", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "filler"}, Data: map[string]string{"v": strings.Repeat("v", share-but)}}))
}

// Pods of a Job that no node takes are records that all nodes keep: one with many is given
// as many as have room.
func TestPodsOfJobsThatWaitHaveRoom(t *testing.T) {
	w := twoSources(t)
	filled(w, 256<<10)
	job := func(source string) *batchv1.Job {
		j := ofSource(source, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "of-" + source}, Spec: batchv1.JobSpec{
			Parallelism: new(int32(200)), Completions: new(int32(200)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/c", Args: []string{strings.Repeat("v", 8<<10)}}}}},
		}})
		schema.Default(j)
		prepareJob(w.context(), j)
		return j
	}
	w.put(job("team"), job("main"))
	w.run(nil)
	count := func(name string) (n int) {
		for pod := range state.All[*corev1.Pod](w.tx, "shop") {
			if pod.Labels[batchv1.JobNameLabel] == name {
				n++
			}
		}
		return n
	}
	if n := count("of-team"); n == 0 || n > 32 {
		t.Errorf("%d pods of 8 KiB are made in 256 KiB", n)
	}
	if n := count("of-main"); n != 200 {
		t.Errorf("%d pods are made of 200 of another source", n)
	}
	if messages := warned(w, "NoRoom", "of-team"); len(messages) == 0 || !strings.Contains(messages[0], "source team") {
		t.Errorf("told %q", messages)
	}
}

// A CronJob starts no Job that has no room.
func TestACronJobStartsWhatHasRoom(t *testing.T) {
	w := twoSources(t)
	filled(w, 64<<10)
	cron := func(source string) *batchv1.CronJob {
		cj := ofSource(source, &batchv1.CronJob{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "of-" + source, CreationTimestamp: metav1.NewTime(w.now)},
			Spec: batchv1.CronJobSpec{Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
				Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/c", Args: []string{strings.Repeat("v", 16<<10)}}}},
			}}}},
		})
		schema.Default(cj)
		return cj
	}
	w.put(cron("team"), cron("main"))
	jobs := map[schema.SourceName]int{}
	for range 8 {
		w.now = w.now.Add(time.Minute)
		for _, name := range []string{"of-team", "of-main"} {
			reconcileCronJob(w.context(), schema.Key{Kind: schema.KindCronJob, Namespace: "shop", Name: name})
		}
	}
	for job := range state.All[*batchv1.Job](w.tx, "shop") {
		jobs[schema.SourceOf(job)]++
	}
	if jobs["team"] == 0 || jobs["team"] > 3 || jobs["main"] != 8 {
		t.Errorf("Jobs by source: %v", jobs)
	}
	if messages := warned(w, "NoRoom", "of-team"); len(messages) == 0 || !strings.Contains(messages[0], "source team") {
		t.Errorf("told %q", messages)
	}
}
