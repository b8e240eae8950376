// Package plan answers "what would really happen?": a candidate settled on a
// fork of the cluster by the master's own engine, and the difference told. A
// candidate is a tree, nodes that are drained or lost, or both; it may also be
// compared with another tree than the one that is applied. The package has no
// comparison and no placement of its own. Pure: the time is an argument.
package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// APIVersion is the version of the JSON form.
const APIVersion = "fairlead/plan/v1"

// Verdict says in a word what a plan amounts to.
type Verdict string

// The verdicts.
const (
	None    Verdict = "none"
	Changes Verdict = "changes"
	Held    Verdict = "held"
	Refused Verdict = "refused"
)

// Plan is the difference a candidate makes. Every list is sorted and none is
// nil; Secret values are never in it. The JSON form is a contract.
type Plan struct {
	APIVersion  string             `json:"apiVersion"`
	Source      schema.SourceName  `json:"source"`            // "" where no tree was planned
	Base        schema.Commit      `json:"base"`              // commit applied now, or compared with; "" for none
	Candidate   schema.Commit      `json:"candidate"`         // commit planned, "" for files on disk
	Against     schema.Commit      `json:"against,omitempty"` // Base, where that is not what is applied
	Drain       []schema.NodeName  `json:"drain,omitempty"`   // nodes that the plan drains, in this order
	Lose        []schema.NodeName  `json:"lose,omitempty"`    // nodes that it loses then
	Verdict     Verdict            `json:"verdict"`
	Reasons     []string           `json:"reasons"`
	Objects     []Object           `json:"objects"`
	Pods        []Pod              `json:"pods"`
	Unplaced    []Unplaced         `json:"unplaced"`
	Capacity    []Capacity         `json:"capacity"` // of every node, once any pod starts or stops
	Prune       PruneCount         `json:"prune"`
	Diagnostics schema.Diagnostics `json:"diagnostics"`
	Notes       []string           `json:"notes,omitempty"`      // what to know of it besides; sorted; it has no part in the verdict
	Survives    *bool              `json:"survives,omitempty"`   // of a plan that drains or loses nodes: every pod that ran has a node
	Uncompared  []string           `json:"uncompared,omitempty"` // Secrets whose values were not compared, sorted: who asks may not know
}

// Object is one object created, updated or pruned.
type Object struct {
	Action    settle.Action        `json:"action"`
	Kind      schema.Kind          `json:"kind"`
	Namespace string               `json:"namespace,omitempty"`
	Name      string               `json:"name"`
	Position  string               `json:"position,omitempty"` // path:line:col; of a prune, where it stood
	By        string               `json:"by,omitempty"`       // what has made it, where it does not stand in the tree as it is
	Commit    schema.Commit        `json:"commit,omitempty"`   // that Position belongs to
	Fields    []schema.FieldChange `json:"fields"`
	SetBy     []SetBy              `json:"setBy,omitempty"` // of fields that the object's own document does not set
	Reason    string               `json:"reason"`
}

// SetBy is what sets a changed field, as "a patch of overlays/prod", and where.
type SetBy struct {
	Path     string `json:"path"`
	By       string `json:"by"`
	Position string `json:"position"` // path:line:col
}

func (s SetBy) String() string { return s.By + ", " + s.Position }

// setBy is what sets a field; false where its object's own document does.
func (o *Object) setBy(path string) (SetBy, bool) {
	i := slices.IndexFunc(o.SetBy, func(s SetBy) bool { return s.Path == path })
	if i < 0 {
		return SetBy{}, false
	}
	return o.SetBy[i], true
}

// Pod is one pod started or stopped. A pod that moves is one of each.
type Pod struct {
	Action    string          `json:"action"` // start or stop
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Owner     string          `json:"owner,omitempty"` // Kind/name
	Node      schema.NodeName `json:"node,omitempty"`  // where it starts, "" for nowhere
	From      schema.NodeName `json:"from,omitempty"`  // where it stops
	Reason    string          `json:"reason"`
}

// Unplaced is a pod that the candidate leaves without a node, with every node's
// reasons.
type Unplaced struct {
	Pod   string                 `json:"pod"` // namespace/name
	Nodes []scheduler.NodeReason `json:"nodes"`
}

// Capacity is what a node's pods request of a resource before and after, in the
// units of Kubernetes' quantities. A lost node has nothing to allocate.
type Capacity struct {
	Node        schema.NodeName `json:"node"`
	Resource    string          `json:"resource"` // cpu, memory or pods
	Allocatable string          `json:"allocatable"`
	Before      string          `json:"before"`
	After       string          `json:"after"`
}

// PruneCount is how many of the source's objects would go.
type PruneCount struct {
	Count int    `json:"count"`
	Of    int    `json:"of"`
	Limit string `json:"limit"`
}

// Candidate is what to plan: a tree, what happens to nodes after it has settled,
// or both.
type Candidate struct {
	Source      schema.SourceName // "" for no tree: the cluster goes on as it is
	Commit      schema.Commit
	Tree        schema.TreeHash   // hash of the tree, "" where it has none
	Objects     []*schema.Desired // Secrets sealed
	Overrides   schema.Overrides
	Back        bool // it is gone back to from one that failed
	Diagnostics schema.Diagnostics
	Against     *Against          // nil compares with what is applied
	Drain       []schema.NodeName // one after the other
	Lose        []schema.NodeName // all at once, after the draining
}

// Against is another tree of the candidate's source: the plan then begins where
// the cluster would stand had it settled on that one.
type Against struct {
	Commit      schema.Commit
	Tree        schema.TreeHash
	Objects     []*schema.Desired // Secrets sealed
	Diagnostics schema.Diagnostics
}

// Compute settles the candidate on a fork of base and tells the difference.
// queue is what waits in the loop at base; it is copied.
func Compute(engine *settle.Engine, base *state.Snapshot, queue *settle.Queue, cand Candidate, now time.Time) *Plan {
	p := newPlan(cand)
	if err := CheckNodes(base, slices.Concat(cand.Drain, cand.Lose)...); err != nil {
		p.Reasons = append(p.Reasons, err.Error())
	}
	src, ok := state.Source(base, cand.Source)
	if !ok && cand.Source != "" {
		p.Reasons = append(p.Reasons, fmt.Sprintf("there is no source %q", cand.Source))
	}
	if len(p.Reasons) > 0 {
		p.Verdict = Refused
		return p
	}
	if cand.Source == "" {
		return p.tellNodes(rested(engine, base, queue, now))
	}
	f := newFork(engine, base, queue, now)
	if cand.Against != nil {
		if f, ok = p.compareWith(f, src, cand.Against); !ok {
			return p
		}
		src, _ = state.Source(f.base, cand.Source)
	}
	p.Base = src.Status.Applied.Commit
	held, ok := p.applyTree(f, src, cand)
	if !ok {
		return p
	}
	p.tellNodes(f)
	if len(held) > 0 {
		p.Verdict = Held
		p.Reasons = append(held, p.Reasons...)
	}
	return p
}

// Drain plans that an operator takes every pod off a node, with nothing else
// changed: they go one after the other, in name order, and the node takes no new
// ones.
func Drain(engine *settle.Engine, base *state.Snapshot, queue *settle.Queue, node schema.NodeName, now time.Time) *Plan {
	return Compute(engine, base, queue, Candidate{Drain: []schema.NodeName{node}}, now)
}

// Lose plans that a node dies, with nothing else changed: its pods are replaced
// at once, other than those that tolerate an unreachable node for good.
func Lose(engine *settle.Engine, base *state.Snapshot, queue *settle.Queue, node schema.NodeName, now time.Time) *Plan {
	return Compute(engine, base, queue, Candidate{Lose: []schema.NodeName{node}}, now)
}

func newPlan(cand Candidate) *Plan {
	p := &Plan{
		APIVersion: APIVersion, Source: cand.Source, Candidate: cand.Commit, Drain: cand.Drain, Lose: cand.Lose, Verdict: None,
		Reasons: []string{}, Objects: []Object{}, Pods: []Pod{}, Unplaced: []Unplaced{}, Capacity: []Capacity{},
		Diagnostics: append(schema.Diagnostics{}, cand.Diagnostics...),
	}
	if cand.Against != nil {
		p.Against = cand.Against.Commit
	}
	return p
}

// CheckNodes is an error that names what the cluster has when it lacks one of the
// nodes.
func CheckNodes(r state.Reader, names ...schema.NodeName) error {
	for _, name := range names {
		if _, ok := state.Get[*corev1.Node](r, "", string(name)); ok {
			continue
		}
		var have []string
		for node := range state.All[*corev1.Node](r, "") {
			have = append(have, node.Name)
		}
		return fmt.Errorf("there is no node %q; the cluster has: %s", name, strings.Join(have, ", "))
	}
	return nil
}

// applyTree settles the tree on f. It returns why the tree would be held, and
// false when it is refused.
func (p *Plan) applyTree(f *fork, src *schema.Source, cand Candidate) (held []string, ok bool) {
	if p.refused("the tree") {
		return nil, false
	}
	difference := settle.Difference
	if cand.Back {
		difference = settle.DifferenceBack
	}
	changes, diags := difference(f.base, cand.Source, cand.Objects)
	p.Diagnostics = append(p.Diagnostics, diags...).Sort()
	if p.refused("the tree") {
		return nil, false
	}
	p.tellObjects(changes)
	p.Prune = PruneCount{Count: settle.Prunes(changes), Of: health.CountObjects(f.base, src.SourceName()), Limit: src.Spec.PruneLimit}
	held = settle.Messages(settle.Guard(f.base, src, cand.Tree, len(cand.Objects), changes, cand.Overrides))
	settle.Apply(f.context(), changes)
	f.run()
	return held, true
}

// refused judges the diagnostics found so far, of what it names.
func (p *Plan) refused(of string) bool {
	n := 0
	for _, d := range p.Diagnostics {
		if d.Severity == schema.Error {
			n++
		}
	}
	if n == 0 {
		return false
	}
	p.Verdict = Refused
	p.Reasons = append(p.Reasons, layout.Count(n, "error")+" in "+of)
	return true
}

// tellNodes lets happen to the nodes of f what the candidate says, and tells the
// pods' difference.
func (p *Plan) tellNodes(f *fork) *Plan {
	for _, name := range p.Drain {
		f.drain(name)
	}
	if len(p.Lose) > 0 {
		f.lose(p.Lose)
	}
	lost := p.tellPods(f)
	if len(p.Drain)+len(p.Lose) > 0 {
		survives := lost+len(p.Unplaced) == 0
		p.Survives = &survives
	}
	p.tellNotes(f)
	if len(p.Objects) > 0 || len(p.Pods) > 0 {
		p.Verdict = Changes
	}
	return p
}

// Placements is "namespace/name" -> node of every pod the plan starts.
func (p *Plan) Placements() map[string]schema.NodeName {
	out := make(map[string]schema.NodeName, len(p.Pods))
	for _, pod := range p.Pods {
		if pod.Action == "start" && pod.Node != "" {
			out[pod.Namespace+"/"+pod.Name] = pod.Node
		}
	}
	return out
}

// Summary is the plan in one line.
func (p *Plan) Summary() string {
	switch p.Verdict {
	case Refused:
		return "refused: " + strings.Join(p.verdictReasons(), "; ")
	case None:
		return p.ifNodes("nothing to change")
	}
	s := p.ifNodes(p.counts())
	if p.Verdict == Held {
		s = "held: " + strings.Join(p.verdictReasons(), "; ") + "; otherwise " + s
	}
	return s
}

// verdictReasons are those that do not name a pod: the counts and lists tell of pods.
func (p *Plan) verdictReasons() []string {
	return slices.DeleteFunc(slices.Clone(p.Reasons), func(reason string) bool {
		return slices.ContainsFunc(p.Unplaced, func(u Unplaced) bool { return reason == noNode(u.Pod) })
	})
}

// counts is what changes, in numbers.
func (p *Plan) counts() string {
	objects := map[settle.Action]int{}
	for _, o := range p.Objects {
		objects[o.Action]++
	}
	pods := map[string]int{}
	for _, pod := range p.Pods {
		pods[pod.Action]++
	}
	s := fmt.Sprintf("%s to start, %d to stop", layout.Count(pods["start"], "pod"), pods["stop"])
	if p.Source != "" {
		s = fmt.Sprintf("%d to create, %d to change, %d to prune; %s", objects[settle.Create], objects[settle.Update]+objects[settle.Replace], objects[settle.Prune], s)
	}
	if n := len(p.Unplaced); n > 0 || len(p.Drain)+len(p.Lose) > 0 {
		s += fmt.Sprintf(", %d without a node", n)
	}
	return s
}

// ifNodes says behind what the nodes' part of the plan was.
func (p *Plan) ifNodes(s string) string {
	var parts []string
	if len(p.Drain) > 0 {
		parts = append(parts, joinNodes(p.Drain)+" drained")
	}
	if len(p.Lose) > 0 {
		parts = append(parts, joinNodes(p.Lose)+" lost")
	}
	if len(parts) == 0 {
		return s
	}
	return "with " + strings.Join(parts, " and ") + ": " + s
}

func joinNodes(names []schema.NodeName) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = string(n)
	}
	return strings.Join(parts, ", ")
}
