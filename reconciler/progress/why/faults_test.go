package why

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/nodeagent/pod"
	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/follow"
	"fairlead/reconciler/health"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

// stage is a small cluster whose objects the product itself makes: the master's
// loop the master's, the agent's status the pods'. A fault is what the nodes and
// Git do, so that a reporter that takes another word for it fails the row.
type stage struct {
	t       *testing.T
	engine  *settle.Engine
	machine *reconciler.Machine
	now     time.Time
	hosts   []*host
	commits int
	told    map[schema.Commit][]*schema.Desired // by commit
	edits   []func(*state.Txn)                  // what no reporter of this program does
}

// host is a node as its agent reports it.
type host struct {
	name    schema.NodeName
	silent  bool
	cpu     string
	labels  map[string]string
	taints  []corev1.Taint
	trouble *wire.NodeProblem
	address string // of its pods; "" is one of its range
	pods    map[string]*pod.Observed
	// ails changes what the agent knows of a pod; the zero value is a pod that
	// runs and is ready.
	ails   func(*pod.Observed)
	events []wire.Event // of every pod on it, once
}

func newStage(t *testing.T, config control.Config, hosts int) *stage {
	config.DNS, config.NodePortFirst, config.NodePortLast = netip.MustParseAddr("10.96.0.10"), 30000, 30002
	if !config.ServiceCIDR.IsValid() {
		config.ServiceCIDR = netip.MustParsePrefix("10.96.0.0/16")
	}
	s := &stage{t: t, engine: settle.NewEngine(config), now: now.Add(-time.Hour), told: map[schema.Commit][]*schema.Desired{}}
	src := schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})}
	s.machine = reconciler.NewMachine(s.engine, state.Empty(state.Counters{}), []schema.Source{src})
	for i := range hosts {
		s.hosts = append(s.hosts, &host{name: schema.NodeName(fmt.Sprint("n", i+1)), cpu: "2", pods: map[string]*pod.Observed{}})
	}
	s.pass(2 * time.Second)
	return s
}

// pass lets time pass, in rounds of a second.
func (s *stage) pass(d time.Duration, first ...reconciler.Input) {
	s.t.Helper()
	for end := s.now.Add(d); s.now.Before(end); first = nil {
		s.now = s.now.Add(time.Second)
		inputs := first
		for i, h := range s.hosts {
			if !h.silent {
				inputs = append(inputs, s.report(i, h), reconciler.Acknowledgement{Node: h.name, Version: s.machine.Snapshot().Counters().ResourceVersion})
			}
		}
		s.machine.Step(s.now, inputs)
	}
}

func (s *stage) report(i int, h *host) reconciler.NodeReport {
	room := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(h.cpu), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("20")}
	r := wire.Report{
		Node: h.name, BootID: "b", NodeIPs: schema.List[string]{fmt.Sprintf("192.0.2.%d", i+1)}, Capacity: room, Allocatable: room,
		Labels: h.labels, Taints: h.taints, Problem: h.trouble,
	}
	wanted := work.For(s.machine.Snapshot(), h.name, wire.ClusterInfo{}, func(string, string) (map[string][]byte, bool) { return nil, true })
	for _, w := range sortedPods(wanted) {
		o := h.pods[string(w.Pod.UID)]
		if o == nil {
			o = &pod.Observed{UID: w.Pod.UID, Namespace: w.Pod.Namespace, Name: w.Pod.Name, StartedAt: s.now, IPs: schema.List[string]{cmp.Or(h.address, fmt.Sprintf("10.112.%d.%d", 4*i, len(h.pods)+1))}}
			h.pods[string(w.Pod.UID)] = o
		}
		o.Setup, o.Initialized = pod.Failure{}, true
		o.Containers = map[string]pod.Container{"api": running(0)}
		if h.ails != nil {
			h.ails(o)
		}
		o.Status = pod.Status(&pod.Wanted{PodWork: w}, o, r.NodeIPs.First(), s.now)
		r.Pods = append(r.Pods, wire.PodReport{UID: o.UID, Namespace: o.Namespace, Name: o.Name, Epoch: w.Epoch, Status: o.Status})
		for _, e := range h.events {
			e.Pod, e.Type, e.Count = o.UID, corev1.EventTypeWarning, 1
			r.Events = append(r.Events, e)
		}
	}
	h.events = nil
	return reconciler.NodeReport{PodCIDR: fmt.Sprintf("10.112.%d.0/22", 4*i), Address: r.NodeIPs.First(), Report: r}
}

func sortedPods(w wire.Work) (out []wire.PodWork) {
	for _, p := range w.Pods {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b wire.PodWork) int { return cmp.Compare(a.Pod.UID, b.Pod.UID) })
	return out
}

// running is a container's attempt that runs, ready and of the image it should be.
func running(attempt int) pod.Container {
	c := pod.Container{}.Next("id", attempt, "", "registry.example/api:v1", "sha256:1", now.Add(-time.Hour))
	c.SpecHash = pod.SpecHash(&corev1.Container{Name: "api", Image: "registry.example/api:v1"})
	c.Started, c.Ready = true, true
	return c
}

// ended is a container that ended so for the third time and waits to start again.
func ended(end pod.Exit, change func(*pod.Container)) func(*pod.Observed) {
	return func(o *pod.Observed) {
		c := running(3)
		c.Crashes = 2
		if change != nil {
			change(&c)
		}
		end.FinishedAt = c.StartedAt.Add(time.Second)
		o.Containers["api"] = c.Exited(end)
	}
}

// after is a container that runs again, not ready yet, after an end.
func after(end pod.Exit, change func(*pod.Container)) func(*pod.Observed) {
	return func(o *pod.Observed) {
		ended(end, change)(o)
		c := o.Containers["api"]
		o.Containers["api"] = c.Next("id2", c.Attempt+1, c.SpecHash, c.Image, c.ImageID, c.FinishedAt)
	}
}

// unready runs and no probe has let it through.
func unready(o *pod.Observed) {
	c := running(0)
	c.Ready = false
	o.Containers["api"] = c
}

func failing(reason, message string) func(*pod.Observed) {
	return func(o *pod.Observed) {
		o.Containers["api"] = pod.Container{Failure: pod.Failure{Reason: reason, Message: message, Count: 2}}
	}
}

func unset(reason, message string) func(*pod.Observed) {
	return func(o *pod.Observed) {
		o.Containers = nil
		o.Setup = pod.Failure{Reason: reason, Message: message, Count: 3}
	}
}

// ail makes every pod of every node so from now on, and tells of it.
func (s *stage) ail(how func(*pod.Observed), events ...wire.Event) {
	s.t.Helper()
	for _, h := range s.hosts {
		h.ails, h.events = how, events
	}
	s.pass(3 * time.Second)
}

// base is what Git asks for unless a row says otherwise.
const base = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  progressDeadlineSeconds: 20
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      terminationGracePeriodSeconds: 7
      containers:
        - name: api
          image: registry.example/api:v1
          readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a, namespace: shop}
data: {v: "1"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: b, namespace: shop}
data: {v: "1"}
`

// push gives the master a commit of that tree, which settles for a moment.
func (s *stage) push(tree string) (commit schema.Commit) {
	s.t.Helper()
	s.commits++
	commit = objecttest.Commit(s.commits)
	files := schema.Tree{Commit: schema.CommitObject{Hash: commit, Subject: fmt.Sprint("commit ", s.commits), Author: "Ada <ada@example.org>"}}
	if tree != "" {
		files.Files = []schema.File{{Path: "shop.yaml", Blob: &schema.Blob{Size: int64(len(tree)), Open: func() ([]byte, error) { return []byte(tree), nil }}}}
	}
	r := load.Load(context.Background(), files, schema.DefaultSourceSpec(schema.SourceSpec{}), load.Options{Source: "main"})
	s.told[commit] = r.Objects
	s.pass(8*time.Second, reconciler.Candidate{Source: "main", Commit: files.Commit, Tree: schema.TreeHash(schema.Hash(tree)), Objects: r.Objects, Diagnostics: r.Diagnostics})
	return commit
}

// goBack does what the follower does when a revision failed. change is what
// became of the objects of the revision to go back to.
func (s *stage) goBack(change func(schema.Object)) {
	s.t.Helper()
	src, _ := state.Source(s.machine.Snapshot(), "main")
	failed, to := settle.GoesBackTo(s.machine.Snapshot(), src)
	if failed == nil {
		s.t.Fatal("nothing to go back from")
	}
	objects := slices.Clone(s.told[to.Spec.Commit])
	for i, d := range objects {
		if change != nil {
			changed := *d
			changed.Object = state.Edit(d.Object)
			change(changed.Object)
			objects[i] = &changed
		}
	}
	s.pass(5*time.Second, reconciler.Candidate{Source: "main", Commit: schema.CommitObject{Hash: to.Spec.Commit}, Tree: to.Spec.Tree, Objects: objects, RollbackOf: schema.RevisionName(failed.Name)})
}

// cluster is the cluster as the API shows it.
func (s *stage) cluster() state.Reader {
	tx := s.machine.Snapshot().Begin()
	for _, edit := range s.edits {
		edit(tx)
	}
	return tx.Commit()
}

// Who is asked about: the first pod of the Deployment, and so on.
const (
	asDeployment = "Deployment shop/api"
	asService    = "Service shop/api"
	asPod        = "Pod"
	asNode       = "Node n1"
	asSource     = "Source main"
	asRevision   = "the newest revision"
)

func (s *stage) key(r state.Reader, who string) schema.Key {
	s.t.Helper()
	switch who {
	case "the pod on n1":
		for p := range state.By[*corev1.Pod](r, state.PodsByNode, "n1") {
			return schema.KeyOf(p)
		}
		s.t.Fatal("no pod on n1")
	case asPod:
		for p := range state.All[*corev1.Pod](r, "shop") {
			return schema.KeyOf(p)
		}
		s.t.Fatal("no pod")
	case asRevision:
		return schema.Key{Kind: schema.KindRevision, Name: string(schema.RevisionOf("main", objecttest.Commit(s.commits)))}
	}
	kind, name, _ := strings.Cut(who, " ")
	key := schema.Key{Kind: schema.Kind(kind), Name: name}
	if namespace, name, ok := strings.Cut(name, "/"); ok {
		key.Namespace, key.Name = namespace, name
	}
	return key
}

// fault is one row: what happens, who is asked about, and the answer.
type fault struct {
	name   string
	happen func(*stage)
	about  []string
	code   health.Code
	actor  health.Actor
	says   string // part of the reason
	log    bool
}

var workload = []string{asDeployment, asPod, asService, asSource, asRevision}

// faults are all that the cluster can see go wrong.
var faults = []fault{
	{"nothing", func(s *stage) { s.push(base) }, append(slices.Clone(workload), asNode, "ConfigMap shop/a"), health.Healthy, health.Nobody, "", false},
	{"a pod has just started", func(s *stage) { s.push(base); s.ail(unready) }, []string{asDeployment, asPod}, health.RollingOut, health.Nobody, "not ready yet", false},
	{"a pod of one run is through", func(s *stage) {
		s.push(strings.NewReplacer("apps/v1", "v1", "kind: Deployment", "kind: Pod").Replace(onceOnly))
		s.ail(func(o *pod.Observed) { o.Containers["api"] = running(0).Exited(pod.Exit{}) })
	}, []string{asPod}, health.Completed, health.Nobody, "done its work", false},

	{"the image is missing", ailing(failing(schema.ReasonErrImagePull, "manifest unknown")), workload, health.ImagePull, health.Developer, "manifest unknown", false},
	{"an image that may not be pulled is missing", ailing(failing(schema.ReasonErrImageNeverPull, "pull policy of Never")), workload, health.ImageNotOnNode, health.Developer, "Never", false},
	{"the registry does not answer", ailing(failing(schema.ReasonRegistryUnavailable, "connection refused")), workload, health.RegistryUnavailable, health.RegistryOperator, "connection refused", false},
	{"the registry wants credentials", ailing(failing(schema.ReasonRegistryDenied, "unauthorized")), workload, health.RegistryDenied, health.Operator, "unauthorized", false},
	{"the node cannot start it", ailing(failing(schema.ReasonNodeError, "no space left on device")), workload, health.NodeFailing, health.Operator, "no space", false},
	{"the node cannot set it up", ailing(unset(schema.ReasonNodeError, "too many open files")), workload, health.NodeFailing, health.Operator, "too many open files", false},
	{"a key of the environment is missing", ailing(failing(schema.ReasonContainerConfig, `secret shop/x has no key y`)), workload, health.ConfigMissing, health.Developer, "no key y", false},
	{"a ConfigMap of a volume is missing", ailing(unset(schema.ReasonContainerConfig, "configmap shop/x not found")), workload, health.ReferenceMissing, health.Developer, "not found", false},
	{"a container cannot be made", ailing(failing(schema.ReasonContainerCreate, "no such user")), workload, health.StartFailing, health.Developer, "no such user", false},
	{"the command is missing", ailing(failing(schema.ReasonContainerRun, "stat /x: no such file")), workload, health.StartFailing, health.Developer, "/x", false},
	{"a volume cannot be made", ailing(unset(schema.ReasonMount, "hostPath /x does not exist")), workload, health.SetupFailing, health.Developer, "/x", false},
	{"a pod's network cannot be made", ailing(unset(schema.ReasonSandbox, "create sandbox: no space left")), workload, health.NetworkFailing, health.Operator, "no space", false},
	{"the program crashes", ailing(ended(pod.Exit{Code: 2}, nil)), workload, health.CrashLoop, health.Developer, "exit code 2", true},
	{"the program crashes again and again, and is ready in between", func(s *stage) {
		s.push(base)
		s.ail(ended(pod.Exit{Code: 2}, nil))
		s.ail(func(o *pod.Observed) {
			after(pod.Exit{Code: 2}, nil)(o)
			c := o.Containers["api"]
			c.Ready = true
			o.Containers["api"] = c
		})
	}, workload, health.CrashLoop, health.Developer, "was started again after exit code 2, 4 restarts, and is ready; it is well once it has been ready for 1m0s", true},
	{"the program has crashed and runs again", ailing(after(pod.Exit{Code: 2}, nil)), workload, health.CrashLoop, health.Developer, "exit code 2", true},
	{"out of memory", ailing(ended(pod.Exit{Code: 137, OOMKilled: true}, nil)), workload, health.OOMKilled, health.Developer, "OOMKilled", true},
	{"the postStart hook fails", ailing(ended(pod.Exit{Code: 143}, unhooked("its postStart hook failed: command exited with code 3"))), workload, health.HookFailing, health.Developer, "postStart hook failed: command exited with code 3", true},
	{"the startup probe fails", ailing(ended(pod.Exit{Code: 143}, stopped("startup probe failed 3 times: refused"))), workload, health.ProbeFailing, health.Developer, "startup probe failed", true},
	{"the liveness probe fails", ailing(ended(pod.Exit{Code: 137}, stopped("liveness probe failed 3 times: refused"))), workload, health.ProbeFailing, health.Developer, "liveness probe failed", true},
	{"the readiness probe fails", func(s *stage) {
		s.push(base)
		s.ail(unready, wire.Event{Reason: schema.ReasonUnhealthy, Container: "api", Message: "Readiness probe failed: 404"})
	}, workload, health.ProbeFailing, health.Developer, "Readiness probe failed: 404", true},
	{"Podman has forgotten a container that lives", ailing(func(o *pod.Observed) {
		c := running(0)
		c.State = pod.StateUnknown
		o.Containers["api"] = c
	}), workload, health.Unknown, health.Operator, "left alone", false},
	{"a container's conmon died", ailing(func(o *pod.Observed) {
		c := running(0)
		c.Unmonitored = now
		o.Containers["api"] = c
	}), workload, health.ConmonDied, health.Operator, "container api died", false},
	{"a container whose conmon died is replaced", ailing(after(pod.Exit{Code: 137, Unknown: true}, func(c *pod.Container) { c.Unmonitored = now })), workload, health.ConmonDied, health.Operator, "conmon had died", true},
	{"a container ended and nobody saw it", ailing(after(pod.Exit{Code: 137, Unknown: true}, nil)), workload, health.EndUnseen, health.Operator, "nothing watched it", true},
	{"a container ended with its node", ailing(after(pod.Exit{Code: 137, Unknown: true, Rebooted: true}, nil)), workload, health.NodeRebooted, health.Operator, "the node booted", true},
	{"the node gives an address that is not its own", func(s *stage) {
		s.hosts[0].address = "10.200.0.1"
		s.push(base)
	}, []string{asDeployment, asPod, asRevision}, health.BadAddress, health.Operator, "10.200.0.1", false},

	{"no node has room", func(s *stage) { s.push(asking("cpu: 9")) }, workload, health.NoCapacity, health.Operator, "cpu: wanted 9", false},
	{"a revision is stalled for want of room", func(s *stage) { s.push(asking("cpu: 9")); s.pass(time.Minute) }, workload, health.NoCapacity, health.Operator, "cpu: wanted 9", false},
	{"there is no node", func(s *stage) { s.push(base) }, []string{asDeployment, asPod}, health.NoCapacity, health.Operator, "the cluster has no node", false},
	{"the only fitting node is not ready", func(s *stage) {
		s.hosts[0].trouble = &wire.NodeProblem{Reason: schema.ReasonRuntimeUnavailable, Message: "no answer"}
		s.push(base)
	}, []string{asDeployment, asPod, asRevision}, health.NoReadyNode, health.Operator, "not ready", false},
	{"no node is what the pod asks for", func(s *stage) { s.push(with("nodeSelector: {disk: ssd}")) }, workload, health.NoFittingNode, health.Developer, "disk=ssd", false},
	{"the one node with room is of the wrong kind, and the other way round", func(s *stage) {
		s.hosts[0].cpu = "1m"
		s.push(strings.Replace(asking("cpu: 1"), "      containers:", "      nodeSelector: {disk: ssd}\n      containers:", 1))
	}, []string{asDeployment, asPod}, health.NoFittingNode, health.Developer, "disk=ssd", false},

	{"a node is silent for five seconds", func(s *stage) { s.push(base); s.silence(8*time.Second, 0) }, append(slices.Clone(workload), asNode), health.NodeSilent, health.Operator, "not reported for 5s", false},
	{"a node is silent for forty", func(s *stage) { s.addHosts(2); s.push(base); s.silence(45*time.Second, 0) }, append(slices.Clone(workload), asNode), health.NodeSilent, health.Operator, "it may be down, cut off", false},
	{"a silent node's pods are replaced", func(s *stage) {
		s.push(base)
		s.addHosts(2)
		s.silence(45*time.Second, 0)
		s.pass(6 * time.Minute)
	}, []string{asNode, "the pod on n1"}, health.NodeSilent, health.Operator, "", false},
	{"most nodes are silent at once", func(s *stage) { s.push(base); s.addHosts(2); s.silence(50*time.Second, 0, 1) }, append(slices.Clone(workload), asNode), health.MostNodesSilent, health.Operator, "evictions are paused", false},
	{"a node lacks what containers need", troubled(schema.ReasonNodeUnfit), append(slices.Clone(workload), asNode), health.NodeUnfit, health.Operator, "it is so", false},
	{"a node's runtime does not answer", troubled(schema.ReasonRuntimeUnavailable), append(slices.Clone(workload), asNode), health.RuntimeUnavailable, health.Operator, "it is so", false},
	{"a node's network cannot be programmed", troubled(schema.ReasonNetworkUnavailable), append(slices.Clone(workload), asNode), health.NetworkFailing, health.Operator, "it is so", false},
	{"a node has trouble of which this program knows nothing", troubled("Moonstruck"), append(slices.Clone(workload), asNode), health.NodeNotReady, health.Operator, "it is so", false},
	{"a node that is ready cannot start pods", func(s *stage) {
		s.push(base)
		s.edits = append(s.edits, func(tx *state.Txn) {
			node, _ := state.Get[*corev1.Node](tx, "", "n1")
			next := state.Edit(node)
			next.Status.Conditions = append(next.Status.Conditions, corev1.NodeCondition{Type: schema.ConditionStartsFailing, Status: corev1.ConditionTrue, Reason: schema.ReasonNodeError, Message: "no space left"})
			tx.Put(next)
		})
	}, []string{asNode}, health.NodeFailing, health.Operator, "is ready, and pods cannot be started there: no space left", false},
	{"a node takes no pods", func(s *stage) {
		s.push(base)
		s.edits = append(s.edits, func(tx *state.Txn) {
			node, _ := state.Get[*corev1.Node](tx, "", "n1")
			next := state.Edit(node)
			next.Spec.Unschedulable = true
			tx.Put(next)
		})
	}, []string{asNode}, health.Unschedulable, health.Operator, "takes no new pods", false},

	{"a pod drains", func(s *stage) { s.leaving(0) }, []string{asPod}, health.Draining, health.Nobody, "until every node", false},
	{"a pod takes its grace period", func(s *stage) { s.leaving(4 * time.Second) }, []string{asPod}, health.Terminating, health.Nobody, "within 7s", false},
	{"a pod ignores the stop signal", func(s *stage) {
		s.leaving(4*time.Second, wire.Event{Reason: schema.ReasonExceededGracePeriod, Container: "api", Message: "killing container api: still running 7s after the stop signal"})
	}, []string{asPod}, health.StopIgnored, health.Developer, "still running 7s", false},
	{"a pod was stopped the hard way before, for a probe", func(s *stage) {
		s.push(base)
		s.ail(nil, wire.Event{Reason: schema.ReasonExceededGracePeriod, Container: "api", Message: "still running"}, wire.Event{Reason: schema.ReasonKill, Container: "api", Message: "no such thing"})
		s.pass(5 * time.Second)
		s.leave(4 * time.Second)
	}, []string{asPod}, health.Terminating, health.Nobody, "within 7s", false},
	{"a pod cannot be ended", func(s *stage) {
		s.leaving(4*time.Second, wire.Event{Reason: schema.ReasonKill, Container: "api", Message: "no such thing"})
	}, []string{asPod}, health.StopFailing, health.Operator, "no such thing", false},

	{"a service selects nothing", func(s *stage) {
		s.push(strings.Replace(base, "selector: {app: api}, ports", "selector: {app: web}, ports", 1))
	}, []string{asService}, health.NoMatchingPods, health.Developer, "app=web", false},
	{"a service asks for a port that its pods do not have", func(s *stage) {
		prepared := strings.Replace(base, "      containers:\n", "      initContainers: [{name: prepare, image: registry.example/api:v1, ports: [{name: web, containerPort: 80}]}]\n      containers:\n", 1)
		s.push(strings.Replace(prepared, "ports: [{port: 80}]}", "ports: [{name: a, port: 80, targetPort: web}, {name: b, port: 81}]}", 1))
	}, []string{asService}, health.NoMatchingPort, health.Developer, `spec.ports[0].targetPort: no pod that it selects has a TCP port named "web"`, false},
	{"a service asks for a foreign address", func(s *stage) {
		s.push(strings.Replace(base, "spec: {selector", "spec: {clusterIP: 10.97.0.1, selector", 1))
	}, []string{asService}, health.AddressRefused, health.Developer, "10.97.0.1", false},
	{"a service asks for a foreign node port", func(s *stage) {
		s.push(strings.Replace(base, "ports: [{port: 80}]}", "type: NodePort, ports: [{nodePort: 30009, port: 80}]}", 1))
	}, []string{asService}, health.AddressRefused, health.Developer, "30009/TCP is outside", false},
	{"no node port is free", func(s *stage) {
		s.push(strings.Replace(base, "ports: [{port: 80}]}", "type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81}, {name: c, port: 82}, {name: d, port: 83}]}", 1))
	}, []string{asService}, health.AddressesExhausted, health.Operator, "no node port", false},

	{"a tree has errors", func(s *stage) { s.push(base); s.push(base + "\n---\nkind: Moon\n") }, []string{asSource, asRevision, asDeployment}, health.Invalid, health.Developer, "shop.yaml", false},
	{"a tree changes what is immutable", func(s *stage) { s.push(base); s.push(strings.ReplaceAll(base, "app: api", "app: other")) }, []string{asSource, asRevision, asDeployment}, health.Invalid, health.Developer, "cannot change once", false},
	{"a mass deletion", func(s *stage) { s.push(base); s.push(base[:strings.Index(base, "---")]) }, []string{asSource, asRevision, asDeployment}, health.PruneGuard, health.Developer, schema.TrailerAllowPrune, false},
	{"a tree is empty", func(s *stage) { s.push(base); s.push("") }, []string{asSource, asRevision, asDeployment}, health.TreeEmpty, health.Developer, schema.TrailerAllowPrune, false},
	{"a revision failed and the cluster went back", func(s *stage) { s.fail(); s.goBack(nil); s.well() }, []string{asSource, asRevision, asDeployment}, health.Quarantined, health.Developer, "", false},
	{"a tree that failed comes again", func(s *stage) { s.fail(); s.goBack(nil); s.well(); s.push(base); s.push(second) }, []string{asSource, asRevision, asDeployment}, health.Quarantined, health.Developer, schema.TrailerRetry, false},
	{"a revision failed and there is no way back", func(s *stage) {
		s.fail()
		s.goBack(func(obj schema.Object) {
			if obj.GetName() == "shop" {
				schema.SetOrigin(obj, schema.Origin{Source: "main"})
			}
			if svc, ok := obj.(*corev1.Service); ok {
				svc.Spec.ClusterIP = "10.96.7.7" // another than it has: immutable
			}
		})
	}, []string{asSource, asRevision}, health.NoWayBack, health.Developer, "going back to", false},
	{"a revision failed and nothing was healthy before", func(s *stage) {
		s.hosts[0].ails = unready
		s.push(base)
		s.pass(time.Minute)
	}, []string{asSource, asRevision}, health.NothingToGoBackTo, health.Developer, "no progress", false},
	{"a revision failed and its source holds", func(s *stage) {
		s.edits = append(s.edits, func(tx *state.Txn) { // the master's configuration
			src, _ := state.Source(tx, "main")
			next := state.Edit(src)
			next.Spec.OnFailure = "hold"
			tx.Put(next)
		})
		s.fail()
		s.ail(unready)
	}, []string{asSource, asRevision}, health.Failed, health.Developer, "no progress", false},
	{"a revision failed and is about to make way", func(s *stage) { s.fail() }, []string{asSource, asRevision}, health.RollingOut, health.Nobody, "goes back", false},
	{"a failed revision's workload is to blame", func(s *stage) { s.fail(); s.ail(ended(pod.Exit{Code: 1}, nil)) }, []string{asSource, asRevision, asDeployment}, health.CrashLoop, health.Developer, "exit code 1", true},
	{"a revision waits for what it did not change", func(s *stage) {
		s.push(base)
		s.pass(time.Minute)
		s.ail(unready)
		s.push(strings.Replace(base, `n: "1"`, `n: "2"`, 1))
		s.pass(time.Minute)
	}, []string{asSource, asRevision}, health.Stalled, health.Operator, "which this revision did not change", false},
	{"a newer commit came", func(s *stage) { s.push(asking("cpu: 9")); s.push(base); s.commits = 1 }, []string{asRevision}, health.Superseded, health.Nobody, "by main-2", false},
	{"a guard holds of which this program knows nothing", func(s *stage) {
		s.push(base)
		s.push("")
		s.edits = append(s.edits, func(tx *state.Txn) {
			rev, _ := state.Revision(tx, schema.RevisionOf("main", objecttest.Commit(2)))
			next := state.Edit(rev)
			next.Status.Conditions[0].Reason = "Moonstruck"
			tx.Put(next)
		})
	}, []string{asSource, asRevision}, health.Held, health.Developer, "", false},
	{"controllers fight", func(s *stage) {
		s.push(base)
		s.edits = append(s.edits, func(tx *state.Txn) { // as package settle tells it, whose test holds it to this
			d := tx.Get(schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "api"})
			control.Event(s.engine.Context(tx, s.now), d, corev1.EventTypeWarning, schema.ReasonParked, "deployment of Deployment shop/api parked after 20 visits")
		})
	}, []string{asDeployment, asPod}, health.Parked, health.Operator, "20 visits", false},

	{"nobody answers", looked(follow.Unreachable), []string{asSource}, schema.ReasonUnreachable, health.Operator, "it is so", false},
	{"credentials are not taken", looked(follow.Unauthorized), []string{asSource}, schema.ReasonUnauthorized, health.Operator, "it is so", false},
	{"credentials cannot be used", looked(follow.BadCredentials), []string{asSource}, schema.ReasonBadCredentials, health.Operator, "it is so", false},
	{"an address cannot be followed", looked(follow.BadURL), []string{asSource}, schema.ReasonBadURL, health.Operator, "it is so", false},
	{"a truncated repository", looked(follow.BadRepository), []string{asSource}, schema.ReasonBadRepository, health.Operator, "it is so", false},
	{"a repository beyond the bounds", looked(follow.TooLarge), []string{asSource}, schema.ReasonTooLarge, health.Developer, "it is so", false},
	{"the master's disk is full", looked(follow.NotStored), []string{asSource}, schema.ReasonNotStored, health.Operator, "it is so", false},
	{"the branch vanished", looked(follow.BranchGone), []string{asSource}, schema.ReasonBranchGone, health.Developer, "it is so", false},
	{"a force push", looked(follow.Rewound), []string{asSource}, schema.ReasonRewound, health.Developer, "it is so", false},
	{"the path is gone", looked(follow.PathGone), []string{asSource}, schema.ReasonPathGone, health.Developer, "it is so", false},
	{"a tree beyond the bounds", looked(follow.TreeRefused), []string{asSource}, schema.ReasonTreeRefused, health.Developer, "it is so", false},
	{"trouble of which this program knows nothing", looked("Moonstruck"), []string{asSource}, health.SourceTrouble, health.Operator, "it is so", false},
}

// ailing is a cluster that was well and whose pods all come to ail so.
func ailing(how func(*pod.Observed)) func(*stage) {
	return func(s *stage) { s.push(base); s.ail(how) }
}

// stopped is a container that is being stopped for a probe.
func stopped(why string) func(*pod.Container) {
	return func(c *pod.Container) { c.Unlively, c.StopReason, c.TermAt = why, why, c.StartedAt }
}

// unhooked is a container that is being stopped for its postStart hook.
func unhooked(why string) func(*pod.Container) {
	return func(c *pod.Container) { c.PostStartFailed, c.StopReason, c.TermAt = why, why, c.StartedAt }
}

func troubled(reason string) func(*stage) {
	return func(s *stage) {
		s.push(base)
		s.hosts[0].trouble = &wire.NodeProblem{Reason: reason, Message: "it is so"}
		s.pass(3 * time.Second)
	}
}

func looked(reason follow.Reason) func(*stage) {
	return func(s *stage) {
		s.push(base)
		s.pass(3*time.Second, reconciler.SourceReport{Source: "main", Reason: string(reason), Message: "it is so"})
	}
}

// with is base whose pods ask for something.
func with(line string) string {
	return strings.Replace(base, "      containers:", "      "+line+"\n      containers:", 1)
}

func asking(requests string) string {
	return strings.Replace(base, "          readinessProbe", "          resources: {requests: {"+requests+"}}\n          readinessProbe", 1)
}

// second is another template of the same image, so that the agent's model need
// not know which.
var second = strings.Replace(base, "terminationGracePeriodSeconds: 7", "terminationGracePeriodSeconds: 8", 1)

// onceOnly is a bare pod that runs once.
const onceOnly = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: job, namespace: shop}
spec:
  restartPolicy: Never
  containers: [{name: api, image: "registry.example/api:v1"}]
`

// fail has a second revision fail after a healthy first one, without its pods
// saying why.
func (s *stage) fail() {
	s.t.Helper()
	s.push(base)
	s.pass(schema.DefaultHealthyFor + 10*time.Second)
	s.ail(unready)
	s.push(second)
	s.pass(time.Minute)
}

func (s *stage) well() { s.ail(nil) }

func (s *stage) addHosts(n int) {
	for range n {
		s.hosts = append(s.hosts, &host{name: schema.NodeName(fmt.Sprint("n", len(s.hosts)+1)), cpu: "1m", pods: map[string]*pod.Observed{}})
	}
	s.pass(2 * time.Second)
}

func (s *stage) silence(d time.Duration, of ...int) {
	s.t.Helper()
	for _, i := range of {
		s.hosts[i].silent = true
	}
	s.pass(d)
}

// leaving pushes a deployment and takes it out of the tree. Its node goes on
// reporting the pod as running; the tables are acknowledged only when some time is
// given.
func (s *stage) leaving(d time.Duration, events ...wire.Event) {
	s.t.Helper()
	s.push(base)
	s.leave(d, events...)
}

func (s *stage) leave(d time.Duration, events ...wire.Event) {
	s.t.Helper()
	tree := base[:strings.Index(base, "---")] + base[strings.Index(base, "---\napiVersion: v1\nkind: Service"):]
	s.commits++
	files := schema.Tree{Files: []schema.File{{Path: "shop.yaml", Blob: &schema.Blob{Open: func() ([]byte, error) { return []byte(tree), nil }}}}}
	r := load.Load(context.Background(), files, schema.DefaultSourceSpec(schema.SourceSpec{}), load.Options{Source: "main"})
	s.pass(time.Second, reconciler.Candidate{Source: "main", Commit: schema.CommitObject{Hash: objecttest.Commit(s.commits)}, Tree: "t", Objects: r.Objects})
	s.hosts[0].events = events
	s.pass(d)
}

// stages are rows whose cluster differs from one node and the usual ranges.
var stages = map[string]struct{ hosts int }{
	"there is no node": {0},
}

func (f fault) stage(t *testing.T) *stage {
	hosts := 1
	if other, ok := stages[f.name]; ok {
		hosts = other.hosts
	}
	s := newStage(t, control.Config{StallAfter: 10 * time.Second}, hosts)
	f.happen(s)
	return s
}

func TestEveryFaultHasItsCode(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := f.stage(t)
			r := s.cluster()
			for _, who := range f.about {
				key := s.key(r, who)
				got, err := Explain(r, key)
				if err != nil {
					t.Fatal(err)
				}
				if got.Code != f.code || got.Actor != f.actor || !strings.Contains(got.Reason, f.says) || (got.Log != nil) != f.log {
					t.Errorf("%s: %s, %s: %s (log %v)\nwant %s, %s, with %q, log %v", key, got.Code, got.Actor, got.Reason, got.Log, f.code, f.actor, f.says, f.log)
				}
				if again := saidTwice(got.Reason); again != "" {
					t.Errorf("%s: %q is said twice in a row: %s", key, again, got.Reason)
				}
				if len(got.Links) == 0 || got.Todo == "" {
					t.Errorf("%s: %d links, to do %q", key, len(got.Links), got.Todo)
				}
			}
		})
	}
}

// saidTwice finds words that come twice in a row, which happens where texts are put
// together.
func saidTwice(text string) string {
	words := strings.Fields(text)
	for n := 1; n <= 3; n++ {
		for i := 0; i+2*n <= len(words); i++ {
			if slices.Equal(words[i:i+n], words[i+n:i+2*n]) {
				return strings.Join(words[i:i+n], " ")
			}
		}
	}
	return ""
}

// A code that no fault leads to is one that nobody gets; one without its line in
// the manual is one that nobody understands.
func TestEveryCodeHasItsFault(t *testing.T) {
	reached := map[health.Code]bool{health.Recovering: true} // see TestNothingIsKnownWhileTheClusterIsGathered
	for _, f := range faults {
		reached[f.code] = true
	}
	manual, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range health.Rules() {
		if !reached[r.Code] {
			t.Errorf("no fault has the code %s", r.Code)
		}
		if !strings.Contains(string(manual), string(r.Code)) {
			t.Errorf("docs/operations.md does not tell of %s", r.Code)
		}
	}
}

func TestNothingIsKnownWhileTheClusterIsGathered(t *testing.T) {
	waits := errors.New("the store was lost and is recovered from the nodes: waiting for n2")
	c := InRecovery(schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: "api"}, waits.Error())
	if c.Code != health.Recovering || c.Actor != health.Operator || c.Reason != waits.Error() || c.Object != "Pod shop/api" {
		t.Errorf("%+v", c)
	}
}
