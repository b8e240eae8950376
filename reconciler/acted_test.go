package reconciler_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/rowtest"
	"fairlead/schema/wire"
)

// actedTree is an object of each kind, with every field that is acted on.
var actedTree = map[schema.Kind]string{
	schema.KindNamespace: `
metadata: {name: shop, labels: {team: a, pod-security.kubernetes.io/enforce: baseline}, annotations: {note: a}}`,
	schema.KindConfigMap: `
metadata: {name: conf, namespace: shop, labels: {team: a}, annotations: {note: a}}
data: {a: "1"}
binaryData: {b: AQ==}
immutable: true`,
	schema.KindSecret: `
metadata: {name: key, namespace: shop, labels: {team: a}, annotations: {note: a}}
data: {t: AQ==}
immutable: true`,
	schema.KindService: `
metadata: {name: api, namespace: shop, labels: {team: a}, annotations: {note: a}}
spec:
  type: NodePort
  clusterIP: 10.96.0.50
  clusterIPs: [10.96.0.50]
  selector: {app: api}
  externalTrafficPolicy: Cluster
  ports: [{name: web, port: 80, targetPort: 8080, nodePort: 30080, protocol: TCP}]`,
	schema.KindDeployment: `
metadata: {name: api, namespace: shop, labels: {team: a}, annotations: {note: a}}
spec:
  replicas: 2
  minReadySeconds: 5
  revisionHistoryLimit: 1
  progressDeadlineSeconds: 600
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}, annotations: {note: a}}
    spec:
      containers:
      - {name: c, image: "localhost/c:1", envFrom: [{configMapRef: {name: conf}}, {secretRef: {name: key}}]}`,
	schema.KindPod: `
metadata: {name: lone, namespace: shop, labels: {app: lone}, annotations: {note: a}}
spec: {containers: [{name: c, image: "localhost/c:1"}]}`,
}

// actedChanges has for each field that is acted on a change by which it is seen to be.
// What is every kind's is anyMeta's.
var actedChanges = map[schema.Kind]map[string]func(obj schema.Object){
	schema.KindConfigMap: {
		"data":       func(o schema.Object) { o.(*corev1.ConfigMap).Data["a"] = "2" },
		"binaryData": func(o schema.Object) { o.(*corev1.ConfigMap).BinaryData["b"] = []byte{2} },
		"immutable":  func(o schema.Object) { o.(*corev1.ConfigMap).Immutable = nil },
	},
	schema.KindSecret: {
		"data":       func(o schema.Object) { o.(*corev1.Secret).Data["t"] = []byte{2} },
		"stringData": func(o schema.Object) { o.(*corev1.Secret).StringData = map[string]string{"t": "x"} },
		"type":       func(o schema.Object) { o.(*corev1.Secret).Type = corev1.SecretTypeTLS },
		"immutable":  func(o schema.Object) { o.(*corev1.Secret).Immutable = nil },
	},
	schema.KindService: {
		"spec.type":                     ofService(func(s *corev1.ServiceSpec) { s.Type, s.Ports[0].NodePort = corev1.ServiceTypeClusterIP, 0 }),
		"spec.selector":                 ofService(func(s *corev1.ServiceSpec) { s.Selector = map[string]string{"app": "lone"} }),
		"spec.clusterIP":                ofService(func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "10.96.0.51", nil }),
		"spec.clusterIPs":               ofService(func(s *corev1.ServiceSpec) { s.ClusterIP, s.ClusterIPs = "", []string{"10.96.0.52"} }),
		"spec.externalTrafficPolicy":    ofService(func(s *corev1.ServiceSpec) { s.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }),
		"spec.publishNotReadyAddresses": ofService(func(s *corev1.ServiceSpec) { s.PublishNotReadyAddresses = true }),
		"spec.ports.name":               ofService(func(s *corev1.ServiceSpec) { s.Ports[0].Name = "other" }),
		"spec.ports.protocol":           ofService(func(s *corev1.ServiceSpec) { s.Ports[0].Protocol = corev1.ProtocolUDP }),
		"spec.ports.port":               ofService(func(s *corev1.ServiceSpec) { s.Ports[0].Port = 81 }),
		"spec.ports.targetPort":         ofService(func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromInt32(8081) }),
		"spec.ports.nodePort":           ofService(func(s *corev1.ServiceSpec) { s.Ports[0].NodePort = 30081 }),
	},
	schema.KindDeployment: {
		"spec.replicas": ofDeployment(func(d *appsv1.DeploymentSpec) { *d.Replicas = 3 }),
		"spec.selector": ofDeployment(func(d *appsv1.DeploymentSpec) { d.Selector.MatchLabels = map[string]string{"tier": "web"} }),
		"spec.strategy": ofDeployment(func(d *appsv1.DeploymentSpec) {
			d.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
		}),
		"spec.minReadySeconds":               ofDeployment(func(d *appsv1.DeploymentSpec) { d.MinReadySeconds = 500 }),
		"spec.revisionHistoryLimit":          ofDeployment(func(d *appsv1.DeploymentSpec) { *d.RevisionHistoryLimit = 0 }),
		"spec.progressDeadlineSeconds":       ofDeployment(func(d *appsv1.DeploymentSpec) { *d.ProgressDeadlineSeconds = 6000 }),
		"spec.template.metadata.labels":      ofDeployment(func(d *appsv1.DeploymentSpec) { d.Template.Labels["more"] = "x" }),
		"spec.template.metadata.annotations": ofDeployment(func(d *appsv1.DeploymentSpec) { d.Template.Annotations["note"] = "b" }),
	},
}

var anyMeta = map[string]func(obj schema.Object){
	"metadata.name":        func(o schema.Object) { o.SetName("other") },
	"metadata.namespace":   func(o schema.Object) { o.SetNamespace("default") },
	"metadata.labels":      func(o schema.Object) { o.GetLabels()["team"] = "b" },
	"metadata.annotations": func(o schema.Object) { o.GetAnnotations()["note"] = "b" },
}

func ofService(change func(*corev1.ServiceSpec)) func(schema.Object) {
	return func(o schema.Object) { change(&o.(*corev1.Service).Spec) }
}

func ofDeployment(change func(*appsv1.DeploymentSpec)) func(schema.Object) {
	return func(o schema.Object) { change(&o.(*appsv1.Deployment).Spec) }
}

// seenElsewhere are the fields that no table of the cluster shows.
var seenElsewhere = map[schema.Kind]map[string]string{
	schema.KindSource: {"spec": "what it follows and how its trees are judged: the tests of follow, gitsource, load and rights"},
}

// What the table of supported fields calls acted on is, for every kind: each field has a
// change that the cluster's tables, what a node is told or the rules for its change
// show. What pods ask for is shown by scheduler and agent; see nodeagent.
func TestFieldsOfEveryKindAreActedOn(t *testing.T) {
	before := observeTree(t, "", nil)
	if again := observeTree(t, "", nil); before != again {
		t.Fatalf("the same tree is seen as\n%s\nand as\n%s", before, again)
	}
	for _, info := range schema.Kinds() {
		if !info.Desired {
			continue
		}
		listed := rowtest.ActedOn(info.Kind, "")
		for _, path := range listed {
			change := actedChanges[info.Kind][path]
			if change == nil {
				change = anyMeta[path]
			}
			switch {
			case path == "apiVersion" || path == "kind" || seenElsewhere[info.Kind][path] != "" || path == "metadata.namespace" && !info.Namespaced:
			case flips(info.Kind) != nil:
				if !isSeen(t, info.Kind, path) {
					t.Errorf("%s: %s is said to be acted on: a change of it is not seen", info.Kind, path)
				}
			case change == nil:
				t.Errorf("%s: %s is said to be acted on: no change shows it", info.Kind, path)
			case actedTree[info.Kind] != "" && observeTree(t, info.Kind, change) == before:
				t.Errorf("%s: %s is said to be acted on: a change of it is not seen", info.Kind, path)
			}
		}
		for _, path := range slices.Concat(slices.Collect(maps.Keys(actedChanges[info.Kind])), flipped(info.Kind)) {
			if !slices.Contains(listed, path) {
				t.Errorf("%s: %s has a change, and is not listed as acted on", info.Kind, path)
			}
		}
	}
}

// actedWorld is a cluster of one node that follows the tree.
type actedWorld struct {
	t      *testing.T
	engine *settle.Engine
	queue  *settle.Queue
	tx     *state.Txn
	now    time.Time
	out    strings.Builder
}

// observeTree tells what becomes of the tree, with a change of its object of a kind: as
// it is applied, as its pods become ready, as an update stands still, and as it is done.
func observeTree(t *testing.T, kind schema.Kind, change func(schema.Object)) string {
	t.Helper()
	w := newActedWorld(t)
	w.apply(kind, change, "localhost/c:1")
	w.report(corev1.ConditionFalse)
	w.look("applied")
	w.report(corev1.ConditionTrue)
	w.pass(10 * time.Second)
	w.look("ready")
	w.apply(kind, change, "localhost/c:2")
	w.look("updated")
	w.pass(700 * time.Second)
	w.look("stuck")
	for range 5 {
		w.report(corev1.ConditionTrue)
		w.pass(10 * time.Second)
	}
	w.look("done")
	return w.out.String()
}

func newActedWorld(t *testing.T) *actedWorld {
	w := &actedWorld{
		t: t, queue: settle.NewQueue(), tx: state.Empty(state.Counters{}).Begin(), now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		engine: settle.NewEngine(control.Config{ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), NodePortFirst: 30000, NodePortLast: 32767}),
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDR: "10.112.0.0/24"}}
	n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("50")}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	w.tx.Put(n)
	return w
}

func (w *actedWorld) apply(kind schema.Kind, change func(schema.Object), image string) {
	w.t.Helper()
	var desired []*schema.Desired
	for _, info := range schema.Kinds() {
		text, ok := actedTree[info.Kind]
		if !ok {
			continue
		}
		obj := parseObject(w.t, "kind: "+string(info.Kind)+strings.ReplaceAll(text, "localhost/c:1", image))
		was := obj.DeepCopyObject().(schema.Object)
		if info.Kind == kind {
			change(obj)
		}
		schema.Default(obj)
		schema.Default(was)
		schema.SetOrigin(obj, schema.Origin{Source: "main", Path: "all.yaml", Line: 1, Commit: "c1"})
		for _, p := range slices.Concat(schema.Validate(obj), schema.ValidateUpdate(obj, dataChanged(obj))) {
			fmt.Fprintln(&w.out, p.Field, p.Message)
		}
		if declares := schema.Of(info.Kind).Declares.Do; declares != nil {
			fmt.Fprintln(&w.out, declares(obj))
		}
		desired = append(desired, asDesired(obj))
	}
	w.take(desired)
}

// take applies objects as the tree of a source.
func (w *actedWorld) take(desired []*schema.Desired) {
	w.t.Helper()
	slices.SortFunc(desired, func(a, b *schema.Desired) int { return schema.KeyOf(a.Object).Compare(schema.KeyOf(b.Object)) })
	changes, diags := settle.Difference(w.tx, "main", desired)
	for _, d := range diags {
		if d.Severity == schema.Error && !strings.HasPrefix(d.Message, "Pod ") { // an update of a lone pod is told to be one
			fmt.Fprintln(&w.out, d.Message)
		}
	}
	settle.Apply(w.engine.Context(w.tx, w.now), changes)
	w.settle()
}

// dataChanged is an object with other data, where it has any.
func dataChanged(obj schema.Object) schema.Object {
	out := obj.DeepCopyObject().(schema.Object)
	switch o := out.(type) {
	case *corev1.ConfigMap:
		o.Data["new"] = "x"
	case *corev1.Secret:
		o.Data["new"] = []byte("x")
	}
	return out
}

func (w *actedWorld) settle() {
	w.t.Helper()
	for range 1000 {
		if w.engine.Run(w.tx, w.queue, w.now); w.queue.Rested() {
			return
		}
	}
	w.t.Fatal("does not settle")
}

// pass lets time go by, with all that is to be looked at again meanwhile.
func (w *actedWorld) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for range 1000 {
		next := w.queue.NextWake()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(w.now) {
			w.now = next
		}
		w.settle()
	}
	w.now = end
	w.settle()
}

// report is what the node says of its pods.
func (w *actedWorld) report(ready corev1.ConditionStatus) {
	w.t.Helper()
	i := 1
	for _, p := range slices.Collect(state.All[*corev1.Pod](w.tx, "")) {
		next := state.Edit(p)
		i++
		if next.DeletionTimestamp != nil {
			w.tx.Delete(schema.KeyOf(p))
			continue
		}
		next.Status.Phase = corev1.PodRunning
		if next.Status.PodIP == "" {
			next.Status.PodIP = fmt.Sprintf("10.112.0.%d", i+len(p.Name)%2*100)
			next.Status.PodIPs = []corev1.PodIP{{IP: next.Status.PodIP}}
		}
		next.Status.Conditions = slices.DeleteFunc(next.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
		next.Status.Conditions = append(next.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.NewTime(w.now)})
		w.tx.Put(next)
	}
	w.settle()
}

// look tells the tables but for what Git asks for, and what the node is told.
func (w *actedWorld) look(when string) {
	w.t.Helper()
	fmt.Fprintln(&w.out, when)
	for _, info := range schema.Kinds() {
		if info.OfItself {
			continue
		}
		for obj := range w.tx.List(info.Kind, "") {
			fmt.Fprintln(&w.out, schema.KeyOf(obj), obj.GetLabels(), obj.GetAnnotations())
			text, err := json.Marshal(obj)
			if err != nil {
				w.t.Fatal(err)
			}
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(text, &fields); err != nil {
				w.t.Fatal(err)
			}
			if metav1.GetControllerOf(obj) != nil {
				fmt.Fprintln(&w.out, string(fields["spec"]))
			}
			fmt.Fprintln(&w.out, string(fields["status"]))
		}
	}
	told, err := json.Marshal(work.For(w.tx, "n1", wire.ClusterInfo{}, func(namespace, name string) (map[string][]byte, bool) {
		s, ok := state.Get[*corev1.Secret](w.tx, namespace, name)
		if !ok {
			return nil, false
		}
		return s.Data, true
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintln(&w.out, string(told))
}
