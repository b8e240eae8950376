package control

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var update = flag.Bool("update", false, "write the answers of testdata anew")

// A conversation is a file of "> command" lines, each followed by what is true
// afterwards. Commands:
//
//	commit NAME DEPLOYMENT key=value...  a commit that changes image, replicas, surge, unavailable, deadline, strategy
//	commit NAME                          a commit that changes none of them
//	bind, start, reap                    agents and scheduler do their work once
//	live                                 they do it until nothing is left to do
//	full                                 no node takes the unbound pods
//	crash, nopull, pull, running         what becomes of the pods that are bound and not ready
//	lose NODE, find NODE                 the node falls silent, speaks again
//	pass DURATION
func TestConversations(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) == 0 {
		t.Fatal("no conversations in testdata")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := converse(t, string(data))
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

// talk is a world and what was told of it so far.
type talk struct {
	*world
	names map[string]string // generated name -> what the conversation calls it
	told  map[string]bool   // events
}

func converse(t *testing.T, script string) string {
	w := &talk{world: testWorld(t), names: map[string]string{}, told: map[string]bool{}}
	w.put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}})
	var out strings.Builder
	for line := range strings.Lines(script) {
		switch {
		case strings.HasPrefix(line, "> "):
			out.WriteString(line)
			words := strings.Fields(line[2:])
			w.do(words[0], words[1:])
			out.WriteString(w.tell())
		case strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "":
			out.WriteString(line)
		}
	}
	return out.String()
}

func (w *talk) do(command string, args []string) {
	w.t.Helper()
	unready := func(p *corev1.Pod) bool { return p.Spec.NodeName != "" && active(p) && !health.Ready(p) }
	switch command {
	case "commit":
		w.commit(args)
	case "bind":
		w.bind(w.readyNodes()...)
	case "start":
		w.start()
	case "reap":
		w.reap()
	case "live":
		w.live(w.readyNodes()...)
	case "full":
		w.each(func(p *corev1.Pod) bool { return p.Spec.NodeName == "" }, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes can take it"}}
		})
	case "crash":
		w.each(unready, waits("CrashLoopBackOff", "back-off 40s", &corev1.ContainerStateTerminated{ExitCode: 1, Message: "no database"}))
	case "nopull":
		w.each(unready, waits("RegistryUnavailable", "registry does not answer", nil))
	case "pull":
		w.each(unready, waits("ContainerCreating", "", nil))
	case "running":
		w.each(unready, func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		})
	case "lose":
		w.setNodeReady(args[0], corev1.ConditionUnknown)
	case "find":
		w.setNodeReady(args[0], corev1.ConditionTrue)
	case "pass":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			w.t.Fatalf("pass: %v", err)
		}
		w.pass(d)
	default:
		w.t.Fatalf("no such command: %s", command)
	}
	w.settle()
}

func (w *talk) readyNodes() (names []string) {
	for _, name := range []string{"n1", "n2", "n3"} {
		if health.NodeReady(w.tx, name) {
			names = append(names, name)
		}
	}
	return names
}

func (w *talk) each(which func(*corev1.Pod) bool, f func(*corev1.Pod)) {
	for _, p := range w.pods("shop") {
		if which(p) {
			w.edit(p, f)
		}
	}
}

func waits(reason, message string, last *corev1.ContainerStateTerminated) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		s := corev1.ContainerStatus{Name: "api", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
		if last != nil {
			s.RestartCount = 3
			s.LastTerminationState.Terminated = last
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{s}
	}
}

// commit puts a deployment as an accepted commit does, with its revision.
func (w *talk) commit(args []string) {
	w.t.Helper()
	commit := schema.Commit(args[0])
	src := state.Edit(get[*schema.Source](w.world, "", "main"))
	if was := src.Status.Applied.Commit; was != "" {
		if rev := state.Edit(get[*schema.Revision](w.world, "", string(schema.RevisionOf("main", was)))); underWay(rev) {
			rev.Enter(schema.PhaseSuperseded, w.context().Stamp(), "by "+string(commit))
			w.tx.Put(rev)
		}
	}
	src.Status.Applied.Commit = commit
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: string(schema.RevisionOf("main", commit))}, Spec: schema.RevisionSpec{Source: "main", Commit: commit, Subject: "change " + string(commit)}}
	rev.Enter(schema.PhaseRollingOut, w.context().Stamp(), "applied")
	w.put(src, rev)
	if len(args) == 1 {
		return
	}
	d, ok := state.Get[*appsv1.Deployment](w.tx, "shop", args[1])
	if ok {
		d = state.Edit(d)
		d.Generation++
	} else {
		d = deployment(func(d *appsv1.Deployment) { d.Name = args[1] })
	}
	for _, arg := range args[2:] {
		key, value, _ := strings.Cut(arg, "=")
		w.set(d, key, value)
	}
	schema.SetOrigin(d, schema.Origin{Source: "main", Path: args[1] + ".yaml", Line: 1, Commit: commit})
	w.tx.Put(d)
}

func (w *talk) set(d *appsv1.Deployment, key, value string) {
	w.t.Helper()
	number := func() *int32 {
		n, err := strconv.Atoi(value)
		if err != nil {
			w.t.Fatalf("%s: %v", key, err)
		}
		v := int32(n)
		return &v
	}
	amount := intstr.Parse(value)
	switch key {
	case "image":
		image(value)(d)
	case "replicas":
		d.Spec.Replicas = number()
	case "surge":
		d.Spec.Strategy.RollingUpdate.MaxSurge = &amount
	case "unavailable":
		d.Spec.Strategy.RollingUpdate.MaxUnavailable = &amount
	case "deadline":
		d.Spec.ProgressDeadlineSeconds = number()
	case "strategy":
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.DeploymentStrategyType(value)}
	default:
		w.t.Fatalf("no such field: %s", key)
	}
}

// tell writes the cluster in a few lines, and the events that are new. Generated
// names are called after their image.
func (w *talk) tell() string {
	var b strings.Builder
	for d := range state.All[*appsv1.Deployment](w.tx, "") {
		s := d.Status
		fmt.Fprintf(&b, "%s: %d wanted, %d there, %d updated, %d available; %s\n", d.Name, health.Desired(d.Spec.Replicas), s.Replicas, s.UpdatedReplicas, s.AvailableReplicas, condition(d, appsv1.DeploymentProgressing))
	}
	for _, rs := range sets(w.world) {
		tag := rs.Spec.Template.Spec.Containers[0].Image
		d, _, _ := strings.Cut(rs.Name, "-")
		w.names[rs.Name] = d + "@" + tag[strings.LastIndex(tag, ":")+1:]
		if n := countPods(w.context(), rs); n.all > 0 || health.Desired(rs.Spec.Replicas) > 0 {
			fmt.Fprintf(&b, "  %s: %d wanted, %d active, %d ready, %d terminating\n", w.names[rs.Name], health.Desired(rs.Spec.Replicas), n.active, n.ready, n.standing-n.active)
		}
	}
	applied := get[*schema.Source](w.world, "", "main").Status.Applied.Commit
	phases := get[*schema.Revision](w.world, "", string(schema.RevisionOf("main", applied))).Status.Phases
	last := phases[len(phases)-1]
	fmt.Fprintf(&b, "revision %s: %s (%s)\n", applied, last.Name, last.Reason)
	for _, e := range events(w.world) {
		if !w.told[e] && (strings.Contains(e, " Deployment ") || strings.Contains(e, "Terminating: node")) {
			fmt.Fprintln(&b, "*", e)
		}
		w.told[e] = true
	}
	return w.rename(b.String())
}

// rename calls replica sets after their image and drops the pods' suffixes.
func (w *talk) rename(s string) string {
	for _, p := range w.pods("shop") {
		if key, ok := ownerKey(p, schema.KindReplicaSet); ok {
			w.names[p.Name] = w.names[key.Name] + "-…"
		}
	}
	names := slices.SortedFunc(maps.Keys(w.names), func(a, b string) int { return len(b) - len(a) })
	for _, name := range names {
		s = strings.ReplaceAll(s, name, w.names[name])
	}
	return s
}
