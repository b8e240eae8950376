package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/reconciler/trust"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// modelTick is how often a model agent reports.
const modelTick = 20 * time.Millisecond

// startCluster is the script command "cluster N": a real master in this process
// with N model agents, n1 and on, of one CPU and 1Gi each. A model agent runs what
// it is told at once; a container whose image has the tag "missing" waits for it, one
// with "ends" has done its work at once and one with "fails" has failed.
// The script's $KUBECONFIG then names the cluster and $REMOTE its repository.
func startCluster(ts *testscript.TestScript, negated bool, args []string) {
	var n int
	if _, err := fmt.Sscan(strings.Join(args, " "), &n); negated || len(args) != 1 || err != nil {
		ts.Fatalf("usage: cluster N")
	}
	dir, err := os.MkdirTemp("", "fl") // a socket's path is short
	ts.Check(err)
	c := modelMaster(ts, dir)
	log := logrus.New()
	log.SetOutput(io.Discard)
	standInForHook(ts)
	ctx, cancel := context.WithCancel(context.Background())
	m, err := newMaster(ctx, c, logrus.NewEntry(log))
	ts.Check(err)
	ended := make(chan error, 2)
	go func() { ended <- m.run(ctx) }()
	go func() { ended <- runModels(ctx, m, n) }()
	ts.Defer(func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil {
				ts.Logf("cluster: %v", err)
			}
		}
		m.close()
		os.RemoveAll(dir)
	})
	cert, key, err := m.authority.ClientCert("reader", []string{trust.OrgReaders}, time.Hour)
	ts.Check(err)
	kubeconfig, err := trust.Kubeconfig("https://"+c.Listen, m.authority.CAPEM(), cert, key, "fairlead")
	ts.Check(err)
	path := filepath.Join(dir, "kubeconfig")
	ts.Check(os.WriteFile(path, kubeconfig, 0o600))
	ts.Setenv("KUBECONFIG", path)
	ts.Setenv("REMOTE", filepath.Join(dir, "git", "main.git"))
	awaitNodes(ts, m, n)
}

// standInForHook puts an empty file where the master looks for its hook: scripts
// fetch into the repository, which calls none.
func standInForHook(ts *testscript.TestScript) {
	self, err := os.Executable()
	ts.Check(err)
	path := filepath.Join(filepath.Dir(self), "fairlead-hook")
	if _, err := os.Stat(path); err == nil {
		return
	}
	// Scripts run side by side: the file stays for the others, in go test's own
	// directory.
	ts.Check(os.WriteFile(path, nil, 0o700))
}

func modelMaster(ts *testscript.TestScript, dir string) config.Master {
	address := freeAddress(ts)
	path := filepath.Join(dir, "config.yaml")
	ts.Check(config.Write(path, config.Master{
		Dir: dir, RunDir: dir, Listen: address, Advertise: address,
		Sources: []config.Source{{Name: "main", Spec: schema.SourceSpec{Embedded: true}}},
	}))
	c, err := config.ReadMaster(path)
	ts.Check(err)
	return c
}

// deliver is the script command "deliver DIR [BRANCH]": the cluster's main comes to
// be at the clone's branch, main by default, and the master has seen it. Git takes
// it without asking the master, which judges it as a commit from elsewhere.
func deliver(ts *testscript.TestScript, negated bool, args []string) {
	if negated || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: deliver DIR [BRANCH]")
	}
	branch := "main"
	if len(args) > 1 {
		branch = args[1]
	}
	remote := ts.Getenv("REMOTE")
	ts.Check(ts.Exec("git", "-C", remote, "fetch", "-q", ts.MkAbs(args[0]), branch+":main"))
	tip, err := exec.Command("git", "-C", remote, "rev-parse", "main").Output()
	ts.Check(err)
	c, err := client.Open(ts.Getenv("KUBECONFIG"))
	ts.Check(err)
	want := schema.Commit(strings.TrimSpace(string(tip)))
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(modelTick) {
		src, err := client.Get[*schema.Source](context.Background(), c, schema.KindSource, "", "main")
		ts.Check(err)
		if src.Status.Desired.Commit == want {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the master has not seen commit %s after 30s", want)
		}
	}
}

var portsTried atomic.Uint32

// freeAddress is one below the ports that the kernel hands out by itself, so that
// nobody takes it before the master does.
func freeAddress(ts *testscript.TestScript) string {
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+(uint32(os.Getpid())*31+portsTried.Add(1))%10_000)
		if l, err := net.Listen("tcp", address); err == nil {
			ts.Check(l.Close())
			return address
		}
	}
	ts.Fatalf("no free port")
	return ""
}

func awaitNodes(ts *testscript.TestScript, m *master, n int) {
	for deadline := time.Now().Add(30 * time.Second); m.feed.Snapshot().Len(schema.KindNode) < n; time.Sleep(modelTick) {
		if time.Now().After(deadline) {
			ts.Fatalf("the cluster has no %d nodes after 30s", n)
		}
	}
}

func runModels(ctx context.Context, m *master, n int) error {
	tick := time.NewTicker(modelTick)
	defer tick.Stop()
	for {
		for i := range n {
			name := schema.NodeName(fmt.Sprintf("n%d", i+1))
			version := m.feed.Snapshot().Counters().ResourceVersion
			if err := m.loop.Submit(ctx, modelReport(m, i, name)); err != nil {
				return nil // the master has ended
			}
			if err := m.loop.Post(ctx, reconciler.Acknowledgement{Node: name, Version: version}); err != nil {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func modelReport(m *master, i int, name schema.NodeName) reconciler.NodeReport {
	res := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("20")}
	r := wire.Report{Node: name, BootID: "b", NodeIPs: schema.List[string]{fmt.Sprintf("192.0.2.%d", i+1)}, Capacity: res, Allocatable: res}
	snapshot := m.feed.Snapshot()
	w := work.For(snapshot, name, wire.ClusterInfo{}, func(string, string) (map[string][]byte, bool) { return nil, true })
	for _, uid := range slices.Sorted(maps.Keys(w.Pods)) {
		p := w.Pods[uid]
		pr := wire.PodReport{UID: uid, Namespace: p.Pod.Namespace, Name: p.Pod.Name, Epoch: p.Epoch, Gone: p.Drained}
		live, _ := state.PodByUID(snapshot, uid)
		pr.Status = modelStatus(p.Pod, live, modelAddress(i, uid))
		r.Pods = append(r.Pods, pr)
	}
	return reconciler.NodeReport{PodCIDR: fmt.Sprintf("10.112.%d.0/22", 4*i), Address: r.NodeIPs.First(), Report: r}
}

// modelAddress is one of the node's: a pod's own, as far as a hash can tell.
func modelAddress(node int, uid types.UID) string {
	h := fnv.New32a()
	_, _ = io.WriteString(h, string(uid))
	n := h.Sum32()
	return fmt.Sprintf("10.112.%d.%d", 4*node+int(n>>8)%4, 1+n%254)
}

// modelStatus is the status of a pod whose containers run, or wait for an image
// that is missing; what was told before stays as it was.
func modelStatus(pod, live *corev1.Pod, ip string) corev1.PodStatus {
	if len(live.Status.ContainerStatuses) > 0 {
		return live.Status
	}
	if end := modelEnd(pod); end != nil {
		return *end
	}
	now, started := metav1.Now().Rfc3339Copy(), true
	status := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	ready := corev1.ConditionTrue
	for _, ctr := range pod.Spec.Containers {
		s := corev1.ContainerStatus{Name: ctr.Name, Image: ctr.Image, Ready: true, Started: &started}
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: now}
		if strings.HasSuffix(ctr.Image, ":missing") {
			s.Ready, s.Started, ready, status.Phase = false, new(bool), corev1.ConditionFalse, corev1.PodPending
			s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "manifest unknown"}}
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	for _, t := range []corev1.PodConditionType{corev1.ContainersReady, corev1.PodReady} {
		status.Conditions = append(status.Conditions, corev1.PodCondition{Type: t, Status: ready, LastTransitionTime: now})
	}
	return status
}

// modelEnd is the status of a pod whose containers end at once and are not started
// again, nil for any other.
func modelEnd(pod *corev1.Pod) *corev1.PodStatus {
	now, image := metav1.Now().Rfc3339Copy(), pod.Spec.Containers[0].Image
	status := corev1.PodStatus{Phase: corev1.PodSucceeded}
	end := corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}
	switch {
	case strings.HasSuffix(image, ":ends"):
	case strings.HasSuffix(image, ":fails"):
		status.Phase, end.Reason, end.ExitCode = corev1.PodFailed, "Error", 3
	default:
		return nil
	}
	for _, ctr := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{Name: ctr.Name, Image: ctr.Image, State: corev1.ContainerState{Terminated: &end}})
	}
	return &status
}
