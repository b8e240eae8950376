package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// ownedCluster is the sample with what is made from other objects, what a source that
// is gone left, and what the cluster made itself.
func ownedCluster() *state.Snapshot {
	controlled := func(m metav1.ObjectMeta, kind schema.Kind, name string) metav1.ObjectMeta {
		m.OwnerReferences = []metav1.OwnerReference{{Kind: string(kind), Name: name, Controller: ptr(true)}}
		return m
	}
	left := meta("shop", "left", nil)
	schema.SetOrigin(&left, schema.Origin{Source: "old", Path: "left.yaml", Line: 7})
	slice := controlled(metav1.ObjectMeta{Namespace: "shop", Name: "api-1"}, schema.KindService, "api")
	tx := sampleCluster().Begin()
	for _, obj := range []schema.Object{
		&corev1.Pod{ObjectMeta: controlled(meta("shop", "api-5d9c7b-ccccc", nil), schema.KindReplicaSet, "api-5d9c7b")},
		&corev1.Pod{ObjectMeta: controlled(meta("shop", "left-1", nil), schema.KindReplicaSet, "left")},
		&appsv1.ReplicaSet{ObjectMeta: controlled(metav1.ObjectMeta{Namespace: "shop", Name: "left"}, schema.KindDeployment, "left")},
		&appsv1.Deployment{ObjectMeta: left},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}},
		&discoveryv1.EndpointSlice{ObjectMeta: slice},
	} {
		tx.Put(obj)
	}
	return tx.Commit()
}

func TestEveryRefusalNamesTheTruePlace(t *testing.T) {
	s := &Server{kinds: resourceIndex(), cfg: Config{Feed: state.NewFeed(ownedCluster()), Origin: schema.Origin{Source: "main", Path: "deploy"}}}
	const deployment = "desired state lives in Git: main, shop/shop.yaml:3"
	for _, c := range []struct{ method, path, body, want string }{
		{"DELETE", "/api/v1/namespaces/shop/pods/api-5d9c7b-ccccc", "", deployment + " (Deployment shop/api, which Pod shop/api-5d9c7b-ccccc is made from); to restart its pods change an annotation of the pod template there and push"},
		{"PATCH", "/api/v1/namespaces/shop/pods/api-5d9c7b-ccccc", `{"metadata":{"labels":{"a":"b"}}}`, deployment + " (Deployment shop/api, which Pod shop/api-5d9c7b-ccccc is made from); change it there and push"},
		{"POST", "/api/v1/namespaces/shop/pods/api-5d9c7b-ccccc/eviction", "{}", deployment + " (Deployment shop/api, which Pod shop/api-5d9c7b-ccccc is made from); to restart its pods change an annotation of the pod template there and push"},
		{"DELETE", "/apis/apps/v1/namespaces/shop/replicasets/api-5d9c7b", "", deployment + " (Deployment shop/api, which ReplicaSet shop/api-5d9c7b is made from); take it out there and push"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/api", `[{"op":"replace","path":"/spec/template","value":{}}]`, deployment + "; to go back to an earlier revision use `fairlead rollback`"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/api/scale?dryRun=All", `{"spec":{"replicas":3}}`, deployment + "; nothing is tried here: `fairlead diff` shows how a tree's objects differ from the cluster, `fairlead plan` what would become of them"},
		{"PUT", "/api/v1/namespaces/shop/endpoints/api", "{}", "desired state lives in Git: main, shop/shop.yaml:3; change it there and push"},
		{"DELETE", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/api-1", "", "desired state lives in Git: main, shop/shop.yaml:3 (Service shop/api, which EndpointSlice shop/api-1 is made from); take it out there and push"},

		{"DELETE", "/apis/apps/v1/namespaces/shop/deployments/left", "", "desired state lives in Git, but source old, which declared Deployment shop/left (left.yaml:7), is not of this cluster any more; declare that source again to change or remove what it left"},
		{"DELETE", "/api/v1/namespaces/shop/pods/left-1", "", "desired state lives in Git, but source old, which declared Deployment shop/left, which Pod shop/left-1 is made from (left.yaml:7), is not of this cluster any more; declare that source again to change or remove what it left"},

		{"DELETE", "/api/v1/namespaces/default", "", "Namespace default is made by the cluster itself; to have it otherwise declare it in Git: main, deploy"},
		{"PATCH", "/api/v1/namespaces/default/services/kubernetes", "{}", "Service default/kubernetes is made by the cluster itself; to have it otherwise declare it in Git: main, deploy"},
		{"DELETE", "/apis/fairlead/v1/sources/main", "", "Source main is one of the sources in the master's configuration: change it there and restart the master"},
		{"DELETE", "/apis/fairlead/v1/revisions/main-0123456789ab", "", "Revision main-0123456789ab is what became of a commit: push another one, or use `fairlead rollback`"},
		{"DELETE", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", "", "Lease kube-node-lease/n1 tells when the node reported last"},

		{"PATCH", "/api/v1/nodes/n1", `{"metadata":{"labels":{"a":"b"}}}`, "labels of Node n1 stand in its own configuration, agent.yaml on n1: change them there and restart its agent; reserved ones, below kubernetes.io and k8s.io, come with a token: `fairlead token --node n1 --label KEY=VALUE`"},
		{"PUT", "/api/v1/nodes/n1/status", "{}", "nodes/status is not served; the master writes it itself"},
		{"PUT", "/api/v1/nodes/n1", "not JSON", "labels and taints of Node n1 stand in its own configuration, agent.yaml on n1: change them there and restart its agent; all else it reports"},
		{"GET", "/api/v1/nodes/n1/proxy/metrics", "", "nodes/proxy is not served; a node is reached by its own address"},
		{"GET", "/api/v1/namespaces/shop/pods/nobody/portforward", "", "pods/portforward is not served; every node and pod reaches pods and services by their addresses; from elsewhere reach it through a Service of type NodePort"},
		{"PATCH", "/api/v1/namespaces/shop/pods/api-5d9c7b-ccccc/ephemeralcontainers", "{}", "pods/ephemeralcontainers is not served; there are no debug containers: " + enterWay},
		{"POST", "/api/v1/namespaces/shop/pods", `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"kubectl-debug"}}}`, "desired state lives in Git: main, deploy; there are no debug pods: " + enterWay},
	} {
		r, err := http.NewRequestWithContext(context.Background(), c.method, "https://master"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		var answered *metav1.Status
		refuse := func(_ http.ResponseWriter, r *http.Request) {
			if target, ok := s.target(r); ok {
				answered = new(s.refuseWrite(r, target).Status())
			}
		}
		mux.HandleFunc("/api/v1/{path...}", refuse)
		mux.HandleFunc("/apis/{group}/{version}/{path...}", refuse)
		mux.ServeHTTP(nil, r)
		if answered == nil || answered.Code != http.StatusMethodNotAllowed || answered.Message != c.want {
			t.Errorf("%s %s:\n got %v\nwant %s", c.method, c.path, answered, c.want)
		}
	}
}

// Whoever comes, to whatever door: nothing is done for a request that says it is
// somebody else's.
func TestImpersonationIsRefusedAtEveryDoor(t *testing.T) {
	done := 0
	beside := func(w http.ResponseWriter, _ *http.Request) { done++; w.WriteHeader(http.StatusOK) }
	ts := startServer(t, func(c *Config) {
		c.Plan = func(context.Context, PlanRequest) (any, error) { done++; return struct{}{}, nil }
		c.Beside = map[string]Beside{
			"/git/":   {Handler: http.HandlerFunc(beside), Pusher: func(r *http.Request) (string, bool) { return "eve", r.Header.Get("Authorization") != "" }},
			"/hooks/": {Handler: http.HandlerFunc(beside)},
		}
	})
	for _, c := range []struct {
		door         *Limit
		cn           string // "" is nobody
		method, path string
		token        string
	}{
		{doorHealth, "", "GET", "/version", ""},
		{doorReads, "reader:ada", "GET", "/api/v1/pods", ""},
		{doorReads, "reader:ada", "GET", "/metrics", ""},
		{doorReads, "reader:ada", "GET", "/openapi/v3", ""},
		{doorReads, "reader:ada", "GET", "/apis", ""},
		{doorReads, "reader:ada", "GET", "/no/such/path", ""},
		{doorReads, "reader:ada", "DELETE", "/api/v1/namespaces/shop/pods/x", ""},
		{doorReads, "reader:ada", "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", ""},
		{doorWatches, "reader:ada", "GET", "/api/v1/pods?watch=true", ""},
		{doorLogs, "reader:ada", "GET", "/api/v1/namespaces/shop/pods/api-5d9c7b-aaaaa/log", ""},
		{doorPlan, "reader:ada", "POST", "/apis/fairlead/v1/plan", ""},
		{doorGit, "", "POST", "/git/main/git-receive-pack", "Bearer right"},
		{doorStrangers, "", "GET", "/git/main/info/refs?service=git-receive-pack", ""},
		{doorHooks, "", "POST", "/hooks/main", ""},
		{doorJoin, "", "POST", wire.PathJoin, ""},
		{doorRenew, "node:n1", "POST", wire.PathRenew, ""},
		{doorWork, "node:n1", "GET", wire.PathWork, ""},
		{doorReport, "node:n1", "POST", wire.PathReport, ""},
		{doorKept, "node:n1", "POST", wire.PathKept, ""},
		{doorLogAnswers, "node:n1", "POST", wire.PathLogs + "x", ""},
	} {
		for _, header := range []string{"Impersonate-User", "impersonate-group", "Impersonate-Uid", "Impersonate-Extra-Scopes"} {
			code, body, _ := do(t, ts.client(c.cn), c.method, ts.url+c.path, []byte("{}"), header, "bob", "Authorization", c.token)
			if code != http.StatusForbidden || !strings.Contains(string(body), "may not impersonate anybody") {
				t.Errorf("%s: %s %s with %s: %d %s", c.door.Door, c.method, c.path, header, code, body)
			}
		}
	}
	if done > 0 {
		t.Errorf("%d requests were answered", done)
	}
	if code, body, _ := do(t, ts.client("reader:ada"), "GET", ts.url+"/api/v1/pods", nil); code != http.StatusOK {
		t.Errorf("without the header afterwards: %d %s", code, body)
	}
}

// What moves without a change: reports that say what the last one said make no version
// of the cluster, and are seen where clients look for them.
func TestReportsMoveHeartbeatsAndNothingElse(t *testing.T) {
	now := sampleNow
	ts := startServer(t, func(c *Config) { c.Now = func() time.Time { return now } })
	reader, agent := ts.client("reader:ada"), ts.client("node:n1")
	renewed := func() (heartbeat metav1.Time, lease coordinationv1.Lease) {
		node := get[corev1.Node](t, reader, ts.url+"/api/v1/nodes/n1")
		listed := get[corev1.NodeList](t, reader, ts.url+"/api/v1/nodes")
		if diff := node.Status.Conditions[0].LastHeartbeatTime.Sub(listed.Items[0].Status.Conditions[0].LastHeartbeatTime.Time); diff != 0 {
			t.Errorf("get and list differ by %s", diff)
		}
		return node.Status.Conditions[0].LastHeartbeatTime, get[coordinationv1.Lease](t, reader, ts.url+"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1")
	}
	if _, lease := renewed(); lease.Spec.RenewTime != nil || *lease.Spec.HolderIdentity != "n1" || *lease.Spec.LeaseDurationSeconds != 40 {
		t.Errorf("before any report: %+v", lease.Spec)
	}
	before := ts.feed.Snapshot().Counters().ResourceVersion
	for range 2 {
		now = now.Add(2 * time.Second)
		report, err := json.Marshal(wire.Report{Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		if code, body, _ := do(t, agent, "POST", ts.url+wire.PathReport, report); code != http.StatusOK {
			t.Fatalf("report: %d %s", code, body)
		}
		if heartbeat, lease := renewed(); !heartbeat.Time.Equal(now) || !lease.Spec.RenewTime.Time.Equal(now) {
			t.Errorf("at %s: heartbeat %s, lease %s", now, heartbeat, lease.Spec.RenewTime)
		}
	}
	if node := get[corev1.Node](t, reader, ts.url+"/api/v1/nodes/n2"); !node.Status.Conditions[0].LastHeartbeatTime.IsZero() {
		t.Errorf("the report of n1 moved n2: %v", node.Status.Conditions)
	}
	if after := ts.feed.Snapshot().Counters().ResourceVersion; after != before {
		t.Errorf("reports made versions: %d", after-before)
	}
	if stored, _ := state.Get[*corev1.Node](ts.feed.Snapshot(), "", "n1"); !stored.Status.Conditions[0].LastHeartbeatTime.IsZero() {
		t.Error("the published node was changed")
	}
}

func TestLeasesFollowTheirNodes(t *testing.T) {
	ts := startServer(t)
	w := startWatch(t, ts, "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases?watch=true")
	w.want("ADDED n1", "ADDED n2")
	ts.publish(func(tx *state.Txn) { tx.Put(sampleNode("n3", "10.0.0.3", "10.112.8.0/22", corev1.ConditionTrue)) })
	w.want("ADDED n3")
	ts.publish(func(tx *state.Txn) { tx.Delete(schema.Key{Kind: schema.KindNode, Name: "n3"}) })
	w.want("DELETED n3")
	all := get[coordinationv1.LeaseList](t, ts.client("reader:ada"), ts.url+"/apis/coordination.k8s.io/v1/leases")
	if len(all.Items) != 2 || all.Items[0].OwnerReferences[0].Kind != "Node" {
		t.Errorf("%+v", all.Items)
	}
	none := get[coordinationv1.LeaseList](t, ts.client("reader:ada"), ts.url+"/apis/coordination.k8s.io/v1/namespaces/shop/leases")
	if len(none.Items) != 0 {
		t.Errorf("leases of another namespace: %+v", none.Items)
	}
}

func TestALogThatIsNotThereSaysWhy(t *testing.T) {
	s := func(name string, waiting *corev1.ContainerStateWaiting, restarts int32) *corev1.Pod {
		pod := samplePod(name, "n1", "10.112.0.6", nil, true)
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: waiting}
		pod.Status.ContainerStatuses[0].RestartCount = restarts
		return pod
	}
	pulling := s("pulling", &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "manifest unknown"}, 0)
	mounting := s("mounting", &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}, 0)
	mounting.Status.Conditions = append(mounting.Status.Conditions, corev1.PodCondition{
		Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: "FailedMount", Message: `configmap "c" not found`,
	})
	lacking := samplePod("lacking", "", "", nil, false)
	lacking.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "n1: cpu: wanted 9, used 0 of 1"}}
	for _, c := range []struct {
		pod      *corev1.Pod
		previous bool
		want     string
	}{
		{pulling, false, `container "api" in pod "pulling" is waiting to start: ImagePullBackOff: manifest unknown`},
		{pulling, true, `previous terminated container "api" in pod "pulling" not found`},
		{mounting, false, `container "api" in pod "mounting" is waiting to start: FailedMount: configmap "c" not found`},
		{s("creating", &corev1.ContainerStateWaiting{Reason: "PodInitializing"}, 0), false, `container "api" in pod "creating" is waiting to start: PodInitializing`},
		{lacking, false, `pod "lacking" is not on a node yet: n1: cpu: wanted 9, used 0 of 1`},
		{s("crashing", &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}, 3), false, ""},
		{s("crashing", &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}, 3), true, ""},
		{samplePod("running", "n1", "10.112.0.7", nil, true), false, ""},
		{samplePod("running", "n1", "10.112.0.7", nil, true), true, `previous terminated container "api" in pod "running" not found`},
	} {
		got := ""
		if err := noLogYet(&corev1.PodLogOptions{Container: "api", Previous: c.previous}, c.pod); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s, previous %v: %q, want %q", c.pod.Name, c.previous, got, c.want)
		}
	}
}
