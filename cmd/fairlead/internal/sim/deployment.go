package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/nodeagent/pod"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// A Deployment promises never more pods than desired and surge, never fewer ready ones
// than desired less what may be unavailable, losses by faults aside, and in the end as
// many as desired, all of its present template.
var deploymentRow = row{
	kind: schema.KindDeployment,
	asks: schema.Cell[asking]{Do: asking{
		begin: firstDeployments, change: changeDeployments, last: lastDeployment, text: deploymentText,
		flawless: func(a workload) bool { return a.tag != "crash" && a.tag != "sick" },
	}},
	holds:    schema.Cell[func(*truth, *state.Snapshot, schema.Object)]{Do: (*truth).surge},
	leaves:   schema.Cell[func(t *truth, was, is *state.Snapshot, p *corev1.Pod)]{Do: (*truth).available},
	missing:  schema.Cell[func(*truth, schema.Key) bool]{None: "it never goes by itself"},
	outlives: schema.Cell[func(schema.Object) bool]{None: neverDone},
	rests:    schema.Cell[func(*truth, schema.Object, podSet) string]{Do: (*truth).deploymentRests},
}

// newDeployment is one with a Service and a ConfigMap of its name.
func newDeployment(name string, replicas int, tag string) workload {
	return workload{kind: schema.KindDeployment, name: name, replicas: replicas, tag: tag, surge: 1}
}

func deploymentText(a workload) string {
	strategy := fmt.Sprintf("{type: RollingUpdate, rollingUpdate: {maxSurge: %d, maxUnavailable: %d}}", a.surge, a.down)
	if a.recreate {
		strategy = "{type: Recreate}"
	}
	liveness := ""
	if a.liveness {
		liveness = "\n          livenessProbe: {exec: {command: [/program, print, ok]}, periodSeconds: 2, failureThreshold: 2}"
	}
	inits, hook := "", ""
	if a.name == helpedName {
		inits = `
      initContainers:
        - {name: prepare, image: "localhost/app:init"}
        - {name: ` + helperName + `, image: "localhost/app:v1", restartPolicy: Always, resources: {requests: {cpu: 10m}}, lifecycle: {postStart: {sleep: {seconds: 1}}}}
        - {name: migrate, image: "localhost/app:init"}`
		hook = "\n          lifecycle: {preStop: {exec: {command: [/program, print, bye]}}}"
	}
	return strings.NewReplacer("NAME", a.name, "INITS", inits, "HOOK", hook, "REPLICAS", fmt.Sprint(a.replicas), "TAG", a.tag, "STRATEGY", strategy, "LIVENESS", liveness,
		"CONFIG", fmt.Sprint(a.config), "GRACE", fmt.Sprint(graceSeconds), "DEADLINE", fmt.Sprint(int(progressDeadline.Seconds()))).Replace(`apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: shop}
spec:
  replicas: REPLICAS
  progressDeadlineSeconds: DEADLINE
  strategy: STRATEGY
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: GRACE
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}INITS
      containers:
        - name: app
          image: localhost/app:TAG
          envFrom: [{configMapRef: {name: NAME}}]
          resources: {requests: {cpu: 100m, memory: 16Mi}}
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}LIVENESSHOOK
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec:
  selector: {app: NAME}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: shop}
data: {turn: "CONFIG"}
`)
}

// helpedName is the Deployment whose pods have init containers, a sidecar and hooks.
const (
	helpedName = "app1"
	helperName = "helper"
)

// inTurn: what comes before the others has done its work, or as a sidecar runs, when one
// of them is started.
func (t *truth) inTurn(n *node, a *app) {
	name := a.spec.Labels[pod.LabelContainer]
	p, ok := state.PodByUID(t.latest, a.spec.Pod)
	if !ok || len(p.Spec.InitContainers) == 0 || name == helperName {
		return
	}
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		switch {
		case c.Name == name:
			return
		case !schema.IsSidecar(c) && !n.hasRun(a.spec.Pod, c.Name):
			t.w.broken("S2", "%s starts %s before init container %s has done its work", n.name, a.spec.Name, c.Name)
		}
	}
}

// hasRun reports whether an attempt of a container was started.
func (n *node) hasRun(uid types.UID, container string) bool {
	for _, a := range n.apps {
		if a.spec.Pod == uid && a.spec.Labels[pod.LabelContainer] == container && !a.started.IsZero() {
			return true
		}
	}
	return false
}

func firstDeployments(t *team) (out []workload) {
	for i := range 2 + t.chance.IntN(3) {
		out = append(out, t.drawDeployment(fmt.Sprintf("app%d", i)))
	}
	return out
}

func (t *team) drawDeployment(name string) workload {
	a := newDeployment(name, 1+t.chance.IntN(3), "v1")
	a.liveness = t.chance.IntN(4) == 0
	switch t.chance.IntN(4) {
	case 0:
		a.surge, a.down = 0, 1
	case 1:
		a.surge, a.down = 1, 1
	case 2:
		a.recreate = t.chance.IntN(2) == 0
	}
	return a
}

func changeDeployments(t *team, next []workload) ([]workload, string) {
	what := ""
	for range 1 + t.chance.IntN(2) {
		i := t.chance.IntN(len(next))
		switch kind := t.chance.IntN(10); {
		case kind < 4:
			next[i].tag = fmt.Sprint("v", 1+t.chance.IntN(4))
			what += fmt.Sprintf(" %s to %s", next[i].name, next[i].tag)
		case kind < 6:
			next[i].replicas = t.chance.IntN(5)
			what += fmt.Sprintf(" %s x %d", next[i].name, next[i].replicas)
		case kind == 6:
			next[i].config++
			what += fmt.Sprintf(" configuration of %s", next[i].name)
		case kind == 7 && len(next) < 5:
			name := fmt.Sprintf("app%d", 10+t.turn)
			next = append(next, t.drawDeployment(name))
			what += " with " + name
		case kind == 8 && len(next) > 2:
			what += " without " + next[i].name
			next = slices.Delete(next, i, i+1)
		default:
			next[i].tag = []string{"crash", "sick", "slow"}[t.chance.IntN(3)]
			what += fmt.Sprintf(" %s to %s", next[i].name, next[i].tag)
		}
	}
	return next, what
}

func lastDeployment(a workload) workload {
	a.config++
	a.replicas = min(a.replicas, 2) // there is room for that
	return a
}

func deploymentOf(r state.Reader, p *corev1.Pod) (*appsv1.Deployment, bool) {
	for _, o := range p.OwnerReferences {
		if rs, ok := state.Get[*appsv1.ReplicaSet](r, p.Namespace, o.Name); ok {
			return ownerOf(r, rs)
		}
	}
	return nil, false
}

// ownerOf is the Deployment that controls rs, if it is still there and still the same
// one.
func ownerOf(r state.Reader, rs *appsv1.ReplicaSet) (*appsv1.Deployment, bool) {
	ref := metav1.GetControllerOf(rs)
	if ref == nil || ref.Kind != string(schema.KindDeployment) {
		return nil, false
	}
	d, ok := state.Get[*appsv1.Deployment](r, rs.Namespace, ref.Name)
	return d, ok && d.UID == ref.UID
}

// podsOf are a deployment's pods that stay, and how many of them are ready.
func podsOf(r state.Reader, d *appsv1.Deployment) (all, ready int) {
	for p := range state.All[*corev1.Pod](r, d.Namespace) {
		if owner, ok := deploymentOf(r, p); !ok || owner.UID != d.UID || p.DeletionTimestamp != nil || ended(p) {
			continue
		}
		all++
		if isReady(p) {
			ready++
		}
	}
	return all, ready
}

// limits are a deployment's surge and what may be unavailable, in pods.
func limits(d *appsv1.Deployment) (surge, unavailable int) {
	want := int(*d.Spec.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return 0, want
	}
	up, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxSurge, want, true)
	down, _ := intstr.GetScaledValueFromIntOrPercent(d.Spec.Strategy.RollingUpdate.MaxUnavailable, want, false)
	if up == 0 && down == 0 {
		down = 1
	}
	return up, down
}

// surge: never more pods than desired and surge (S6).
func (t *truth) surge(s *state.Snapshot, obj schema.Object) {
	d := obj.(*appsv1.Deployment)
	surge, _ := limits(d)
	if all, _ := podsOf(s, d); all > int(*d.Spec.Replicas)+surge && d.Generation == d.Status.ObservedGeneration && d.DeletionTimestamp == nil {
		t.w.broken("S6", "deployment %s has %d pods, wants %d and allows %d more", d.Name, all, *d.Spec.Replicas, surge)
	}
}

// available: a pod that was ready and goes must have been one too many, or stand on a
// lost node (S6).
func (t *truth) available(was, s *state.Snapshot, p *corev1.Pod) {
	before, ok := deploymentOf(was, p)
	if !ok || !isReady(p) || p.Spec.NodeName == "" {
		return
	}
	if !nodeReady(s, p.Spec.NodeName) || !nodeReady(was, p.Spec.NodeName) {
		return // lost with its node
	}
	d, ok := state.Get[*appsv1.Deployment](s, before.Namespace, before.Name)
	if !ok || d.UID != before.UID || d.DeletionTimestamp != nil {
		return // it went whole, as the tree asks
	}
	_, unavailable := limits(d)
	if _, ready := podsOf(s, d); ready < int(*d.Spec.Replicas)-unavailable {
		t.w.broken("S6", "%s was ready and goes: deployment %s keeps %d ready of %d, %d may be missing", p.Name, d.Name, ready, *d.Spec.Replicas, unavailable)
	}
}

func (t *truth) deploymentRests(obj schema.Object, pods podSet) string {
	d := obj.(*appsv1.Deployment)
	running := 0
	for p := range state.All[*corev1.Pod](t.latest, d.Namespace) {
		owner, ok := deploymentOf(t.latest, p)
		if !ok || owner.UID != d.UID {
			continue
		}
		if why := t.serves(p); why != "" {
			return why
		}
		if p.Spec.Containers[0].Image != d.Spec.Template.Spec.Containers[0].Image {
			return p.Name + " has an old image"
		}
		pods[p.UID] = p
		running++
	}
	if running != int(*d.Spec.Replicas) {
		return fmt.Sprintf("deployment %s has %d of %d", d.Name, running, *d.Spec.Replicas)
	}
	return ""
}

// deploymentSentences and deploymentClaims are what a script can say of Deployments.
var deploymentSentences = []sentence{
	{regexp.MustCompile(`^(\w+) runs (\d+) of (\w+)$`), func(w *World, of []string) string {
		replicas, _ := strconv.Atoi(of[2])
		return w.pushWorkload(newDeployment(of[1], replicas, of[3]))
	}},
}

var deploymentClaims = []claim{
	{regexp.MustCompile(`^(\w+) has (\d+) ready of (\w+)$`), func(w *World, of []string) string {
		d, ok := state.Get[*appsv1.Deployment](w.truth.latest, "shop", of[1])
		if !ok {
			return "there is no such deployment"
		}
		count := 0
		for p := range state.All[*corev1.Pod](w.truth.latest, "shop") {
			owner, ok := deploymentOf(w.truth.latest, p)
			n := w.node(schema.NodeName(p.Spec.NodeName))
			if ok && owner.UID == d.UID && p.DeletionTimestamp == nil && isReady(p) && n != nil && n.lives(p.UID) && strings.HasSuffix(p.Spec.Containers[0].Image, ":"+of[3]) {
				count++
			}
		}
		if fmt.Sprint(count) != of[2] {
			return fmt.Sprintf("it has %d", count)
		}
		return ""
	}},
	{regexp.MustCompile(`^there is no (\w+)$`), func(w *World, of []string) string {
		if _, ok := state.Get[*appsv1.Deployment](w.truth.latest, "shop", of[1]); ok {
			return "there is"
		}
		return ""
	}},
}
