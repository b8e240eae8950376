package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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

// jobOf is a Job of a source with so many pods, each of so many bytes.
func jobOf(w *world, source, name string, pods int32, bytes int) *batchv1.Job {
	j := ofSource(source, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: batchv1.JobSpec{
		Parallelism: &pods, Completions: &pods, Template: templateOf(bytes),
	}})
	schema.Default(j)
	prepareJob(w.context(), j)
	return j
}

func templateOf(bytes int) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/c", Args: []string{strings.Repeat("v", bytes)}}},
	}}
}

// podsOf are those of a Job of the namespace shop.
func podsOf(w *world, job string) (out []*corev1.Pod) {
	for pod := range state.All[*corev1.Pod](w.tx, "shop") {
		if pod.Labels[batchv1.JobNameLabel] == job {
			out = append(out, pod)
		}
	}
	return out
}

// Jobs that fill all the room there is never wait for each other: each makes one pod after
// the other, for which there was room from its start, and comes to its end.
func TestJobsDoNotWaitForEachOthersRoom(t *testing.T) {
	w := twoSources(t)
	w.node("n1")
	for i := range 3 {
		w.put(jobOf(w, "team", fmt.Sprint("j", i), 3, 8<<10))
	}
	filled(w, 0)
	for range 20 {
		w.run(nil)
		for i := range 3 {
			waiting := 0
			for _, pod := range podsOf(w, fmt.Sprint("j", i)) {
				if pod.Spec.NodeName == "" {
					waiting++
				}
			}
			if waiting > 1 {
				t.Fatalf("%d pods of j%d wait for a node", waiting, i)
			}
		}
		w.bind("n1")
		for _, pod := range w.pods("shop") {
			w.edit(pod, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
		}
	}
	for i := range 3 {
		if job := get[*batchv1.Job](w, "shop", fmt.Sprint("j", i)); !jobSucceeded(job) {
			t.Errorf("%s: %d of 3 pods succeeded", job.Name, job.Status.Succeeded)
		}
	}
}

// What a Job takes has one pod in it from its start, which is as large as the pod is, and
// until its end.
func TestAJobTakesItsPodFromTheStart(t *testing.T) {
	for name, change := range map[string]func(*batchv1.Job){
		"small": func(*batchv1.Job) {},
		"large": func(j *batchv1.Job) { j.Spec.Template = templateOf(64 << 10) },
		"indexed, with many containers": func(j *batchv1.Job) {
			j.Spec.CompletionMode = new(batchv1.IndexedCompletion)
			for i := range 20 {
				j.Spec.Template.Spec.Containers = append(j.Spec.Template.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: "localhost/c"})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoSources(t)
			w.node("n1")
			job := jobOf(w, "team", strings.Repeat("j", 63), 1, 1)
			change(job)
			w.put(job)
			before := wire.TakesOf(job).Kept
			w.run(nil)
			if pods := podsOf(w, job.Name); len(pods) != 1 || wire.TakesOf(pods[0]).Kept > wire.AheadOf(job) || before < int64(wire.EncodedSize(job))+wire.AheadOf(job) {
				t.Errorf("%d pods; the first takes %d bytes, and there are %d for it in %d", len(pods), wire.TakesOf(pods[0]).Kept, wire.AheadOf(job), before)
			}
			w.bind("n1")
			w.edit(podsOf(w, job.Name)[0], func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
			w.run(nil)
			if over := get[*batchv1.Job](w, "shop", job.Name); wire.AheadOf(over) != 0 {
				t.Errorf("a Job that is over takes %d bytes for a pod", wire.AheadOf(over))
			}
		})
	}
}

// A CronJob that had no room starts its Job as soon as there is some, not only when the
// next run is due.
func TestACronJobWithoutRoomTriesAgain(t *testing.T) {
	w := twoSources(t)
	cj := cronJobOf(w, "team", "nightly", batchv1.AllowConcurrent, 16<<10)
	cj.Spec.Schedule = "0 1 * * *"
	w.put(cj)
	filled(w, 0)
	w.run(nil)
	w.pass(13*time.Hour + time.Second)
	if n := len(slices.Collect(state.All[*batchv1.Job](w.tx, "shop"))); n != 0 || len(warned(w, "NoRoom", "nightly")) != 1 {
		t.Fatalf("%d Jobs without room, told %q", n, warned(w, "NoRoom", "nightly"))
	}
	w.pass(10 * roomRetry)
	if told := warned(w, "NoRoom", "nightly"); len(told) != 1 {
		t.Errorf("told %q", told)
	}
	w.tx.Delete(schema.Key{Kind: schema.KindConfigMap, Namespace: "shop", Name: "filler"})
	w.pass(roomRetry)
	if n := len(slices.Collect(state.All[*batchv1.Job](w.tx, "shop"))); n != 1 {
		t.Errorf("%d Jobs %v after there is room", n, roomRetry)
	}
}

func cronJobOf(w *world, source, name string, policy batchv1.ConcurrencyPolicy, bytes int) *batchv1.CronJob {
	cj := ofSource(source, &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(w.now)},
		Spec:       batchv1.CronJobSpec{Schedule: "* * * * *", ConcurrencyPolicy: policy, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: templateOf(bytes)}}},
	})
	schema.Default(cj)
	return cj
}

// A CronJob that replaces its Job ends it only when the new one can start: what takes no
// more than the old one always can.
func TestACronJobReplacesWhatItCanStart(t *testing.T) {
	for name, c := range map[string]struct {
		bytes    int  // of the new template
		foreign  bool // the new Job's name is another's
		replaced bool
	}{
		"as large as before":     {16 << 10, false, true},
		"larger, without room":   {64 << 10, false, false},
		"a name that is another": {16 << 10, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := twoSources(t)
			w.put(cronJobOf(w, "team", "c", batchv1.ReplaceConcurrent, 16<<10))
			w.pass(time.Minute)
			first := slices.Collect(state.All[*batchv1.Job](w.tx, "shop"))
			if len(first) != 1 {
				t.Fatalf("%d Jobs", len(first))
			}
			next := state.Edit(get[*batchv1.CronJob](w, "shop", "c"))
			next.Spec.JobTemplate.Spec.Template = templateOf(c.bytes)
			w.put(next)
			filled(w, 0)
			if c.foreign {
				job := jobOf(w, "main", fmt.Sprint("c-", w.now.Add(time.Minute).Unix()/60), 1, 1)
				w.put(job)
			}
			w.pass(time.Minute)
			_, stays := state.Get[*batchv1.Job](w.tx, "shop", first[0].Name)
			active := get[*batchv1.CronJob](w, "shop", "c").Status.Active
			if stays == c.replaced || len(active) != 1 || (active[0].Name == first[0].Name) == c.replaced {
				t.Errorf("the first Job stays: %v; active are %v", stays, active)
			}
			if told := len(warned(w, "NoRoom", "c")) + len(warned(w, "FailedCreate", "c")); told == 0 != c.replaced {
				t.Errorf("told %q, %q", warned(w, "NoRoom", "c"), warned(w, "FailedCreate", "c"))
			}
		})
	}
}

// Jobs that no node takes leave the room that others need to get on: those start, and
// make their pods.
func TestJobsThatWaitLeaveRoomToOthers(t *testing.T) {
	w := twoSources(t)
	w.node("n1")
	w.put(jobOf(w, "team", "stuck", 5000, 16<<10), cronJobOf(w, "team", "stuck-too", batchv1.AllowConcurrent, 64<<10))
	w.run(nil)
	w.pass(3 * time.Hour)
	share := int64(schema.MaxKeptBytes / schema.DeclaredShare)
	for source, takes := range w.tx.Delivered() {
		if source == "team" && takes.Kept > share/aheadPart+1<<20 {
			t.Errorf("what waits takes %d of %d bytes", takes.Kept, share)
		}
	}
	for _, name := range []string{"stuck", "stuck-too"} {
		if len(warned(w, "NoRoom", name)) == 0 {
			t.Errorf("nothing is told of %s", name)
		}
	}
	w.put(jobOf(w, "team", "quick", 30, 64<<10), cronJobOf(w, "team", "other", batchv1.AllowConcurrent, 64<<10))
	w.run(nil)
	taken := 0
	for range 100 {
		for _, pod := range podsOf(w, "quick") {
			if pod.Spec.NodeName == "" {
				taken++
				w.edit(pod, func(p *corev1.Pod) { p.Spec.NodeName, p.Status.Phase = "n1", corev1.PodSucceeded })
			}
		}
		w.run(nil)
	}
	w.pass(time.Minute)
	if job := get[*batchv1.Job](w, "shop", "quick"); !jobSucceeded(job) || taken != 30 {
		t.Errorf("quick: %d of 30 pods succeeded", job.Status.Succeeded)
	}
	if active := get[*batchv1.CronJob](w, "shop", "other").Status.Active; len(active) != 1 {
		t.Errorf("other: active are %v", active)
	}
}

// Endpoints that take traffic are not left out for others that take none, whatever their
// names are; of those alike, what is listed stays.
func TestReadyEndpointsAreListedFirst(t *testing.T) {
	w := twoSources(t)
	w.node("n1")
	notReady := func(p *corev1.Pod) { setCondition(p, corev1.PodReady, corev1.ConditionFalse, start) }
	ending := func(p *corev1.Pod) { p.DeletionTimestamp = new(metav1.NewTime(start)) }
	put := func(prefix string, n int, change ...func(*corev1.Pod)) {
		for i := range n {
			addresses++
			w.put(backend(fmt.Sprintf("%s%03d", prefix, i), fmt.Sprintf("10.1.%d.%d", addresses/250, addresses%250+1), change...))
		}
	}
	svc := ofSource("team", &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "api"}, Ports: []corev1.ServicePort{{Port: 80}}},
	})
	put("a-unready", 100, notReady)
	put("b-ending", 20, ending)
	put("m-ready", 60)
	w.put(svc)
	one := wire.TakesOf(&discoveryv1.EndpointSlice{Ports: make([]discoveryv1.EndpointPort, 1), Endpoints: []discoveryv1.Endpoint{endpointOf(svc, get[*corev1.Pod](w, "shop", "a-unready000"))}}).Told
	fillTold(w, "team", 100*one)
	w.run(nil)
	count := func() map[string]int {
		out := map[string]int{}
		for _, line := range listed(w, "web") {
			out[strings.TrimRight(strings.Fields(line)[2], "0123456789")]++
		}
		return out
	}
	got := count()
	if got["m-ready"] != 60 || got["b-ending"] != 20 || got["a-unready"] == 0 || got["a-unready"] > 25 {
		t.Fatalf("%v are listed", got)
	}
	if told := warned(w, "EndpointsLeftOut", "web"); len(told) != 1 || !strings.Contains(told[0], "of 180 endpoints, none of them ready, are left out") {
		t.Errorf("told %q", told)
	}
	put("z-ready", 30)
	w.run(nil)
	if got := count(); got["m-ready"] != 60 || got["z-ready"] != 30 || got["a-unready"] > 0 {
		t.Errorf("%v are listed", got)
	}
	put("c-ready", 100)
	w.run(nil)
	if got := count(); got["m-ready"] != 60 || got["z-ready"] != 30 || got["c-ready"] == 0 || got["b-ending"] > 0 {
		t.Errorf("%v are listed", got)
	}
	if told := warned(w, "EndpointsLeftOut", "web"); !slices.ContainsFunc(told, func(m string) bool { return !strings.Contains(m, "none of them ready") }) {
		t.Errorf("told %q", told)
	}
}

// fillTold takes up what nodes may be told of a declared source's Services, but for so
// many bytes.
func fillTold(w *world, source string, but int64) {
	told := int64(0)
	for s, takes := range w.tx.Delivered() {
		if string(s) == source {
			told = takes.Told
		}
	}
	for i := 0; ; i++ {
		filler := ofSource(source, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("filler-%03d", i)},
			Spec:       corev1.ServiceSpec{Ports: make([]corev1.ServicePort, 100), ClusterIP: corev1.ClusterIPNone},
		})
		left := schema.MaxToldBytes/schema.DeclaredShare - but - told
		if each := wire.TakesOf(filler).Told; left < each {
			filler.Spec.Ports = filler.Spec.Ports[:max(0, 100*left/each-2)]
			w.put(filler)
			return
		}
		w.put(filler)
		told += wire.TakesOf(filler).Told
	}
}
