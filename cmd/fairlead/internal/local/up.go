package local

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/cmd/fairlead/internal/config"
	"fairlead/nodeagent/podman"
	"fairlead/reconciler/trust"
	"fairlead/schema"
)

const (
	// pollInterval is how often `up` asks whether the cluster is ready.
	pollInterval = 100 * time.Millisecond
	// askTimeout bounds one question to a master that may not be there yet.
	askTimeout = 5 * time.Second
	// tokenLife is long enough for an agent to come up on a slow machine.
	tokenLife = time.Hour
	// adminLife is how long the kubeconfig holds; each `up` makes a new one.
	adminLife = 365 * 24 * time.Hour
	// logTail is how much of a log an error shows.
	logTail = 2 << 10

	podsPerNode = 110
	hostStorage = "/var/lib/containers/storage"
)

// UpOptions says which cluster to bring up. Zero Nodes and Slot -1 leave the
// choice to what the directory remembers, or to the defaults.
type UpOptions struct {
	Dir      string
	Nodes    int
	Slot     int
	Timeout  time.Duration
	Progress func(string) // called with what is being waited for, when it changes
}

// Result is where to find a cluster that is up.
type Result struct {
	Git        string       `json:"git"`
	API        string       `json:"api"`
	Kubeconfig string       `json:"kubeconfig"`
	Nodes      []ResultNode `json:"nodes"`
	// NotServing tells what of the cluster's workloads does not serve, a line each.
	NotServing []string `json:"notServing,omitempty"`

	started time.Time // when the cluster was started; zero for one that was up
}

// ResultNode is one node of a Result.
type ResultNode struct {
	Name    schema.NodeName `json:"name"`
	Address string          `json:"address"`
}

// Up brings a cluster up and returns once the master answers and every node is
// Ready. On a cluster that is up it changes nothing but the kubeconfig.
func Up(ctx context.Context, o UpOptions) (Result, error) {
	dir, err := resolve(o.Dir)
	if err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "nodes"), 0o700); err != nil {
		return Result{}, err
	}
	held, err := lockDir(dir)
	if err != nil {
		return Result{}, err
	}
	defer held.Close()
	before, began := supervisorOf(dir), time.Now()
	c, supervisor, err := launch(dir, o)
	if err != nil {
		return Result{}, err
	}
	if err := writeKubeconfig(c); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	if err := awaitReady(ctx, c, supervisor, supervisor == before, o.Progress); err != nil {
		return Result{}, err
	}
	result := c.result()
	if supervisor != before {
		result.started = began
	}
	return result, makeCurrent(c)
}

// supervisorOf is the supervisor that the cluster of a directory had last, zero where
// there is no cluster.
func supervisorOf(dir string) Process {
	c, err := Open(dir)
	if err != nil {
		return Process{}
	}
	return readState(c).Supervisor
}

// launch returns once a supervisor is at work: the one that is, or a new one.
func launch(dir string, o UpOptions) (Cluster, Process, error) {
	facts := Examine(dir, "")
	if s, err := readSettings(dir); err == nil {
		facts.FreeSlot = s.Slot // it needs no other
	}
	if err := refusal(Judge(facts)); err != nil {
		return Cluster{}, Process{}, err
	}
	c, err := claimLocked(dir, o)
	if err != nil {
		return c, Process{}, err
	}
	if supervisor := readState(c).Supervisor; supervisor.alive() {
		return c, supervisor, nil
	}
	if !portFreeFor(c) {
		return c, Process{}, fmt.Errorf("port %d is taken by another program: free it, or take another --slot in another --dir", c.APIPort)
	}
	if err := configure(c, o.Progress); err != nil {
		return c, Process{}, err
	}
	supervisor, err := startSupervisor(c)
	return c, supervisor, err
}

func (c Cluster) result() Result {
	r := Result{Git: c.GitRemote(), API: c.API(), Kubeconfig: c.Kubeconfig()}
	for _, n := range c.Nodes {
		r.Nodes = append(r.Nodes, ResultNode{n.Name, n.IP.String()})
	}
	return r
}

// refusal is an error that tells everything in the way and how to fix it.
func refusal(checks []Check) error {
	var lines []string
	for _, c := range Blocking(checks) {
		lines = append(lines, fmt.Sprintf("%s: %s\n  %s", c.Name, c.Found, c.Fix))
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("this host cannot run a cluster:\n%s", strings.Join(lines, "\n"))
}

func claimLocked(dir string, o UpOptions) (Cluster, error) {
	slots, err := lockSlots()
	if err != nil {
		return Cluster{}, err
	}
	defer slots.Close()
	c, err := claim(dir, o.Nodes, o.Slot)
	if err != nil {
		_ = os.Remove(runRoot) // if we made it, it is empty
	}
	return c, err
}

// portFreeFor allows a master of our own that outlived its supervisor.
func portFreeFor(c Cluster) bool {
	return readState(c).Children["master"].process().alive() || portFree(c.APIPort)
}

// configure writes what master and agents read, and the tokens agents join with.
func configure(c Cluster, progress func(string)) error {
	if err := fill(c.masterConfig(), masterConfig(c), progress); err != nil {
		return err
	}
	authority, err := trust.Open(c.path("pki"), trust.Config{
		Advertise: []string{c.Gateway.String(), "127.0.0.1"},
		PodCIDR:   netip.MustParsePrefix(podRange),
		Now:       time.Now,
	})
	if err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := os.MkdirAll(n.Dir, 0o700); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		if err := fill(n.config(), agentConfig(c, n, machineShare(c.Settings.Nodes), additionalStores()), progress); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		if err := findRuntime(n.config()); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		token, err := authority.NewToken(trust.JoinGrant{Node: n.Name}, tokenLife)
		if err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		if err := writeAtomic(n.token(), []byte(token+"\n")); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return nil
}

// findRuntime looks for the runtime that an agent's configuration names. Earlier
// versions wrote the one that worked then.
func findRuntime(path string) error {
	agent, err := config.ReadAgent(path)
	if err != nil || agent.Podman.Runtime == "" {
		return err
	}
	if _, err := podman.FindRuntime(agent.Podman.Runtime); err != nil {
		return fmt.Errorf("%s: podman.runtime is %s, which is not installed: install it, or remove the line, and the agent chooses one that works", config.Place(path, "podman", "runtime"), agent.Podman.Runtime)
	}
	return nil
}

// placed are the fields by which `up` finds what it starts, and for which it readies
// the machine: another value would lead elsewhere.
var placed = []string{"dir", "runDir", "listen", "advertise", "podCIDR", "serviceCIDR", "server", "tokenFile", "nodeName", "nodeIP", "slot"}

// fill writes what a configuration lacks. What a person wrote stays; where that is not
// what `up` would write, it is told.
func fill(path string, c any, progress func(string)) error {
	kept, err := config.Fill(path, c)
	if err != nil {
		return err
	}
	var wrong []error
	for _, k := range kept {
		if slices.Contains(placed, k.Field) {
			wrong = append(wrong, fmt.Errorf("%s: %s is %s, and `up` needs %s here: remove the line, and `up` writes its own", k.At, k.Field, k.Have, k.Wanted))
			continue
		}
		progress(fmt.Sprintf("%s: %s stays %s, `up` would have written %s", k.At, k.Field, k.Have, k.Wanted))
	}
	return errors.Join(wrong...)
}

func masterConfig(c Cluster) config.Master {
	return config.Master{
		Dir:          c.Dir,
		RunDir:       c.RunDir,
		Listen:       fmt.Sprintf("0.0.0.0:%d", c.APIPort),
		Advertise:    netip.AddrPortFrom(c.Gateway, uint16(c.APIPort)).String(),
		PodCIDRs:     schema.List[string]{podRange},
		ServiceCIDRs: schema.List[string]{serviceRange},
		Sources:      []config.Source{{Name: "main", Spec: schema.SourceSpec{Embedded: true}}},
	}
}

func agentConfig(c Cluster, n Node, share corev1.ResourceList, stores []string) config.Agent {
	return config.Agent{
		Dir:       n.Dir,
		Server:    c.API(),
		TokenFile: n.token(),
		NodeName:  n.Name,
		NodeIPs:   schema.List[string]{n.IP.String()},
		Slot:      fmt.Sprint(c.Settings.Slot),
		Capacity:  share,
		Podman: config.Podman{
			AdditionalStores: stores,
			AuthFile:         c.path("auth.json"), RegistriesConf: c.path("registries.conf"),
		},
	}
}

// additionalStores lets nodes see the images of the host's own Podman.
func additionalStores() []string {
	if _, err := os.Stat(hostStorage); err != nil {
		return nil
	}
	return []string{hostStorage}
}

// machineShare is an equal part of the machine for each of its nodes.
func machineShare(nodes int) corev1.ResourceList {
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // fails only for a bad pointer
	memory := int64(info.Totalram) * int64(info.Unit)
	return share(runtime.NumCPU(), memory, nodes)
}

func share(cpus int, memoryBytes int64, nodes int) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(int64(cpus)*1000/int64(nodes), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(memoryBytes/int64(nodes)>>20<<20, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(podsPerNode, resource.DecimalSI),
	}
}

// startSupervisor starts one that outlives this process.
func startSupervisor(c Cluster) (Process, error) {
	binary, err := os.Executable()
	if err != nil {
		return Process{}, err
	}
	p, err := start(command{binary: binary, args: []string{"supervise", "--dir", c.Dir}, log: c.supervisorLog(), cgroup: c.supervisorCgroup()})
	if err != nil {
		return Process{}, fmt.Errorf("start the supervisor: %w", err)
	}
	return p, nil
}

// writeKubeconfig makes administrator credentials from the cluster's authority.
func writeKubeconfig(c Cluster) error {
	authority, err := trust.Open(c.path("pki"), trust.Config{Existing: true, Now: time.Now})
	if err != nil {
		return err
	}
	cert, key, err := authority.ClientCert("admin", []string{trust.OrgReaders}, adminLife)
	if err != nil {
		return err
	}
	data, err := trust.Kubeconfig(c.API(), authority.CAPEM(), cert, key, "fairlead")
	if err != nil {
		return err
	}
	return writeAtomic(c.Kubeconfig(), data)
}

// waitingEvery is how often up says what it still waits for.
const waitingEvery = 10 * time.Second

// awaitReady asks until the master answers and every node is Ready, and says
// what it is waiting for each time that changes, and every now and then. A cluster that
// was found running may be of an earlier version, whose nodes are never ready for us.
func awaitReady(ctx context.Context, c Cluster, supervisor Process, found bool, progress func(string)) error {
	reader, err := client.Open(c.Kubeconfig())
	if err != nil {
		return err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	// Until it has made the bridge, the API's address leads out of the host.
	missing, culprit := "the supervisor", c.supervisorLog()
	say := waiting{progress: progress, began: time.Now()}
	for {
		if readState(c).Supervisor == supervisor {
			now, log, boots := pending(ctx, c, reader)
			if now == "" {
				return nil
			}
			if found && slices.ContainsFunc(c.Nodes, func(n Node) bool { return earlier(boots[n.Name], kernelBoot(), n.bootMark()) }) {
				return errEarlier
			}
			if ctx.Err() == nil { // else it tells of the time that is up
				missing, culprit = now, log
			}
		}
		say.forThing(missing, time.Now())
		if !supervisor.alive() {
			return fmt.Errorf("the supervisor ended; %s", logEnd(c.supervisorLog()))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%s not ready in time (%w); %s", missing, ctx.Err(), logEnd(culprit))
		}
	}
}

// waiting says what is waited for.
type waiting struct {
	progress     func(string)
	began, spoke time.Time
	said         string
}

// forThing says it when it is another than before, and again after a while.
func (w *waiting) forThing(what string, now time.Time) {
	switch {
	case what != w.said:
		w.progress("waiting for " + what)
	case now.Sub(w.spoke) >= waitingEvery:
		w.progress(fmt.Sprintf("still waiting for %s after %s", what, now.Sub(w.began).Round(time.Second)))
	default:
		return
	}
	w.said, w.spoke = what, now
}

var errEarlier = errors.New("the cluster was started by an earlier version: run `fairlead down`, then `up`")

// earlier reports whether a node's agent is of a version that reported the kernel's boot
// id alone and left no mark.
func earlier(boot, kernel, mark string) bool { return boot != "" && boot == kernel && mark == "" }

func kernelBoot() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // none: no agent has it either
	return strings.TrimSpace(string(data))
}

// pending tells what is missing, empty if nothing, whose log would say why, and in which
// boot each node is ready.
func pending(ctx context.Context, c Cluster, reader *client.Client) (missing, log string, ready map[schema.NodeName]string) {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if _, err := reader.Do(ask, http.MethodGet, "/readyz", nil); err != nil {
		return "the master", c.masterLog(), nil
	}
	nodes, err := client.All[*corev1.Node](ask, reader)
	if err != nil {
		return "the master", c.masterLog(), nil
	}
	ready = make(map[schema.NodeName]string)
	why := make(map[string]string)
	for _, n := range nodes {
		for _, condition := range n.Status.Conditions {
			switch {
			case condition.Type != corev1.NodeReady:
			case condition.Status == corev1.ConditionTrue:
				ready[schema.NodeName(n.Name)] = n.Status.NodeInfo.BootID
			case condition.Status == corev1.ConditionFalse:
				why[n.Name] = " (" + condition.Message + ")"
			}
		}
	}
	var names []string
	for _, n := range c.Nodes {
		if boot := ready[n.Name]; boot == "" || !n.booted(boot) {
			names = append(names, string(n.Name)+why[string(n.Name)])
			if log == "" {
				log = n.log("agent")
			}
		}
	}
	if len(names) == 0 {
		return "", "", ready
	}
	return "node " + strings.Join(names, ", "), log, ready
}

// booted reports whether a boot id is that of the node as it is now. What the master
// has of the time before a `down` counts for nothing.
func (n Node) booted(id string) bool {
	mark := n.bootMark()
	return mark != "" && strings.HasSuffix(id, mark)
}

// bootMark is what the node's agent left as the mark of this boot.
func (n Node) bootMark() (mark string) {
	_ = n.Enter(func() error { // a node that cannot be entered has no mark
		data, err := os.ReadFile(config.BootMark(config.DefaultRunDir))
		mark = strings.TrimSpace(string(data))
		return err
	})
	return mark
}

// logEnd quotes the end of a log.
func logEnd(path string) string {
	data, err := tail(path, logTail)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(data) == 0 {
		return path + " is empty"
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the end of %s:\n%s", path, strings.TrimRight(string(data), "\n"))
}
