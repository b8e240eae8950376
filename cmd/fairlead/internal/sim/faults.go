package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/reconciler/gittest"
	"fairlead/reconciler/store"
	"fairlead/schema"
)

// Durations of a run.
const (
	troubled  = 3 * time.Minute // while faults happen
	mostFor   = 70 * time.Second
	restWait  = 4 * time.Minute // for what was in the making to fail and be repaired
	quietTime = 20 * time.Second
)

// Fault is something that goes wrong.
type Fault struct {
	At   time.Duration
	Kind string
	Node int           // which node, where it is one's
	For  time.Duration // how long, where it lasts
	N    int           // how many, where it counts
}

func (f Fault) String() string {
	return fmt.Sprintf("%s (node n%d, for %v, n %d)", f.Kind, f.Node+1, f.For.Round(time.Millisecond), f.N)
}

// strike lets a fault happen to the world, where it is one's to node n.
type strike func(w *World, n *node, f Fault)

// faultKinds lists what can go wrong, how often it does among all, and how.
var faultKinds = []struct {
	kind   string
	weight int
	strike strike
}{
	{"the master is killed", 4, func(w *World, _ *node, _ Fault) { w.master.end("killed") }},
	{"an agent is killed", 4, func(_ *World, n *node, _ Fault) { n.agent.end("killed") }},
	{"an agent is killed amid its work", 4, func(_ *World, n *node, f Fault) { n.agent.fatal = f.N }},
	{"the supervisor is paused", 1, func(w *World, _ *node, f Fault) { w.supervisor.pause(f.For / 4) }},
	{"the master is paused", 3, func(w *World, _ *node, f Fault) { w.master.pause(f.For) }},
	{"an agent is paused", 3, func(_ *World, n *node, f Fault) { n.agent.pause(f.For) }},
	{"a node is cut off", 3, func(_ *World, n *node, f Fault) { n.cut(true, true, f.For) }},
	{"a node is not heard", 2, func(_ *World, n *node, f Fault) { n.cut(true, false, f.For) }},
	{"a node does not hear", 2, func(_ *World, n *node, f Fault) { n.cut(false, true, f.For) }},
	{"most nodes are cut off", 2, cutMost},
	{"a node programs slowly", 2, programSlowly},
	{"a node boots", 2, func(_ *World, n *node, _ Fault) { n.reboot() }},
	{"a clock jumps", 2, func(w *World, _ *node, f Fault) { w.jump(f) }},
	{"a container dies", 3, killContainer},
	{"a conmon dies", 2, killConmon},
	{"a container is sick", 1, sicken},
	{"the runtime hangs", 2, hangRuntime},
	{"the runtime is killed", 2, killRuntime},
	{"the runtime is killed amid a call", 3, func(_ *World, n *node, f Fault) { n.runtime.KillServiceAmid([]string{"create", "start"}[f.N%2], 1) }},
	{"the runtime's answers are lost", 3, func(_ *World, n *node, f Fault) {
		n.runtime.Lose([]string{"create", "start", "remove", "signal"}[f.N%4], f.N)
	}},
	{"a container dies and its next start has no answer", 2, killAndLoseStart},
	{"the runtime forgets", 1, forgetContainers},
	{"the registry fails", 1, failRegistry},
	{"a store write is lost", 2, func(w *World, _ *node, f Fault) { w.failWrites(store.FaultLost, f.N) }},
	{"a store write has an unknown end", 2, func(w *World, _ *node, f Fault) { w.failWrites(store.FaultSent, f.N) }},
	{"a store write comes late", 2, delayWrites},
	{"the store is wiped", 1, func(w *World, _ *node, _ Fault) { w.wipe() }},
	{"git cannot be read", 1, failGit},
	{"git is cut short", 1, func(w *World, _ *node, f Fault) { w.cutShort(f.For) }},
	{"the branch vanishes", 1, func(w *World, _ *node, f Fault) { w.moveBranch("", f.For) }},
	{"the branch is rewritten", 1, func(w *World, _ *node, f Fault) {
		w.moveBranch(w.commit("", "another history", w.team.asked[:1]), f.For)
	}},
	{"the tree is empty", 2, func(w *World, _ *node, _ Fault) { w.emptyTree() }},
}

func (w *World) drawFaults(seed uint64) []Fault {
	chance := stream(seed, "faults")
	total := 0
	for _, k := range faultKinds {
		total += k.weight
	}
	out := make([]Fault, 2+chance.IntN(9))
	for i := range out {
		out[i] = Fault{
			At: time.Duration(chance.Int64N(int64(troubled))), Kind: drawKind(chance, total), Node: chance.IntN(len(w.nodes)),
			For: time.Second + time.Duration(chance.Int64N(int64(mostFor))), N: 1 + chance.IntN(4),
		}
		if chance.IntN(2) == 0 {
			out[i].For /= 8
		}
	}
	slices.SortStableFunc(out, func(a, b Fault) int { return int(a.At - b.At) })
	return out
}

func drawKind(chance *rand.Rand, total int) string {
	n := chance.IntN(total)
	for _, k := range faultKinds {
		if n -= k.weight; n < 0 {
			return k.kind
		}
	}
	panic("unreachable")
}

// live is a run of a seed: trouble, then none, then rest, then quiet.
func (w *World) live(faults []Fault, skip map[int]bool) {
	w.team.pushes(troubled)
	for i, f := range faults {
		if !skip[i] {
			w.after(f.At, func() { w.strike(f) })
		}
	}
	w.pass(troubled + mostFor) // what lasts is over by then
	if w.violation != nil {
		return
	}
	w.heal()
	var commit schema.Commit
	if !w.await(time.Minute, func() bool {
		if commit == "" {
			w.push("the last\n\nFairlead-Allow-Prune: 1000\nFairlead-Retry: faults are over", w.team.last(), func(c schema.Commit, err error) { commit = c })
			w.pass(time.Second)
		}
		return commit != ""
	}) {
		w.broken("L1", "a push is not taken within a minute once faults stop")
		return
	}
	if !w.await(restWait, func() bool { return w.truth.rest(commit) == "" }) {
		w.broken("L1", "once faults stop: %s", w.truth.rest(commit))
		return
	}
	w.quiet()
}

// quiet: unchanged input makes no write and no change anywhere (S24). What is
// at rest says so for a while first: a revision is healthy before its last pod
// has gone.
func (w *World) quiet() {
	w.pass(quietTime)
	writes, calls := w.store.Transactions(), w.calls()
	w.pass(quietTime)
	if n := w.store.Transactions() - writes; n > 0 {
		w.broken("S24", "%d store transactions while nothing changes", n)
	}
	if n := w.calls() - calls; n > 0 {
		w.broken("S24", "%d calls of the runtimes while nothing changes", n)
	}
}

func (w *World) calls() (out int) {
	for _, n := range w.nodes {
		out += len(n.runtime.Calls())
	}
	return out
}

// heal ends everything that lasts.
func (w *World) heal() {
	w.note("faults are over")
	for _, n := range w.nodes {
		n.cutUp, n.cutDown, n.slow = false, false, 0
		n.agent.fatal = 0
		n.recover()
		for _, method := range []string{"image", "create", "pull"} {
			n.runtime.Fail(method, nil)
		}
		for _, method := range []string{"create", "start", "remove"} {
			n.runtime.Lose(method, 0)
			n.runtime.KillServiceAmid(method, 0)
		}
		for _, a := range n.apps {
			a.sick = false
		}
	}
	w.git.Fail(nil)
	w.putBack()
	w.store.Inject(nil)
	w.store.Deliver()
}

// putBack is what the team does about a branch that somebody rewrote.
func (w *World) putBack() {
	tip, _, err := w.git.Branch("main")
	if err != nil || w.team.tip == "" {
		return
	}
	if forward, err := w.git.IsAncestor(w.team.tip, tip); err != nil || !forward {
		w.git.SetBranch("main", w.team.tip)
	}
}

func (n *node) recover() {
	n.hung = false
	n.runtime.StartService()
	n.runtime.Recall()
}

var errRegistry = fmt.Errorf("%w: nobody answers", nodeagent.ErrNoRegistry)

// strike lets a fault happen.
func (w *World) strike(f Fault) {
	if w.violation != nil {
		return
	}
	w.note("FAULT %s", f)
	for _, k := range faultKinds {
		if k.kind == f.Kind {
			k.strike(w, w.nodes[f.Node], f)
		}
	}
}

// cutMost cuts more than half of the nodes off, from the fault's own on.
func cutMost(w *World, _ *node, f Fault) {
	for i := range len(w.nodes)/2 + 1 {
		w.nodes[(f.Node+i)%len(w.nodes)].cut(true, true, f.For)
	}
}

func programSlowly(w *World, n *node, f Fault) {
	n.slow = time.Duration(f.N) * time.Second
	w.after(f.For, func() { n.slow = 0 })
}

func killContainer(_ *World, n *node, f Fault) {
	if id := n.some(f.N); id != "" {
		n.dies(id, pod.Exit{Code: 137})
	}
}

func killConmon(_ *World, n *node, f Fault) {
	if id := n.some(f.N); id != "" {
		n.apps[id].killed = true
		n.runtime.KillConmon(n.apps[id].spec.Name)
	}
}

func sicken(_ *World, n *node, f Fault) {
	if id := n.some(f.N); id != "" {
		n.apps[id].sick = true
	}
}

func hangRuntime(w *World, n *node, f Fault) {
	n.hung = true
	n.runtime.Hang()
	w.after(f.For/2, n.recover)
}

func killRuntime(w *World, n *node, f Fault) {
	n.runtime.KillService()
	w.after(f.For/4, n.recover)
}

func killAndLoseStart(_ *World, n *node, f Fault) {
	if id := n.some(f.N); id != "" {
		n.runtime.Lose("start", 1)
		n.dies(id, pod.Exit{Code: 1})
	}
}

func forgetContainers(w *World, n *node, f Fault) {
	n.runtime.Forget()
	w.after(f.For/2, n.recover)
}

func failRegistry(w *World, n *node, f Fault) {
	n.runtime.Fail("image", nodeagent.ErrNoImage)
	n.runtime.Fail("create", nodeagent.ErrNoImage)
	n.runtime.Fail("pull", errRegistry)
	w.after(f.For, func() {
		for _, method := range []string{"image", "create", "pull"} {
			n.runtime.Fail(method, nil)
		}
	})
}

func delayWrites(w *World, _ *node, f Fault) {
	w.failWrites(store.FaultLate, f.N)
	w.after(f.For/8, w.store.Deliver)
}

func failGit(w *World, _ *node, f Fault) {
	w.git.Fail(errors.New("input/output error"))
	w.after(f.For, func() { w.git.Fail(nil) })
}

// jump sets the clock of a node, or of the master's host, forward or back by
// minutes. Who runs measures time by the monotonic clock and goes on as before; who
// starts later finds the stamps it left on its disk, or in the store, far off.
func (w *World) jump(f Fault) {
	by := jumpFactor * f.For
	if f.N%2 == 0 {
		by = -by
	}
	if f.N > 2 {
		w.master.jumped += by
	} else {
		w.nodes[f.Node].jumped += by
	}
}

// jumpFactor makes minutes of how long a fault lasts.
const jumpFactor = 8

func (n *node) cut(up, down bool, d time.Duration) {
	n.cutUp, n.cutDown = n.cutUp || up, n.cutDown || down
	n.w.after(d, func() {
		n.w.note("%s is connected again", n.name)
		n.cutUp, n.cutDown = false, false
	})
}

// some is the ID of one of the node's running containers.
func (n *node) some(which int) string {
	var ids []string
	for id := range n.apps {
		if n.running(id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ""
	}
	slices.Sort(ids)
	return ids[which%len(ids)]
}

// failWrites lets the next transaction of the store fail, all of its round: n
// counts the transactions before it.
func (w *World) failWrites(fault store.Fault, n int) {
	w.store.Inject(func(int) store.Fault {
		if n--; n != 0 {
			return store.NoFault
		}
		return fault
	})
}

// wipe deletes the master's etcd directory and kills it.
func (w *World) wipe() {
	if !w.truth.recovered {
		return
	}
	w.store = store.NewMemory(w.now.Add(-time.Hour))
	w.truth.recovered = len(w.registered()) == 0
	w.truth.applied = ""
	w.master.end("its store is gone")
}

// cutShort loses an object of the newest commit's tree for a while.
func (w *World) cutShort(d time.Duration) {
	tip, ok, err := w.git.Branch("main")
	if err != nil || !ok {
		return
	}
	t, err := w.git.Tree(tip, ".")
	if err != nil || len(t.Files) == 0 {
		return
	}
	lost := t.Files[len(t.Files)-1].Hash
	w.git.Lose(lost)
	w.after(d, func() { w.git.Find(lost) })
}

// moveBranch moves the branch behind everybody's back, and back after a while,
// unless somebody pushed meanwhile.
func (w *World) moveBranch(to schema.Commit, d time.Duration) {
	tip, ok, err := w.git.Branch("main")
	if err != nil || !ok {
		return
	}
	move := func(commit schema.Commit) {
		if commit == "" {
			w.git.DeleteBranch("main")
		} else {
			w.git.SetBranch("main", commit)
		}
	}
	move(to)
	w.after(d, func() {
		if now, _, _ := w.git.Branch("main"); now == to {
			move(tip)
		}
	})
}

// emptyTree is a commit on top that holds nothing, without a word about it.
func (w *World) emptyTree() {
	tip, ok, err := w.git.Branch("main")
	if err != nil || !ok {
		return
	}
	empty := w.git.Add(gittest.Commit{Message: "oops", Time: w.now, Parents: []schema.Commit{tip}})
	w.learn(empty, "oops", nil)
	w.git.SetBranch("main", empty)
}
