package nodeagent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"fairlead/nodeagent"
	"fairlead/nodeagent/mounttest"
	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/runtimetest"
	"fairlead/nodeagent/volume"
	"fairlead/schema"
	"fairlead/schema/wire"
)

func TestMain(m *testing.M) {
	mounttest.Own()
	goleak.VerifyTestMain(m)
}

const image = "localhost/program:1"

// fakeNetwork remembers sandboxes, as the kernel would.
type fakeNetwork struct {
	mu        sync.Mutex
	sandboxes map[types.UID]netip.Addr
	set       int
	err       error
}

func (n *fakeNetwork) Set(*wire.Work, []pod.HostPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set++
	return n.err
}

func (n *fakeNetwork) CreateSandbox(c pod.SandboxConfig) (pod.Sandbox, error) {
	uid, ip := c.UID, c.IP
	n.mu.Lock()
	defer n.mu.Unlock()
	if had, ok := n.sandboxes[uid]; ok && had != ip {
		return pod.Sandbox{}, fmt.Errorf("pod %s has %s", uid, had)
	}
	for other, taken := range n.sandboxes {
		if taken == ip && other != uid {
			return pod.Sandbox{}, fmt.Errorf("%s is pod %s's", ip, other)
		}
	}
	n.sandboxes[uid] = ip
	return pod.Sandbox{Net: "/net/" + string(uid)}, nil
}

func (n *fakeNetwork) DeleteSandbox(uid types.UID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sandboxes, uid)
	return nil
}

func (n *fakeNetwork) Sandboxes() (map[types.UID]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.sandboxes), nil
}

// fakeMaster hands out whole works and hears reports.
type fakeMaster struct {
	mu      sync.Mutex
	version uint64
	work    *wire.Work
	emit    func(nodeagent.Update)
	report  *wire.Report
	events  []wire.Event
	told    []wire.PodReport // all of all reports
	logs    map[string]string
	away    bool
}

func newMaster() *fakeMaster { return &fakeMaster{logs: map[string]string{}} }

func (m *fakeMaster) Follow(ctx context.Context, version uint64, _ wire.Items, emit func(nodeagent.Update)) {
	m.mu.Lock()
	if !m.away {
		m.emit = emit
		m.version = max(m.version, version)
		if m.work != nil {
			emit(m.update())
		}
	}
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.emit = nil
	m.mu.Unlock()
}

func (m *fakeMaster) update() nodeagent.Update {
	items := wire.Split(m.work)
	work, err := wire.Join(items)
	if err != nil {
		panic(err)
	}
	return nodeagent.Update{Version: m.version, Items: items, Work: work, Changed: nodeagent.Families{Head: true, Peers: true, Pods: true, Data: true, Services: true}}
}

// publish changes the work and sends it.
func (m *fakeMaster) publish(change func(w *wire.Work)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.work == nil {
		m.work = &wire.Work{
			Node: "n1", PodCIDRs: schema.List[string]{"10.112.0.0/22"},
			Cluster:    wire.ClusterInfo{ID: "cl", DNS: schema.List[string]{"10.96.0.10"}, Domain: "cluster.local"},
			Pods:       map[types.UID]wire.PodWork{},
			ConfigMaps: map[string]map[string][]byte{}, Secrets: map[string]map[string][]byte{},
			Peers: map[schema.NodeName]wire.Peer{}, Services: map[string]wire.Service{},
		}
	}
	change(m.work)
	m.version++
	if m.emit != nil {
		m.emit(m.update())
	}
}

func (m *fakeMaster) askLog(r wire.LogRequest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.emit(nodeagent.Update{Logs: []wire.LogRequest{r}})
}

func (m *fakeMaster) Report(_ context.Context, r *wire.Report) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return errors.New("away")
	}
	m.report = r
	m.events = append(m.events, r.Events...)
	m.told = append(m.told, r.Pods...)
	return nil
}

func (m *fakeMaster) SendLog(_ context.Context, id string, body io.Reader, why error) error {
	text := ""
	if why != nil {
		text = "error: " + why.Error()
	} else {
		data, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		text = string(data)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.logs[id] = text
	return nil
}

// rig is an agent with everything around it faked but the disk.
type rig struct {
	t       *testing.T
	dir     string
	runtime *runtimetest.Fake
	network *fakeNetwork
	master  *fakeMaster
	bootID  string
	lacks   atomic.Value // a string, what the machine lacks
	stop    func()

	patience time.Duration                             // of await
	watch    func(nodeagent.Runtime) nodeagent.Runtime // stands between agent and runtime; nil for nobody
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir(), runtime: runtimetest.NewFake(image, "localhost/program:2"), network: &fakeNetwork{sandboxes: map[types.UID]netip.Addr{}}, master: newMaster(), bootID: "boot-1", patience: 10 * time.Second}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) checks(context.Context) string {
	lacks, _ := r.lacks.Load().(string)
	return lacks
}

// start begins a life of the agent; stop ends it, containers running on.
func (r *rig) start() {
	log := logrus.New()
	log.SetOutput(io.Discard)
	r.runtime.Reopen()
	runtime := nodeagent.Runtime(r.runtime)
	if r.watch != nil {
		runtime = r.watch(runtime)
	}
	a := nodeagent.New(nodeagent.Config{
		Node: "n1", NodeIP: "10.0.0.1", Dir: r.dir, Info: corev1.NodeSystemInfo{BootID: r.bootID}, Checks: r.checks,
		Runtime: runtime, Network: r.network, Volumes: volume.New(nodeagent.PodsDir(r.dir)), Master: r.master, Log: logrus.NewEntry(log),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("run: %v", err)
		}
	}
}

func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(r.patience)
	for !ok() {
		if time.Now().After(deadline) {
			r.t.Fatalf("waited in vain: %s\ncalls: %v\nreport: %+v", what, r.runtime.Calls(), r.report("uid-1"))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (r *rig) report(uid types.UID) wire.PodReport {
	r.master.mu.Lock()
	defer r.master.mu.Unlock()
	if r.master.report == nil {
		return wire.PodReport{}
	}
	for _, p := range r.master.report.Pods {
		if p.UID == uid {
			return p
		}
	}
	return wire.PodReport{}
}

func (r *rig) status(uid types.UID) string {
	s := r.report(uid).Status
	words := []string{string(s.Phase)}
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			words = append(words, "Ready")
		}
	}
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		switch {
		case c.State.Waiting != nil:
			words = append(words, c.State.Waiting.Reason)
		case c.State.Terminated != nil:
			words = append(words, c.State.Terminated.Reason)
		}
	}
	return strings.Join(words, " ")
}

func (r *rig) awaitStatus(uid types.UID, want string) {
	r.t.Helper()
	r.await(fmt.Sprintf("status %s (is %s)", want, r.status(uid)), func() bool { return r.status(uid) == want })
}

func podOf(t *testing.T, uid types.UID, spec string) wire.PodWork {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "pod-" + string(uid), UID: uid}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if list[i].Image == "" {
				list[i].Image = image
			}
			if list[i].ImagePullPolicy == "" {
				list[i].ImagePullPolicy = corev1.PullIfNotPresent
			}
		}
	}
	if p.Spec.RestartPolicy == "" {
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	return wire.PodWork{Pod: p, Epoch: 1}
}

func (r *rig) run(uid types.UID, spec string) {
	r.t.Helper()
	w := podOf(r.t, uid, spec)
	r.master.publish(func(work *wire.Work) { work.Pods[uid] = w })
}

func (r *rig) remove(uid types.UID, drained bool) {
	r.master.publish(func(work *wire.Work) {
		w := work.Pods[uid]
		w.Pod = w.Pod.DeepCopy()
		w.Pod.DeletionTimestamp, w.Drained = &metav1.Time{Time: time.Now()}, drained
		work.Pods[uid] = w
	})
}

func TestAPodLivesAndDies(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	got := r.report("uid-1")
	if got.Status.PodIP != "10.112.0.1" || got.Status.HostIP != "10.0.0.1" || got.Status.ContainerStatuses[0].ImageID == "" {
		t.Errorf("status: %+v", got.Status)
	}
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	r.master.publish(func(w *wire.Work) { delete(w.Pods, "uid-1") })
	r.await("forgotten", func() bool { _, err := os.Stat(filepath.Join(r.dir, "pods", "uid-1")); return os.IsNotExist(err) })
	want := []string{"create fl-uid1-c-0", "start fl-uid1-c-0", "signal fl-uid1-c-0 SIGTERM", "remove fl-uid1-c-0", "release uid-1"}
	if diff := cmp.Diff(want, r.runtime.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if left, _ := r.network.Sandboxes(); len(left) != 0 {
		t.Errorf("sandboxes left: %v", left)
	}
	reasons := []string{}
	r.master.mu.Lock()
	for _, e := range r.master.events {
		reasons = append(reasons, e.Reason)
	}
	r.master.mu.Unlock()
	if diff := cmp.Diff([]string{"Created", "Started", "Killing"}, reasons); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestInitContainersRunInOrder(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "initContainers: [{name: a, args: [exit, \"0\"]}, {name: b, args: [print, x]}]\ncontainers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready Completed Completed")
	var started []string
	for _, call := range r.runtime.Calls() {
		if name, ok := strings.CutPrefix(call, "start "); ok {
			started = append(started, name)
		}
	}
	if diff := cmp.Diff([]string{"fl-uid1-a-0", "fl-uid1-b-0", "fl-uid1-c-0"}, started); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
}

// A sidecar is started before what it helps, is kept while that runs, by a restarted agent
// too, and ends after it.
func TestASidecarOutlivesWhatItHelps(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "restartPolicy: Never\nterminationGracePeriodSeconds: 20\ninitContainers: [{name: s, restartPolicy: Always, args: [stay]}, {name: a, args: [exit, \"0\"]}, {name: z, restartPolicy: Always, args: [stay]}]\ncontainers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready Completed")
	r.runtime.Die("fl-uid1-s-0", pod.Exit{})
	r.await("the sidecar is started again", func() bool { return slices.Contains(r.runtime.Running(), "fl-uid1-s-1") })
	r.awaitStatus("uid-1", "Running Ready Completed")
	r.stop()
	r.start()
	r.awaitStatus("uid-1", "Running Ready Completed")
	r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 3})
	r.awaitStatus("uid-1", "Failed Completed Completed Completed Error")
	var got []string
	for _, call := range r.runtime.Calls() {
		if verb, _, _ := strings.Cut(call, " "); verb == "start" || verb == "signal" {
			got = append(got, call)
		}
	}
	want := []string{
		"start fl-uid1-s-0", "start fl-uid1-a-0", "start fl-uid1-z-0", "start fl-uid1-c-0", "start fl-uid1-s-1",
		"signal fl-uid1-z-0 SIGTERM", "signal fl-uid1-s-1 SIGTERM",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// A deleted pod ends its sidecars last, also where the agent knows it by its labels alone.
func TestSidecarsOfADeletedPodEndLast(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "terminationGracePeriodSeconds: 20\ninitContainers: [{name: a, restartPolicy: Always, args: [stay]}]\ncontainers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.stop()
	if err := os.Remove(filepath.Join(r.dir, "pods", "uid-1", "record.json")); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.awaitStatus("uid-1", "Running Ready")
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	var got []string
	for _, call := range r.runtime.Calls() {
		if strings.HasPrefix(call, "signal") || strings.HasPrefix(call, "start") {
			got = append(got, call)
		}
	}
	want := []string{"start fl-uid1-a-0", "start fl-uid1-c-0", "signal fl-uid1-c-0 SIGTERM", "signal fl-uid1-a-0 SIGTERM"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestRestartsBackOff(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [exit, \"3\"]}]")
	r.awaitStatus("uid-1", "Running CrashLoopBackOff")
	s := r.report("uid-1").Status.ContainerStatuses[0]
	if s.RestartCount != 1 || s.LastTerminationState.Terminated == nil || s.LastTerminationState.Terminated.ExitCode != 3 {
		t.Errorf("status: %+v", s)
	}
}

func TestACompletedPodKeepsItsStatus(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "restartPolicy: Never\ncontainers: [{name: c, args: [exit, \"0\"]}]")
	r.awaitStatus("uid-1", "Succeeded Completed")
	r.await("its sandbox goes", func() bool { left, _ := r.network.Sandboxes(); return len(left) == 0 })
	r.stop()
	calls := len(r.runtime.Calls())
	r.master.mu.Lock()
	r.master.report = nil
	r.master.mu.Unlock()
	r.start()
	r.awaitStatus("uid-1", "Succeeded Completed")
	if got := r.runtime.Calls()[calls:]; len(got) != 0 {
		t.Errorf("after a restart of the agent: %v", got)
	}
}

func TestAnImageThatCannotBeHad(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, image: registry.example/none:1}]")
	r.awaitStatus("uid-1", "Pending ErrImagePull")
}

func TestMissingConfigIsWaitedFor(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay], env: [{name: A, valueFrom: {configMapKeyRef: {name: conf, key: a}}}]}]")
	r.awaitStatus("uid-1", "Pending CreateContainerConfigError")
	r.master.publish(func(w *wire.Work) { w.ConfigMaps["shop/conf"] = map[string][]byte{"a": []byte("x")} })
	r.awaitStatus("uid-1", "Running Ready")
	spec, _ := r.runtime.Spec("fl-uid1-c-0")
	if !slices.Contains(spec.Env, pod.EnvVar{Name: "A", Value: "x"}) {
		t.Errorf("environment: %v", spec.Env)
	}
}

// sourceOf is what a container sees at a path.
func sourceOf(s pod.ContainerSpec, target string) string {
	for _, m := range s.Mounts {
		if m.Target == target {
			return m.Source
		}
	}
	return ""
}

func TestAChangedConfigMapReachesTheVolume(t *testing.T) {
	r := newRig(t)
	r.master.publish(func(w *wire.Work) { w.ConfigMaps["shop/conf"] = map[string][]byte{"a": []byte("one")} })
	r.run("uid-1", "volumes: [{name: v, configMap: {name: conf}}]\ncontainers: [{name: c, args: [stay], volumeMounts: [{name: v, mountPath: /v}]}]")
	r.awaitStatus("uid-1", "Running Ready")
	spec, _ := r.runtime.Spec("fl-uid1-c-0")
	file := filepath.Join(sourceOf(spec, "/v"), "a")
	r.master.publish(func(w *wire.Work) { w.ConfigMaps["shop/conf"] = map[string][]byte{"a": []byte("two")} })
	r.await("the new content", func() bool { data, _ := os.ReadFile(file); return string(data) == "two" })
}

func TestAChangedImageRecreatesTheContainer(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.run("uid-1", "containers: [{name: c, image: \"localhost/program:2\", args: [stay]}]")
	r.await("the new one runs", func() bool { return slices.Equal(r.runtime.Running(), []string{"fl-uid1-c-1"}) })
}

func TestTermWaitsForDraining(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.remove("uid-1", false)
	r.run("uid-2", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-2", "Running Ready") // the deletion was seen before
	if slices.ContainsFunc(r.runtime.Calls(), func(c string) bool { return strings.HasPrefix(c, "signal") }) {
		t.Errorf("signalled before it was drained: %v", r.runtime.Calls())
	}
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
}

func TestAStubbornContainerIsKilledAfterGrace(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "terminationGracePeriodSeconds: 1\ncontainers: [{name: c, args: [stubborn]}]")
	r.awaitStatus("uid-1", "Running Ready")
	began := time.Now()
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
	if d := time.Since(began); d < time.Second {
		t.Errorf("gone after %s, before its grace", d)
	}
}

// A new life of the agent adopts: no container is made, started or stopped.
func TestARestartedAgentAdopts(t *testing.T) {
	for _, how := range []string{"all kept", "no records", "master away"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.run("uid-1", "containers: [{name: c, args: [stay], readinessProbe: {exec: {command: [/program, print, ok]}}}, {name: d, args: [stay]}]")
			r.awaitStatus("uid-1", "Running Ready")
			ip := r.report("uid-1").Status.PodIP
			r.stop()
			calls := r.runtime.Calls()
			r.master.mu.Lock()
			r.master.report, r.master.away = nil, how == "master away"
			r.master.mu.Unlock()
			if how == "no records" {
				if err := os.Remove(filepath.Join(r.dir, "pods", "uid-1", "record.json")); err != nil {
					t.Fatal(err)
				}
			}
			r.start()
			if how == "master away" {
				r.await("network programmed", func() bool { r.network.mu.Lock(); defer r.network.mu.Unlock(); return r.network.set >= 2 })
			} else {
				r.awaitStatus("uid-1", "Running Ready")
				if got := r.report("uid-1").Status.PodIP; got != ip {
					t.Errorf("address %s became %s", ip, got)
				}
			}
			r.stop()
			if diff := cmp.Diff(calls, r.runtime.Calls()); diff != "" {
				t.Errorf("calls of the second life:\n%s", diff)
			}
		})
	}
}

// An agent whose directory is gone, with Podman's storage in it, has sandboxes with
// addresses that it does not remember. It takes them over: pods run on the same address.
func TestAWipedAgentTakesOverItsSandboxes(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.run("uid-2", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-2", "Running Ready")
	had := r.report("uid-2").Status.PodIP
	r.stop()
	r.dir, r.runtime = t.TempDir(), runtimetest.NewFake(image)
	r.master.mu.Lock()
	r.master.report = nil
	delete(r.master.work.Pods, "uid-1") // whose address is the first to be given
	r.master.mu.Unlock()
	r.start()
	r.awaitStatus("uid-2", "Running Ready")
	if got := r.report("uid-2").Status.PodIP; got != had {
		t.Errorf("it had address %s and has %s", had, got)
	}
}

func TestReadinessSurvivesARestartOfTheAgent(t *testing.T) {
	r := newRig(t)
	// The probe's period is so long that the second life does not see its answer.
	r.run("uid-1", "containers: [{name: c, args: [stay], readinessProbe: {initialDelaySeconds: 1, periodSeconds: 3600, exec: {command: [/program, print, ok]}}}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.stop()
	r.runtime.Fail("exec", errors.New("too early to tell"))
	r.master.mu.Lock()
	r.master.report = nil
	r.master.mu.Unlock()
	r.start()
	r.await("a report", func() bool { return r.report("uid-1").Status.Phase != "" })
	if got := r.status("uid-1"); got != "Running Ready" {
		t.Errorf("first word of the second life: %s", got)
	}
}

func TestADeathWhileTheAgentWasAwayIsSeen(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.stop()
	r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 9})
	r.start()
	r.await("the next attempt", func() bool { return slices.Equal(r.runtime.Running(), []string{"fl-uid1-c-1"}) })
	r.await("its last state", func() bool {
		s := r.report("uid-1").Status.ContainerStatuses
		return len(s) == 1 && s[0].LastTerminationState.Terminated != nil && s[0].LastTerminationState.Terminated.ExitCode == 9
	})
}

func TestWhatIsNotInWorkGoes(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "terminationGracePeriodSeconds: 1\ncontainers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.stop()
	r.master.publish(func(w *wire.Work) { delete(w.Pods, "uid-1") })
	r.start()
	r.await("nothing left", func() bool {
		left, _ := r.network.Sandboxes()
		return len(r.runtime.Running()) == 0 && len(left) == 0
	})
	if !slices.Contains(r.runtime.Calls(), "signal fl-uid1-c-0 SIGTERM") {
		t.Errorf("not asked to stop: %v", r.runtime.Calls())
	}
}

func TestNothingGoesWithoutWork(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	r.stop()
	if err := os.Remove(filepath.Join(r.dir, "work")); err != nil {
		t.Fatal(err)
	}
	r.master.mu.Lock()
	r.master.work, r.master.report = nil, nil
	r.master.mu.Unlock()
	r.start()
	r.await("a report", func() bool { return r.report("uid-1").UID != "" })
	if got := r.runtime.Running(); len(got) != 1 {
		t.Errorf("running: %v", got)
	}
}

func TestAMachineThatBootedStartsPodsAgain(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "initContainers: [{name: a, args: [exit, \"0\"]}]\ncontainers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready Completed")
	r.stop()
	r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 137})
	r.network.sandboxes = map[types.UID]netip.Addr{}
	r.bootID = "boot-2"
	r.start()
	r.await("both run again", func() bool {
		return slices.Equal(r.runtime.Running(), []string{"fl-uid1-c-1"}) && slices.Contains(r.runtime.Calls(), "start fl-uid1-a-1")
	})
}

// A boot takes the wait for the next attempt with it, of a container that crashed as of
// an image that could not be had, and is no crash of what ran.
func TestABootForgetsBackOff(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [exit, \"1\"]}]")
		r.run("uid-2", "containers: [{name: c, args: [stay]}]")
		r.run("uid-3", `containers: [{name: c, image: "registry.example/none:1"}]`)
		r.awaitStatus("uid-1", "Running CrashLoopBackOff")
		r.awaitStatus("uid-2", "Running Ready")
		r.awaitStatus("uid-3", "Pending ImagePullBackOff")
		time.Sleep(awhile)
		r.stop()
		r.runtime.Die("fl-uid2-c-0", pod.Exit{Code: 137})
		r.network.sandboxes = map[types.UID]netip.Addr{}
		r.bootID = "boot-2"
		began, before := time.Now(), len(r.runtime.Calls())
		r.start()
		r.await("all are tried again", func() bool {
			calls := strings.Join(r.runtime.Calls()[before:], "\n")
			return strings.Contains(calls, "start fl-uid1-c-") && strings.Contains(calls, "start fl-uid2-c-1") && strings.Contains(calls, "pull registry.example/none:1")
		})
		if took := time.Since(began); took > time.Second {
			t.Errorf("tried again after %s", took)
		}
		r.awaitStatus("uid-2", "Running Ready")
		s := r.report("uid-2").Status.ContainerStatuses[0]
		if last := s.LastTerminationState.Terminated; s.RestartCount != 1 || last == nil || last.Reason != schema.ReasonNodeRebooted {
			t.Errorf("%d restarts, last end %+v", s.RestartCount, last)
		}
	})
}

// A boot id that changed means nothing where containers run: the file that holds half
// of it may have been lost.
func TestWhatRunsHasNotEndedWithABoot(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Running Ready")
		r.stop()
		r.bootID = "boot-2"
		r.start()
		time.Sleep(awhile)
		r.awaitStatus("uid-1", "Running Ready")
		if s := r.report("uid-1").Status.ContainerStatuses[0]; s.RestartCount != 0 || s.LastTerminationState.Terminated != nil {
			t.Errorf("%d restarts, last end %+v", s.RestartCount, s.LastTerminationState.Terminated)
		}
		if got := r.runtime.Running(); !slices.Equal(got, []string{"fl-uid1-c-0"}) {
			t.Errorf("running: %v", got)
		}
	})
}

// Earlier versions noted the kernel's boot id alone: nothing has ended with a boot where
// that is the same, and a container that ended meanwhile ended as it did.
func TestRecordsOfAnEarlierVersionAreOfTheSameBoot(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "{restartPolicy: Never, containers: [{name: c, args: [stay]}]}")
		r.awaitStatus("uid-1", "Running Ready")
		r.stop()
		r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 0})
		r.bootID = "boot-1-own"
		r.start()
		r.awaitStatus("uid-1", "Succeeded Completed")
	})
}

// A boot ends all of a node: where one container lives, none has ended with a boot.
func TestABootEndsAllOrNothing(t *testing.T) {
	lied(t, func(r *rig) {
		r.run("uid-1", "{restartPolicy: Never, containers: [{name: c, args: [stay]}]}")
		r.run("uid-2", "containers: [{name: c, args: [stay]}]")
		r.awaitStatus("uid-1", "Running Ready")
		r.awaitStatus("uid-2", "Running Ready")
		r.stop()
		r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 0})
		r.bootID = "boot-2"
		r.start()
		r.awaitStatus("uid-1", "Succeeded Completed")
	})
}

func TestLiveness(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "terminationGracePeriodSeconds: 1\ncontainers: [{name: c, args: [stay], livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/program, exit, \"1\"]}}}]")
	r.await("restarted", func() bool { return slices.Contains(r.runtime.Calls(), "start fl-uid1-c-1") })
	r.await("the event", func() bool { return r.happened("Unhealthy") })
}

func TestUnreadyUntilTheProbePasses(t *testing.T) {
	r := newRig(t)
	r.runtime.Fail("exec", errors.New("not yet"))
	r.run("uid-1", "containers: [{name: c, args: [stay], readinessProbe: {periodSeconds: 1, exec: {command: [/program, print, ok]}}}]")
	r.awaitStatus("uid-1", "Running")
	r.runtime.Fail("exec", nil)
	r.awaitStatus("uid-1", "Running Ready")
}

// A step whose answer was lost may have happened: the agent looks before it
// does anything again.
func TestALostAnswerIsLookedInto(t *testing.T) {
	for _, method := range []string{"create", "start"} {
		t.Run(method, func(t *testing.T) {
			r := newRig(t)
			r.runtime.Lose(method, 1)
			r.run("uid-1", "containers: [{name: c, args: [stay]}]")
			r.awaitStatus("uid-1", "Running Ready")
			if s := r.report("uid-1").Status.ContainerStatuses[0]; s.RestartCount != 0 {
				t.Errorf("restarts: %d", s.RestartCount)
			}
			if got := r.runtime.Running(); !slices.Equal(got, []string{"fl-uid1-c-0"}) {
				t.Errorf("running: %v", got)
			}
		})
	}
}

func TestUnchangedInputChangesNothing(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	calls := r.runtime.Calls()
	r.master.publish(func(*wire.Work) {})
	r.master.publish(func(w *wire.Work) { w.Services["shop/x"] = wire.Service{ClusterIPs: schema.List[string]{"10.96.0.9"}} })
	r.await("acknowledged", func() bool {
		r.master.mu.Lock()
		defer r.master.mu.Unlock()
		return r.master.report.AppliedVersion == r.master.version
	})
	if diff := cmp.Diff(calls, r.runtime.Calls()); diff != "" {
		t.Errorf("calls:\n%s", diff)
	}
}

func TestNoSandboxBeforeTheNetwork(t *testing.T) {
	r := newRig(t)
	r.network.mu.Lock()
	r.network.err = errors.New("no route")
	r.network.mu.Unlock()
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Pending ContainerCreating")
	if left, _ := r.network.Sandboxes(); len(left) != 0 {
		t.Errorf("sandboxes: %v", left)
	}
	r.network.mu.Lock()
	r.network.err = nil
	r.network.mu.Unlock()
	r.awaitStatus("uid-1", "Running Ready")
}

func TestLogs(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	spec, _ := r.runtime.Spec("fl-uid1-c-0")
	line := func(s string) string { return "2026-01-02T03:04:05.000000000Z stdout F " + s + "\n" }
	if err := os.WriteFile(spec.LogPath, []byte(line("one")+line("two")), 0o600); err != nil {
		t.Fatal(err)
	}
	one := int64(1)
	r.master.askLog(wire.LogRequest{ID: "tail", Pod: "uid-1", Container: "c", Options: corev1.PodLogOptions{TailLines: &one}})
	r.master.askLog(wire.LogRequest{ID: "none", Pod: "uid-1", Container: "c", Options: corev1.PodLogOptions{Previous: true}})
	r.master.askLog(wire.LogRequest{ID: "follow", Pod: "uid-1", Container: "c", Options: corev1.PodLogOptions{Follow: true}})
	heard := func(id string) (string, bool) {
		r.master.mu.Lock()
		defer r.master.mu.Unlock()
		text, ok := r.master.logs[id]
		return text, ok
	}
	r.await("answers", func() bool { _, a := heard("tail"); _, b := heard("none"); return a && b })
	if got, _ := heard("tail"); got != "two\n" {
		t.Errorf("tail: %q", got)
	}
	if got, _ := heard("none"); !strings.Contains(got, "no log of previous container") {
		t.Errorf("previous: %q", got)
	}
	f, err := os.OpenFile(spec.LogPath, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString(line("three"))
	r.runtime.Die("fl-uid1-c-0", pod.Exit{})
	r.await("the followed log ends", func() bool { _, ok := heard("follow"); return ok })
	if got, _ := heard("follow"); got != "one\ntwo\nthree\n" {
		t.Errorf("follow: %q", got)
	}
}

// 32 followers are all that a node answers: who comes then hears so at once, and
// the slots are free again when the followers are.
func TestAFullAgentRefusesLogsAtOnce(t *testing.T) {
	r := newRig(t)
	r.run("uid-1", "containers: [{name: c, args: [stay]}]")
	r.awaitStatus("uid-1", "Running Ready")
	spec, _ := r.runtime.Spec("fl-uid1-c-0")
	if err := os.WriteFile(spec.LogPath, []byte("2026-01-02T03:04:05.000000000Z stdout F one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	answered := func() (n, busy int) {
		r.master.mu.Lock()
		defer r.master.mu.Unlock()
		for _, text := range r.master.logs {
			if n++; strings.Contains(text, wire.ErrLogsBusy.Error()) {
				busy++
			}
		}
		return n, busy
	}
	const followers = 40
	for i := range followers {
		r.master.askLog(wire.LogRequest{ID: fmt.Sprint("follow-", i), Pod: "uid-1", Container: "c", Options: corev1.PodLogOptions{Follow: true}})
	}
	r.await("eight are refused", func() bool { n, busy := answered(); return n == 8 && busy == 8 })
	r.runtime.Die("fl-uid1-c-0", pod.Exit{})
	r.await("the followers end", func() bool { n, _ := answered(); return n == followers })
	r.master.askLog(wire.LogRequest{ID: "next", Pod: "uid-1", Container: "c"})
	r.await("the next is answered", func() bool {
		r.master.mu.Lock()
		defer r.master.mu.Unlock()
		return r.master.logs["next"] == "one\n"
	})
}

func TestSecretsOnDiskAreSealed(t *testing.T) {
	r := newRig(t)
	r.master.publish(func(w *wire.Work) { w.Secrets["shop/key"] = map[string][]byte{"token": []byte("canary")} })
	r.run("uid-1", "volumes: [{name: v, secret: {secretName: key}}]\ncontainers: [{name: c, args: [stay], volumeMounts: [{name: v, mountPath: /v}]}]")
	r.awaitStatus("uid-1", "Running Ready")
	spec, _ := r.runtime.Spec("fl-uid1-c-0")
	err := filepath.WalkDir(r.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(path, sourceOf(spec, "/v")) {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && (bytes.Contains(data, []byte("canary")) || bytes.Contains(data, []byte("Y2FuYXJ5"))) {
			t.Errorf("%s holds the secret in the clear", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	r.remove("uid-1", true)
	r.await("gone", func() bool { return r.report("uid-1").Gone })
}
