package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// A pod that nothing else made promises to run where it was bound, once, for as long as
// Git asks for it: it goes with its node alone, is not made again before the next
// commit, and one that ended runs nothing more.
var podRow = row{
	kind: schema.KindPod,
	asks: schema.Cell[asking]{Do: asking{
		begin: firstPods, change: changePods, last: anewPod, text: podText,
		flawless: func(workload) bool { return true },
	}},
	holds:    schema.Cell[func(*truth, *state.Snapshot, schema.Object)]{Do: (*truth).podIsOne},
	leaves:   schema.Cell[func(t *truth, was, is *state.Snapshot, p *corev1.Pod)]{Do: (*truth).podLeaves},
	missing:  schema.Cell[func(*truth, schema.Key) bool]{Do: (*truth).podMayMiss},
	outlives: schema.Cell[func(schema.Object) bool]{None: neverDone},
	rests:    schema.Cell[func(*truth, schema.Object, podSet) string]{Do: (*truth).podRests},
}

// podsAskedFor is how many seeds there are to one that asks for pods of their own.
const podsAskedFor = 4

// firstPods are none in most seeds; else one that stays and one that ends by itself.
func firstPods(t *team) []workload {
	if t.pods.IntN(podsAskedFor) != 0 {
		return nil
	}
	return []workload{{kind: schema.KindPod, name: "pod0", tag: "v1"}, {kind: schema.KindPod, name: "pod1", tag: "done"}}
}

// changePods replaces one now and then: nothing of a pod but its image can change.
func changePods(t *team, next []workload) ([]workload, string) {
	if len(next) == 0 || t.pods.IntN(2) == 0 {
		return next, ""
	}
	i := t.pods.IntN(len(next))
	was := next[i].name
	next[i] = anewPod(next[i])
	return next, fmt.Sprintf(" %s in place of %s", next[i].name, was)
}

// anewPod is another pod like a.
func anewPod(a workload) workload {
	a.config++
	base, _, _ := strings.Cut(a.name, "-")
	a.name = fmt.Sprintf("%s-%d", base, a.config)
	return a
}

func podText(a workload) string {
	restart, probe := "Always", ", readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}"
	if a.tag == "done" {
		restart, probe = "OnFailure", ""
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, labels: {alone: %s}}
spec:
  restartPolicy: %s
  terminationGracePeriodSeconds: %d
  tolerations:
    - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
    - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
  containers:
    - {name: app, image: "localhost/app:%s", resources: {requests: {cpu: 50m, memory: 16Mi}}%s}
`, a.name, a.name, restart, graceSeconds, a.tag, probe)
}

func isAlone(p *corev1.Pod) bool { return metav1.GetControllerOf(p) == nil }

// podIsOne: what ended stays so (its containers are looked at where they start), and a
// pod of a name is one pod until Git asks for another.
func (t *truth) podIsOne(_ *state.Snapshot, obj schema.Object) {
	p := obj.(*corev1.Pod)
	if was := t.finished[p.UID]; was != "" && p.Status.Phase != was {
		t.w.broken("S18", "%s was %s and is %s", p.Name, was, p.Status.Phase)
	}
	if ended(p) {
		t.finished[p.UID] = p.Status.Phase
	}
	if p.DeletionTimestamp == nil {
		delete(t.left, schema.KeyOf(p))
	}
}

// podLeaves: a pod that Git asks for goes with its node alone (S3).
func (t *truth) podLeaves(was, s *state.Snapshot, p *corev1.Pod) {
	key := schema.KeyOf(p)
	if !isAlone(p) || !t.asks(s, key) {
		return
	}
	if p.Spec.NodeName != "" && nodeReady(s, p.Spec.NodeName) && nodeReady(was, p.Spec.NodeName) {
		t.w.broken("S3", "%s is asked for and goes, though its node %s is Ready", p.Name, p.Spec.NodeName)
	}
	t.left[key] = true
}

// podMayMiss: also one that was ending when a tree was applied which asks for it again.
func (t *truth) podMayMiss(key schema.Key) bool {
	if p, ok := state.Get[*corev1.Pod](t.latest, key.Namespace, key.Name); ok && p.DeletionTimestamp != nil {
		t.left[key] = true
	}
	return t.left[key]
}

// asks reports whether the commit that is applied asks for an object.
func (t *truth) asks(s *state.Snapshot, key schema.Key) bool {
	src, ok := state.Source(s, sourceName)
	return ok && slices.Contains(t.trees[src.Status.Applied.Commit].keys, key)
}

func (t *truth) podRests(obj schema.Object, pods podSet) string {
	p := obj.(*corev1.Pod)
	if !isAlone(p) {
		return ""
	}
	pods[p.UID] = p
	if p.Status.Phase == corev1.PodSucceeded && p.DeletionTimestamp == nil {
		return ""
	}
	return t.serves(p)
}

// podSentences and podClaims are what a script can say of pods that nothing else made.
var podSentences = []sentence{
	{regexp.MustCompile(`^pod (\w+) of (\w+)$`), func(w *World, of []string) string {
		return w.pushWorkload(workload{kind: schema.KindPod, name: of[1], tag: of[2]})
	}},
}

var podClaims = []claim{
	{regexp.MustCompile(`^pod (\w+) is (\w+)$`), func(w *World, of []string) string {
		is := "gone"
		if p, ok := state.Get[*corev1.Pod](w.truth.latest, "shop", of[1]); ok {
			is = string(p.Status.Phase)
		}
		if is != of[2] {
			return "it is " + is
		}
		return ""
	}},
}
