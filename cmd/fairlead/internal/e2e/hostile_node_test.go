package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
	"fairlead/schema/wire"
)

const (
	// reservedPool is a label that only the registry gives, and that the hostile node
	// claims; nodeCanary is the Secret of a pod that is for such a node alone.
	reservedPool = "node-restriction.kubernetes.io/pool"
	nodeCanary   = "only-for-the-pool"
	// insistence is how often a lie is told in a row: the master decides in several
	// rounds, and the node's agent says the truth every two seconds.
	insistence = 10
	// hugeReport is near the most that a report may have.
	hugeReport = 7 << 20
)

// A node with its own certificate says whatever serves it, beside what its agent
// reports: that it is another one, has the labels of a pool, and an address and pods of
// others, in reports of any size. No pod moves, none is drawn to it, none of the others'
// ends, and it gets no Secret.
func testHostileNode(t *testing.T) {
	shared.awaitReady(t)
	w, d := shared.clone(t), newDoors(t)
	victim := shared.Nodes[1].Name
	w.write(t, map[string]string{"hostile/node.yaml": hostileNodeTree(victim)})
	if out, err := w.push(t, "a pod on a node, and one for a pool", "-o", "e2e"); err != nil {
		t.Fatalf("push: %v\n%s", err, out)
	}
	var steady *corev1.Pod
	eventually(t, time.Minute, "the pod on "+victim+" is ready", func() (bool, string) {
		pods := shared.pods(t, "hostile", "app", "steady")
		if len(pods) == 1 {
			steady = pods[0]
		}
		return len(pods) == 1 && ready(pods[0]), describe(pods)
	})
	before := shared.placements(t)

	l := &liar{doors: d, name: shared.Nodes[0].Name, is: shared.node(t, shared.Nodes[0].Name), victim: shared.node(t, victim), pods: shared.onNodes(t)}
	ctx, cancel := context.WithTimeout(t.Context(), *attackFor)
	defer cancel()
	for lie := 0; lie < len(lies) || ctx.Err() == nil; lie++ {
		for range insistence {
			l.tell(t, lies[lie%len(lies)])
		}
	}
	if taken := l.answers[wire.PathReport][http.StatusOK]; taken < insistence {
		t.Errorf("the master took %d reports: %v", taken, l.answers)
	}
	l.unmoved(t, before, steady)
	if got := l.work(t); strings.Contains(got, nodeCanary) {
		t.Error("the node was given the Secret of a pod that is not for it")
	}
	w.write(t, map[string]string{"hostile/node.yaml": ""})
	w.pushHealthy(t, "no hostile node\n\nFairlead-Allow-Prune: 100")
	shared.awaitReady(t)
}

// hostileNodeTree is a pod on a node, with a Service, and one for a pool of which there
// is no node.
func hostileNodeTree(node string) string {
	pod := func(app, selector, more string) string {
		return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: hostile}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      nodeSelector: {%[2]s}
      terminationGracePeriodSeconds: 0
      containers:
        - name: c
          image: %[3]s
          imagePullPolicy: Never
          readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
%[4]s`, app, selector, witnessImage, more)
	}
	return "apiVersion: v1\nkind: Namespace\nmetadata: {name: hostile}\n---\n" +
		"apiVersion: v1\nkind: Secret\nmetadata: {name: pool, namespace: hostile}\nstringData: {value: " + nodeCanary + "}\n---\n" +
		"apiVersion: v1\nkind: Service\nmetadata: {name: steady, namespace: hostile}\nspec: {selector: {app: steady}, ports: [{port: 80, targetPort: 8080}]}\n" +
		pod("steady", corev1.LabelHostname+": "+node, "") +
		pod("drawn", reservedPool+": red", "          env: [{name: VALUE, valueFrom: {secretKeyRef: {name: pool, key: value}}}]\n")
}

// liar speaks as the node name, beside its agent.
type liar struct {
	*doors
	name   string
	is     *corev1.Node // what it is in truth
	victim *corev1.Node
	pods   map[string][]*corev1.Pod // by node
}

// lies change what the node would say.
var lies = []func(l *liar, r *wire.Report){
	func(l *liar, r *wire.Report) {
		r.Labels = map[string]string{reservedPool: "red", corev1.LabelHostname: l.victim.Name, "node-role.kubernetes.io/control-plane": ""}
	},
	func(l *liar, r *wire.Report) { r.NodeIPs = schema.List[string]{l.victim.Status.Addresses[0].Address} },
	func(l *liar, r *wire.Report) {
		for _, p := range l.pods[l.victim.Name] {
			r.Pods = append(r.Pods, wire.PodReport{UID: p.UID, Namespace: p.Namespace, Name: p.Name, Status: corev1.PodStatus{Phase: corev1.PodFailed, PodIP: p.Status.PodIP}})
			r.Events = append(r.Events, wire.Event{Pod: p.UID, Namespace: p.Namespace, Name: p.Name, Type: corev1.EventTypeWarning, Reason: "Lie", Message: "it burns"})
		}
	},
	func(l *liar, r *wire.Report) {
		for _, p := range l.pods[l.victim.Name] {
			r.Pods = append(r.Pods, wire.PodReport{UID: p.UID, Namespace: p.Namespace, Name: p.Name, Gone: true})
		}
	},
	func(l *liar, r *wire.Report) { // the addresses of others' pods for its own
		for i, p := range l.pods[l.name] {
			status := *p.Status.DeepCopy()
			status.PodIP = l.pods[l.victim.Name][i%len(l.pods[l.victim.Name])].Status.PodIP
			r.Pods = append(r.Pods, wire.PodReport{UID: p.UID, Namespace: p.Namespace, Name: p.Name, Status: status})
		}
	},
	func(l *liar, r *wire.Report) { r.Node = schema.NodeName(l.victim.Name) },
	func(_ *liar, r *wire.Report) {
		r.Problem = &wire.NodeProblem{Reason: "x", Message: strings.Repeat("x", hugeReport)}
	},
	func(_ *liar, r *wire.Report) {
		for i := range 20_000 {
			r.Pods = append(r.Pods, wire.PodReport{UID: "no-such-pod", Namespace: "hostile", Name: fmt.Sprint("p", i)})
			r.Taints = append(r.Taints, corev1.Taint{Key: fmt.Sprint("t", i), Effect: corev1.TaintEffectNoExecute})
		}
	},
}

// tell sends one lie and takes whatever is answered.
func (l *liar) tell(t *testing.T, lie func(*liar, *wire.Report)) {
	t.Helper()
	is := l.is.Status
	r := wire.Report{Node: schema.NodeName(l.name), NodeIPs: schema.List[string]{shared.address(l.name)}, BootID: is.NodeInfo.BootID, Info: is.NodeInfo, Capacity: is.Capacity, Allocatable: is.Allocatable}
	lie(l, &r)
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	l.call(ctx, l.doors.node, http.MethodPost, wire.PathReport, bytes.NewReader(body))
}

// unmoved compares the cluster with what it was before the lies.
func (l *liar) unmoved(t *testing.T, before map[string]string, steady *corev1.Pod) {
	t.Helper()
	if moved := differences(shared.placements(t), before); len(moved) > 0 {
		t.Errorf("pods moved: %q", moved)
	}
	for _, p := range shared.pods(t, "hostile", "app", "drawn") {
		if p.Spec.NodeName != "" {
			t.Errorf("pod %s was drawn to %s", p.Name, p.Spec.NodeName)
		}
	}
	now := shared.pods(t, "hostile", "app", "steady")
	if len(now) != 1 || now[0].UID != steady.UID || now[0].Status.PodIP != steady.Status.PodIP || !ready(now[0]) {
		t.Errorf("the pod on %s was %s, is %s", l.victim.Name, describe([]*corev1.Pod{steady}), describe(now))
	}
	liar, other := shared.node(t, l.name), shared.node(t, l.victim.Name)
	if liar.Labels[corev1.LabelHostname] != l.name || liar.Labels[reservedPool] != "" || liar.Status.Addresses[0].Address != shared.address(l.name) {
		t.Errorf("the node has become %v at %v", liar.Labels, liar.Status.Addresses)
	}
	if fmt.Sprint(other.Labels, other.Status.Addresses, other.Spec.PodCIDR) != fmt.Sprint(l.victim.Labels, l.victim.Status.Addresses, l.victim.Spec.PodCIDR) {
		t.Errorf("%s has become %v at %v", other.Name, other.Labels, other.Status.Addresses)
	}
}

// work is the first of what the master tells the node to do.
func (l *liar) work(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+l.doors.address+wire.PathWork+"?since=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := l.doors.node.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var frame json.RawMessage
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&frame); err != nil || !strings.Contains(string(frame), "version") {
		t.Fatalf("the node's work: %v: %.200s", err, frame)
	}
	return string(frame)
}

// node is a node as the API tells of it.
func (c *cluster) node(t *testing.T, name string) *corev1.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	n, err := client.Get[*corev1.Node](ctx, c.api, schema.KindNode, "", name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// onNodes are the pods by the node they are bound to.
func (c *cluster) onNodes(t *testing.T) map[string][]*corev1.Pod {
	t.Helper()
	all, err := c.podsByUID(t)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]*corev1.Pod)
	for _, p := range all {
		out[p.Spec.NodeName] = append(out[p.Spec.NodeName], p)
	}
	return out
}
