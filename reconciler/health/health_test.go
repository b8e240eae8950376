package health

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
	"fairlead/schema/rowtest"
)

var now = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func cluster(objects ...schema.Object) state.Reader {
	tx := state.Empty(state.Counters{}).Begin()
	for _, o := range objects {
		tx.Restore(o)
	}
	return tx.Commit()
}

func nodeWith(conditions ...corev1.NodeCondition) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: conditions}}
}

var readyNode = nodeWith(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue})

func podWith(changes ...func(*corev1.Pod)) *corev1.Pod {
	return objecttest.Pod("job", "n1", changes...)
}

func status(s ...corev1.ContainerStatus) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses = s }
}

func condition(t corev1.PodConditionType, s corev1.ConditionStatus, reason, message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: t, Status: s, Reason: reason, Message: message})
	}
}

func waits(name, reason, message string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
}

func ended(code int32, reason string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}
}

func runs(restarts int32, last *corev1.ContainerStateTerminated) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, LastTerminationState: corev1.ContainerState{Terminated: last}}
}

func unboundPod(p *corev1.Pod) { p.Spec.NodeName = "" }

// Every fault of a pod: its code, whose fault it is, and what is said.
func TestPods(t *testing.T) {
	crashed := waits("c", schema.ReasonCrashLoop, "back-off 40s")
	crashed.RestartCount, crashed.LastTerminationState.Terminated = 3, ended(1, "Error")
	rebooted := waits("c", schema.ReasonCrashLoop, "")
	rebooted.LastTerminationState.Terminated = ended(137, schema.ReasonNodeRebooted)
	over := func(name string, code int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: ended(code, "")}}
	}
	crashedSidecar := *crashed.DeepCopy()
	crashedSidecar.Name = "s"
	helped := func(policy corev1.RestartPolicy, sidecar corev1.ContainerStatus, more ...func(*corev1.Pod)) *corev1.Pod {
		always := corev1.ContainerRestartPolicyAlways
		p := podWith(more...)
		p.Spec.RestartPolicy = policy
		p.Spec.InitContainers = []corev1.Container{{Name: "s", RestartPolicy: &always}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{sidecar}
		return p
	}
	phase := func(is corev1.PodPhase) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Status.Phase = is } }
	late := func(p *corev1.Pod) {
		p.Status.Reason, p.Status.Message = schema.ReasonDeadlineExceeded, "active for too long"
	}
	tests := []struct {
		name  string
		node  *corev1.Node
		pod   *corev1.Pod
		code  Code
		fault Fault
		text  string
	}{
		{"ready", readyNode, podWith(condition(corev1.PodReady, corev1.ConditionTrue, "", "")), Healthy, NoFault, "pod job is ready on n1"},
		{"done", readyNode, podWith(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), Completed, NoFault, "pod job has done its work"},
		{"not started", readyNode, podWith(), RollingOut, NoFault, "pod job has not started on n1 yet"},
		{"being created", readyNode, podWith(status(waits("c", "ContainerCreating", ""))), RollingOut, NoFault, "pod job has not started on n1 yet"},
		{"not ready yet", readyNode, podWith(status(runs(0, nil))), RollingOut, NoFault, "container c of pod job runs and is not ready yet"},
		{"restarted and not ready", readyNode, podWith(status(runs(2, ended(3, "Error")))), CrashLoop, Revision, "container c of pod job was restarted 2 times, last after exit code 3"},
		{"restarted, nobody knows after what", readyNode, podWith(status(runs(1, nil))), CrashLoop, Revision, "container c of pod job was restarted 1 time"},
		{"crashes", readyNode, podWith(status(crashed)), CrashLoop, Revision, "container c of pod job ends with exit code 1, 3 restarts"},
		{"ended with its node", readyNode, podWith(status(rebooted)), NodeRebooted, NoFault, "container c of pod job ends with exit code 137, NodeRebooted, 0 restarts"},
		{"lacks an image", readyNode, podWith(status(waits("c", schema.ReasonErrImagePull, "refused"))), ImagePull, Revision, "container c of pod job waits: ErrImagePull: refused"},
		{"may not have its image", readyNode, podWith(status(waits("c", schema.ReasonRegistryDenied, "denied"))), RegistryDenied, Registry, "container c of pod job waits: RegistryDenied: denied"},
		{"cannot ask for its image", readyNode, podWith(status(waits("c", schema.ReasonRegistryUnavailable, "503"))), RegistryUnavailable, Registry, "container c of pod job waits: RegistryUnavailable: 503"},
		{"has no image and may not pull it", readyNode, podWith(status(waits("c", schema.ReasonErrImageNeverPull, "not here"))), ImageNotOnNode, Revision, "container c of pod job waits: ErrImageNeverPull: not here"},
		{"cannot be started for what it asks", readyNode, podWith(status(waits("c", schema.ReasonContainerRun, "no command"))), StartFailing, Revision, "container c of pod job waits: RunContainerError: no command"},
		{"cannot be started there", readyNode, podWith(status(waits("c", schema.ReasonNodeError, "no conmon"))), NodeFailing, Cluster, "container c of pod job waits: NodeError: no conmon"},
		{"cannot be set up there", readyNode, podWith(condition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, schema.ReasonNodeError, "disk is full")), NodeFailing, Cluster, "pod job cannot be set up: disk is full"},
		{"is on a node that lacks something", nodeWith(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: schema.ReasonNodeUnfit, Message: "no runc"}), podWith(), NodeUnfit, Cluster, "pod job is on node n1, which is not ready: no runc"},
		{"has no configuration", readyNode, podWith(status(waits("c", schema.ReasonContainerConfig, "no ConfigMap x"))), ConfigMissing, Revision, "container c of pod job waits: CreateContainerConfigError: no ConfigMap x"},
		{"waits for what is nowhere", readyNode, podWith(status(waits("c", schema.ReasonContainerConfig, "configmap x not found"))), ReferenceMissing, Cluster, "container c of pod job waits: CreateContainerConfigError: configmap x not found"},
		{"waits for a volume of what is nowhere", readyNode, podWith(condition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, schema.ReasonContainerConfig, "prepare volumes: secret x not found")), ReferenceMissing, Cluster, "pod job cannot be set up: prepare volumes: secret x not found"},
		{"crashes beside one without an image", readyNode, podWith(status(waits("a", schema.ReasonRegistryUnavailable, ""), crashed)), CrashLoop, Revision, "container c of pod job ends with exit code 1, 3 restarts"},
		{"was refused", readyNode, podWith(func(p *corev1.Pod) {
			p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "disk is full"
		}), Failed, Revision, "pod job failed: Evicted: disk is full"},
		{"its sidecar crashes", readyNode, helped(corev1.RestartPolicyNever, crashedSidecar, status(runs(0, nil))), CrashLoop, Revision, "container s of pod job ends with exit code 1, 3 restarts"},
		{"done, and its sidecar was killed", readyNode, helped(corev1.RestartPolicyNever, over("s", 137), phase(corev1.PodSucceeded), status(over("c", 0))), Completed, NoFault, "pod job has done its work"},
		{"failed, and its sidecar was killed", readyNode, helped(corev1.RestartPolicyNever, over("s", 137), phase(corev1.PodFailed), status(over("c", 3))), CrashLoop, Revision, "container c of pod job ended with exit code 3"},
		{"only its sidecar is left", readyNode, helped(corev1.RestartPolicyOnFailure, crashedSidecar, phase(corev1.PodRunning), status(over("c", 0))), RollingOut, NoFault, "the containers of pod job have ended, and its sidecars are ending"},
		{"between two runs, and its sidecar crashes", readyNode, helped(corev1.RestartPolicyAlways, crashedSidecar, phase(corev1.PodRunning), status(over("c", 0))), CrashLoop, Revision, "container s of pod job ends with exit code 1, 3 restarts"},
		{"too late, and it crashes", readyNode, podWith(late, phase(corev1.PodFailed), status(crashed)), Failed, Revision, "pod job failed: DeadlineExceeded: active for too long"},
		{"too late, and still ending", readyNode, podWith(late, phase(corev1.PodRunning), status(crashed)), Failed, Revision, "pod job is being ended: DeadlineExceeded: active for too long"},
		{"has no network", readyNode, podWith(condition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, schema.ReasonSandbox, "no link")), NetworkFailing, Cluster, "pod job cannot be set up: no link"},
		{"has no room", readyNode, podWith(unboundPod, condition(corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, "cpu")), NoCapacity, Cluster, "no node takes pod job: cpu"},
		{"fits nowhere", readyNode, podWith(unboundPod, condition(corev1.PodScheduled, corev1.ConditionFalse, corev1.PodReasonUnschedulable, "labels"), condition(schema.ConditionLacking, corev1.ConditionTrue, schema.ReasonNoFittingNode, "")),
			NoFittingNode, Cluster, "no node takes pod job: labels"},
		{"waits for its planned node", readyNode, podWith(unboundPod, condition(corev1.PodScheduled, corev1.ConditionFalse, schema.ReasonPlannedNodeFull, "n2 is full")), RollingOut, NoFault, "pod job waits for its node: n2 is full"},
		{"has a silent node", nodeWith(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}), podWith(status(crashed)), NodeSilent, Cluster, "pod job is on node n1, which does not report" + NobodyKnows},
		{"has no node any more", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, podWith(), NodeSilent, Cluster, "pod job is on node n1, which the cluster does not have"},
		{"has a broken node", nodeWith(corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: schema.ReasonRuntimeUnavailable, Message: "no Podman"}), podWith(), RuntimeUnavailable, Cluster, "pod job is on node n1, which is not ready: no Podman"},
		{"is not heard of", readyNode, podWith(condition(schema.ConditionStale, corev1.ConditionTrue, "", "no report for 5s")), NodeSilent, Cluster, "what is known of pod job is old: no report for 5s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := OfPod(cluster(tt.node, tt.pod), tt.pod)
			if got.Code != tt.code || got.Fault != tt.fault || got.Text != tt.text {
				t.Errorf("got %s (%q): %s\nwant %s (%q): %s", got.Code, got.Fault, got.Text, tt.code, tt.fault, tt.text)
			}
		})
	}
}

// What events say of a pod is told, without blaming a container that merely has not
// come up.
func TestTellKeepsTheFault(t *testing.T) {
	p := podWith(status(runs(0, nil)), func(p *corev1.Pod) { p.UID = "u" })
	e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e"}, InvolvedObject: corev1.ObjectReference{UID: "u"}, Reason: schema.ReasonUnhealthy, Message: "readiness probe failed: HTTP 404"}
	r := cluster(readyNode, p, e)
	got := Tell(r, OfPod(r, p))
	want := Trouble{Code: ProbeFailing, Text: "container c of pod job runs, but: readiness probe failed: HTTP 404", Pod: schema.KeyOf(p), Container: "c", Running: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each kind that may stand in Git is judged or known to run nothing; a kind that is
// neither is found among a source's workloads, and is not well.
func TestAnUnknownKindIsNotWell(t *testing.T) {
	rowtest.Check(t, rows)
	if got := len(walksOf(schema.Kinds())); got != 4 {
		t.Errorf("%d ways to workloads, want those of Deployments, Jobs, CronJobs and Pods: a kind of schema has no row", got)
	}
	withNew := append(slices.Clone(schema.Kinds()), schema.KindInfo{Kind: "DaemonSet", Desired: true})
	if got := len(walksOf(withNew)); got != 5 {
		t.Errorf("%d ways to workloads once there is a kind without a row, want 5", got)
	}
	w := Of(cluster(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "x"}}, now)
	troubles := slices.Collect(w.Troubles)
	if w.Complete || len(troubles) != 1 || troubles[0].Text != "this version cannot judge the health of kind ConfigMap" {
		t.Errorf("complete %v, %+v", w.Complete, troubles)
	}
}

// Every code has a rule, so that no answer lacks who must act.
func TestRulesAreWhole(t *testing.T) {
	seen := map[Code]bool{}
	for _, r := range Rules() {
		if seen[r.Code] || r.Todo == "" || r.Actor == "" || r.Actor == Nobody && r.Fault != NoFault {
			t.Errorf("rule of %s: %+v", r.Code, r)
		}
		seen[r.Code] = true
	}
}

// What starts on one node and not on another is the other's fault; what starts nowhere
// is the revision's.
func TestWhatStartsElsewhereIsTheNodesFault(t *testing.T) {
	yes := true
	owned := func(name, node string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := podWith(change...)
		p.Name, p.Spec.NodeName, p.UID = name, node, types.UID(name)
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "api", UID: "rs", Controller: &yes}}
		return p
	}
	stuck := owned("a", "n1", status(waits("c", schema.ReasonContainerCreate, "no such device")))
	for name, tt := range map[string]struct {
		like *corev1.Pod
		want Code
	}{
		"it runs on another node": {owned("b", "n2", condition(corev1.PodReady, corev1.ConditionTrue, "", "")), NodeFailing},
		"it runs on the same":     {owned("b", "n1", condition(corev1.PodReady, corev1.ConditionTrue, "", "")), StartFailing},
		"it runs nowhere":         {owned("b", "n2", status(waits("c", schema.ReasonContainerCreate, "no such device"))), StartFailing},
	} {
		t.Run(name, func(t *testing.T) {
			tx := state.Empty(state.Counters{}).Begin()
			for _, obj := range []schema.Object{readyNode, stuck, tt.like} {
				tx.Put(obj)
			}
			got := OfPod(tx, stuck)
			_, kept := KeptByNode(tx, stuck)
			if got.Code != tt.want || kept != (tt.want == NodeFailing) {
				t.Errorf("%s (kept %v): %s", got.Code, kept, got.Text)
			}
		})
	}
}
