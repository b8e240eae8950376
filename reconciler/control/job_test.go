package control

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// The conversations about Jobs and CronJobs. A pod is called by its number. Commands:
//
//	apply                        the manifest in the lines after it, as a commit brings it
//	bind, start, reap            scheduler and agents do their work once
//	succeed, fail NUMBER...      pods end; fail takes code=N and container=NAME
//	restart NUMBER TIMES         a pod's container was started again so many times
//	lose, find, forget NODE      the node falls silent, speaks again, is no more
//	delete                       the object in the lines after it goes
//	pass DURATION
func TestJobConversations(t *testing.T) {
	files, _ := filepath.Glob("testdata/jobs/*.txt")
	if len(files) == 0 {
		t.Fatal("no conversations in testdata/jobs")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := converseOfJobs(t, string(data))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(data), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		})
	}
}

type jobTalk struct {
	*world
	told map[string]int // events, and how often each was seen
}

func converseOfJobs(t *testing.T, script string) string {
	w := &jobTalk{world: testWorld(t), told: map[string]int{}}
	w.put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}})
	w.settle()
	var out strings.Builder
	lines := strings.SplitAfter(script, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "> "):
			out.WriteString(line)
			manifest := ""
			for ; i+1 < len(lines) && strings.HasPrefix(lines[i+1], "| "); i++ {
				out.WriteString(lines[i+1])
				manifest += lines[i+1][2:]
			}
			words := strings.Fields(line[2:])
			w.do(words[0], words[1:], manifest)
			w.settle()
			out.WriteString(w.tell())
		case strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "":
			out.WriteString(line)
		}
	}
	return out.String()
}

func (w *jobTalk) do(command string, args []string, manifest string) {
	w.t.Helper()
	switch command {
	case "apply":
		w.apply(manifest)
	case "delete":
		w.tx.Delete(schema.KeyOf(w.parse(manifest)))
	case "bind":
		var ready []string
		for _, name := range []string{"n1", "n2"} {
			if health.NodeReady(w.tx, name) {
				ready = append(ready, name)
			}
		}
		w.bind(ready...)
	case "start":
		w.start()
	case "reap":
		for _, p := range w.pods("") {
			if p.DeletionTimestamp != nil {
				RemovePod(w.context(), p)
			}
		}
	case "succeed", "fail":
		w.end(command == "fail", args)
	case "restart":
		n, _ := strconv.Atoi(args[1])
		w.edit(w.numbered(args[0]), func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", RestartCount: int32(n)}}
		})
	case "lose":
		w.setNodeReady(args[0], corev1.ConditionUnknown)
	case "find":
		w.setNodeReady(args[0], corev1.ConditionTrue)
	case "forget":
		w.tx.Delete(schema.Key{Kind: schema.KindNode, Name: args[0]})
	case "pass":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			w.t.Fatalf("pass: %v", err)
		}
		w.pass(d)
	default:
		w.t.Fatalf("no such command: %s", command)
	}
}

func (w *jobTalk) parse(manifest string) schema.Object {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal([]byte(manifest), &kind); err != nil {
		w.t.Fatalf("%v", err)
	}
	obj := schema.Info(schema.Kind(kind.Kind)).New()
	if err := yaml.UnmarshalStrict([]byte(manifest), obj); err != nil {
		w.t.Fatalf("%v", err)
	}
	obj.SetNamespace("shop")
	schema.SetOrigin(obj, schema.Origin{Source: "main", Path: "job.yaml", Line: 1, Commit: "c1"})
	schema.Default(obj)
	return obj
}

// apply creates or changes an object as the settle engine does.
func (w *jobTalk) apply(manifest string) {
	next := w.parse(manifest)
	row := Of(schema.KindOf(next))
	live := w.tx.Get(schema.KeyOf(next))
	if live == nil {
		next.SetCreationTimestamp(w.context().Stamp())
		if row.Created.Do != nil {
			row.Created.Do(w.context(), next)
		}
	} else {
		next.SetUID(live.GetUID())
		next.SetCreationTimestamp(live.GetCreationTimestamp())
		if ledger := live.GetAnnotations()[schema.AnnotationLedger]; ledger != "" {
			setAnnotation(next, schema.AnnotationLedger, ledger)
		}
		schema.Of(schema.KindOf(next)).Carry.Do(live, next)
	}
	w.tx.Put(next)
}

// numbered is the pod with that number of the first Job that has one.
func (w *jobTalk) numbered(number string) *corev1.Pod {
	w.t.Helper()
	for _, p := range w.pods("shop") {
		if p.Annotations[schema.AnnotationSequence] == number && (active(p) || p.DeletionTimestamp != nil) {
			return p
		}
	}
	w.t.Fatalf("no pod %s that could end", number)
	return nil
}

func (w *jobTalk) end(failed bool, args []string) {
	phase, code, container := corev1.PodSucceeded, 0, "c"
	if failed {
		phase, code = corev1.PodFailed, 1
	}
	var numbers []string
	for _, arg := range args {
		switch key, value, _ := strings.Cut(arg, "="); key {
		case "code":
			code, _ = strconv.Atoi(value)
		case "container":
			container = value
		default:
			numbers = append(numbers, arg)
		}
	}
	for _, n := range numbers {
		w.edit(w.numbered(n), func(p *corev1.Pod) {
			p.Status.Phase = phase
			setCondition(p, corev1.PodReady, corev1.ConditionFalse, w.now)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(code)}}}}
		})
	}
}

// tell writes Jobs, their pods, and the events that are new.
func (w *jobTalk) tell() string {
	var b strings.Builder
	for cj := range state.All[*batchv1.CronJob](w.tx, "") {
		fmt.Fprintf(&b, "cronjob %s: %d active, last %s, last success %s\n", cj.Name, len(cj.Status.Active), clock(cj.Status.LastScheduleTime), clock(cj.Status.LastSuccessfulTime))
	}
	for j := range state.All[*batchv1.Job](w.tx, "") {
		b.WriteString(tellJob(j))
		for _, p := range w.podsOf(j) {
			fmt.Fprintf(&b, "  %s\n", tellPod(p))
		}
	}
	for _, p := range w.pods("") {
		if _, gone := ownerGone(w.tx, p); gone {
			fmt.Fprintf(&b, "left: %s\n", tellPod(p))
		}
	}
	now := map[string]int{}
	for e := range state.All[*corev1.Event](w.tx, "") {
		said := fmt.Sprintf("%s %s %s: %s", e.Type, e.InvolvedObject.Kind, e.Reason, e.Message)
		now[said] += int(e.Count)
	}
	for _, e := range events(w.world) {
		if now[e] > w.told[e] && !strings.Contains(e, " Node ") {
			fmt.Fprintln(&b, "*", w.numbers(e))
		}
		w.told[e] = now[e]
	}
	if next := w.nextWake(); !next.IsZero() {
		fmt.Fprintf(&b, "looks again in %s\n", next.Sub(w.now))
	}
	return b.String()
}

func (w *jobTalk) podsOf(j *batchv1.Job) []*corev1.Pod {
	pods := slices.Collect(state.By[*corev1.Pod](w.tx, state.PodsByOwner, string(j.UID)))
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		i, _ := podNumber(a)
		k, _ := podNumber(b)
		return i - k
	})
	return pods
}

// numbers puts dots in the place of what is derived from identities.
func (w *jobTalk) numbers(text string) string {
	for _, p := range w.pods("") {
		text = strings.ReplaceAll(text, p.Name, strings.TrimSuffix(p.GenerateName, "-")+"-…")
	}
	return text
}

func tellJob(j *batchv1.Job) string {
	s := j.Status
	out := fmt.Sprintf("job %s: %d active, %d succeeded, %d failed", j.Name, s.Active, s.Succeeded, s.Failed)
	if s.Terminating != nil && *s.Terminating > 0 {
		out += fmt.Sprintf(", %d terminating", *s.Terminating)
	}
	if s.CompletedIndexes != "" {
		out += ", completed " + s.CompletedIndexes
	}
	if s.FailedIndexes != nil && *s.FailedIndexes != "" {
		out += ", failed for good " + *s.FailedIndexes
	}
	out += ", started " + clock(s.StartTime)
	if s.CompletionTime != nil {
		out += ", completed at " + clock(s.CompletionTime)
	}
	for _, c := range s.Conditions {
		out += fmt.Sprintf("; %s=%s (%s)", c.Type, c.Status, c.Reason)
	}
	return out + "\n"
}

func tellPod(p *corev1.Pod) string {
	out := fmt.Sprintf("%s %s", p.Annotations[schema.AnnotationSequence], p.Status.Phase)
	if index, ok := podIndex(p); ok {
		out += fmt.Sprintf(", index %d, hostname %s", index, p.Spec.Hostname)
	}
	if p.Spec.NodeName != "" {
		out += " on " + p.Spec.NodeName
	}
	if p.DeletionTimestamp != nil {
		out += ", terminating"
	}
	return out
}

func clock(t *metav1.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format("02 15:04:05")
}
