package reconciler_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// flip is a change of one field that shows in what becomes of an object with it: which
// pods come and go, and what is counted. The specs are YAML without their braces; ends
// are the exit codes of the pods by their index, or their number, "" for one that runs
// on.
type flip struct {
	ends     []string
	from, to string
}

const exit7 = "podReplacementPolicy: Failed, podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [7]}}]}"

// jobFlips are the fields of a Job's spec.
var jobFlips = map[string]flip{
	"parallelism":             {[]string{"0"}, "completions: 2", "completions: 2, parallelism: 2"},
	"completions":             {[]string{"0"}, "completions: 2", "completions: 3"},
	"completionMode":          {[]string{"0"}, "completions: 2", "completions: 2, completionMode: Indexed"},
	"activeDeadlineSeconds":   {nil, "", "activeDeadlineSeconds: 30"},
	"suspend":                 {nil, "", "suspend: true"},
	"podReplacementPolicy":    {nil, "", "podReplacementPolicy: Failed"},
	"ttlSecondsAfterFinished": {[]string{"0"}, "", "ttlSecondsAfterFinished: 10"},
	"backoffLimit":            {[]string{"7"}, "", "backoffLimit: 0"},
	"backoffLimitPerIndex":    {[]string{"7", "0"}, "completions: 2, completionMode: Indexed", "completions: 2, completionMode: Indexed, backoffLimitPerIndex: 0"},
	"maxFailedIndexes": {
		[]string{"7"}, "completions: 3, completionMode: Indexed, backoffLimitPerIndex: 0", "completions: 3, completionMode: Indexed, backoffLimitPerIndex: 0, maxFailedIndexes: 0",
	},
	"podFailurePolicy":              {[]string{"7"}, "podReplacementPolicy: Failed", exit7},
	"successPolicy":                 {[]string{"0"}, "completions: 3, completionMode: Indexed", "completions: 3, completionMode: Indexed, successPolicy: {rules: [{succeededCount: 1}]}"},
	"template.metadata.labels":      {nil, "template: {metadata: {labels: {tier: a}}}", "template: {metadata: {labels: {tier: b}}}"},
	"template.metadata.annotations": {nil, "template: {metadata: {annotations: {note: a}}}", "template: {metadata: {annotations: {note: b}}}"},
}

// cronFlips are those of a CronJob's spec, without its Jobs'.
var cronFlips = map[string]flip{
	"schedule":                         {[]string{"0"}, minutely, `schedule: "*/2 * * * *"`},
	"timeZone":                         {[]string{"0"}, daily, daily + ", timeZone: Europe/Vienna"},
	"startingDeadlineSeconds":          {[]string{"0"}, minutely, minutely + ", startingDeadlineSeconds: 10"},
	"concurrencyPolicy":                {nil, minutely, minutely + ", concurrencyPolicy: Forbid"},
	"suspend":                          {[]string{"0"}, minutely, minutely + ", suspend: true"},
	"successfulJobsHistoryLimit":       {[]string{"0"}, minutely, minutely + ", successfulJobsHistoryLimit: 1"},
	"failedJobsHistoryLimit":           {[]string{"7"}, minutely + ", jobTemplate: {spec: {backoffLimit: 0}}", minutely + ", failedJobsHistoryLimit: 0, jobTemplate: {spec: {backoffLimit: 0}}"},
	"jobTemplate.metadata.labels":      {nil, daily, daily + ", jobTemplate: {metadata: {labels: {tier: b}}}"},
	"jobTemplate.metadata.annotations": {nil, daily, daily + ", jobTemplate: {metadata: {annotations: {note: b}}}"},
}

const (
	minutely = `schedule: "* * * * *"`
	daily    = `schedule: "5 3 * * *"` // soon after the world begins
)

// bareSpec is what a kind needs.
var bareSpec = map[schema.Kind]string{schema.KindCronJob: daily}

// flips are of each field below "spec." of a kind.
func flips(kind schema.Kind) map[string]flip {
	switch kind {
	case schema.KindJob:
		return jobFlips
	case schema.KindCronJob:
		all := map[string]flip{}
		for field, f := range cronFlips {
			all[field] = f
		}
		for field, f := range jobFlips {
			within := func(spec string) string { return daily + ", jobTemplate: {spec: {" + spec + "}}" }
			all["jobTemplate.spec."+field] = flip{f.ends, within(f.from), within(f.to)}
		}
		return all
	}
	return nil
}

// flipped are the fields with a flip.
func flipped(kind schema.Kind) (out []string) {
	for field := range flips(kind) {
		out = append(out, "spec."+field)
	}
	return out
}

// isSeen reports whether a change of the field shows.
func isSeen(t *testing.T, kind schema.Kind, path string) bool {
	t.Helper()
	if change := anyMeta[path]; change != nil {
		return observeFlip(t, kind, nil, bareSpec[kind], change) != observeFlip(t, kind, nil, bareSpec[kind], nil)
	}
	f, ok := flips(kind)[strings.TrimPrefix(path, "spec.")]
	return ok && observeFlip(t, kind, f.ends, f.from, nil) != observeFlip(t, kind, f.ends, f.to, nil)
}

// observeFlip tells what becomes of an object with that spec, changed where change is
// not nil.
func observeFlip(t *testing.T, kind schema.Kind, ends []string, spec string, change func(schema.Object)) string {
	t.Helper()
	obj := parseObject(t, fmt.Sprintf("kind: %s\nmetadata: {name: work, namespace: shop, labels: {team: a}, annotations: {note: a}}\nspec: {%s}", kind, spec))
	switch o := obj.(type) {
	case *batchv1.Job:
		o.Spec.Template.Spec = worker()
	case *batchv1.CronJob:
		o.Spec.JobTemplate.Spec.Template.Spec = worker()
	}
	if change != nil {
		change(obj)
	}
	schema.Default(obj)
	schema.SetOrigin(obj, schema.Origin{Source: "main", Path: "all.yaml", Line: 1, Commit: "c1"})
	for _, p := range schema.Validate(obj) {
		t.Fatalf("{%s}: %s: %s", spec, p.Field, p.Message)
	}
	w := newActedWorld(t)
	w.take([]*schema.Desired{asDesired(obj)})
	w.pass(time.Minute)
	w.eachPod(func(p *corev1.Pod) { runs(p, w.now) })
	w.look("runs")
	for round := range 4 {
		w.eachPod(func(p *corev1.Pod) { endsWith(p, ends, w.now) })
		w.look(fmt.Sprint("ended ", round))
		w.pass(20 * time.Second)
		w.eachPod(func(p *corev1.Pod) { runs(p, w.now) })
	}
	for _, p := range w.working() {
		control.DeletePod(w.engine.Context(w.tx, w.now), p, "to make room")
	}
	w.settle()
	w.look("evicted")
	for _, p := range slices.Collect(state.All[*corev1.Pod](w.tx, "")) {
		if p.DeletionTimestamp != nil {
			control.RemovePod(w.engine.Context(w.tx, w.now), p)
		}
	}
	w.settle()
	w.now = w.now.Add(75 * time.Second) // nobody looked meanwhile
	w.settle()
	w.look("away")
	w.pass(15 * time.Minute)
	w.look("later")
	return w.out.String()
}

func worker() corev1.PodSpec {
	return corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/c:1"}}}
}

// working are the pods that have not ended and are not to.
func (w *actedWorld) working() (out []*corev1.Pod) {
	for p := range state.All[*corev1.Pod](w.tx, "") {
		if p.DeletionTimestamp == nil && (p.Status.Phase == corev1.PodPending || p.Status.Phase == corev1.PodRunning) {
			out = append(out, p)
		}
	}
	return out
}

func (w *actedWorld) eachPod(f func(*corev1.Pod)) {
	for _, p := range w.working() {
		next := state.Edit(p)
		f(next)
		w.tx.Put(next)
	}
	w.settle()
}

func runs(p *corev1.Pod, now time.Time) {
	if p.Status.Phase != corev1.PodPending {
		return
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now)})
}

func endsWith(p *corev1.Pod, ends []string, now time.Time) {
	at := p.Annotations[batchv1.JobCompletionIndexAnnotation]
	if at == "" {
		at = p.Annotations[schema.AnnotationSequence]
	}
	n, _ := strconv.Atoi(at)
	if p.Status.Phase != corev1.PodRunning || len(ends) == 0 {
		return
	}
	code, _ := strconv.Atoi(ends[n%len(ends)])
	p.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		p.Status.Phase = corev1.PodFailed
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(code), FinishedAt: metav1.NewTime(now)}}}}
}
