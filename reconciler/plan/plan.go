// Package plan answers "what would really happen?": a candidate settled on a
// fork of the cluster by the master's own engine, and the difference told. It
// has no comparison and no placement of its own. Pure: the time is an argument.
package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
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

// Plan is the difference a candidate makes. Every list is sorted; Secret values
// are never in it. The JSON form is a contract.
type Plan struct {
	APIVersion  string             `json:"apiVersion"`
	Source      string             `json:"source"`
	Base        string             `json:"base"`      // commit applied now, "" for none
	Candidate   string             `json:"candidate"` // commit planned, "" for files on disk
	Verdict     Verdict            `json:"verdict"`
	Reasons     []string           `json:"reasons"`
	Objects     []Object           `json:"objects"`
	Pods        []Pod              `json:"pods"`
	Unplaced    []Unplaced         `json:"unplaced"`
	Capacity    []Capacity         `json:"capacity"`
	Prune       PruneCount         `json:"prune"`
	Diagnostics schema.Diagnostics `json:"diagnostics"`
}

// Object is one object created, updated or pruned.
type Object struct {
	Action    settle.Action        `json:"action"`
	Kind      schema.Kind          `json:"kind"`
	Namespace string               `json:"namespace,omitempty"`
	Name      string               `json:"name"`
	Position  string               `json:"position,omitempty"` // path:line:col
	Commit    string               `json:"commit,omitempty"`
	Fields    []schema.FieldChange `json:"fields,omitempty"`
	Reason    string               `json:"reason"`
}

// Pod is one pod started or stopped.
type Pod struct {
	Action    string          `json:"action"` // start or stop
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	Owner     string          `json:"owner,omitempty"`
	Node      schema.NodeName `json:"node,omitempty"`
	From      schema.NodeName `json:"from,omitempty"`
	Reason    string          `json:"reason"`
}

// Unplaced is a pod no node takes, with every node's reasons.
type Unplaced struct {
	Pod   string                 `json:"pod"` // namespace/name
	Nodes []scheduler.NodeReason `json:"nodes"`
}

// Capacity is what a node's pods request of a resource before and after, in the
// units of Kubernetes' quantities.
type Capacity struct {
	Node        schema.NodeName `json:"node"`
	Resource    string          `json:"resource"`
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

// Candidate is a tree to plan.
type Candidate struct {
	Source      string
	Commit      string
	Tree        string           // hash of the tree, "" where it has none
	Objects     []schema.Desired // Secrets sealed
	Overrides   schema.Overrides
	Diagnostics schema.Diagnostics
}

// Bounds of a fork: how long in its own time, and how many turns.
const (
	MaxForkTime  = 30 * time.Minute
	MaxForkTurns = 1_000
)

// Compute settles the candidate on a fork of base and tells the difference.
// queue is what waits in the loop at base; it is copied.
func Compute(engine *settle.Engine, base *state.Snapshot, queue *settle.Queue, cand Candidate, now time.Time) *Plan {
	p := &Plan{
		APIVersion: APIVersion, Source: cand.Source, Candidate: cand.Commit, Diagnostics: slices.Clone(cand.Diagnostics),
		Reasons: []string{}, Objects: []Object{}, Pods: []Pod{}, Unplaced: []Unplaced{}, Capacity: []Capacity{},
	}
	src, ok := state.Get[*schema.Source](base, "", cand.Source)
	if !ok {
		p.Verdict = Refused
		p.Reasons = append(p.Reasons, fmt.Sprintf("there is no source %q", cand.Source))
		return p
	}
	p.Base = src.Status.Applied.Commit
	if p.Diagnostics.HasErrors() {
		return p.refuse()
	}
	changes, diags := settle.Difference(base, cand.Source, cand.Objects)
	p.Diagnostics = append(p.Diagnostics, diags...).Sort()
	if p.Diagnostics.HasErrors() {
		return p.refuse()
	}
	p.tellObjects(changes)
	p.Prune = PruneCount{Count: settle.Prunes(base, changes), Of: settle.CountApplied(base, src.Name), Limit: src.Spec.PruneLimit}
	held := settle.Guard(base, src, cand.Tree, len(cand.Objects), changes, cand.Overrides)
	f := newFork(engine, base, queue, now)
	settle.Apply(f.engine.Context(f.tx, now), changes)
	f.run()
	p.tellPods(f)
	p.Verdict = None
	if len(p.Objects) > 0 || len(p.Pods) > 0 {
		p.Verdict = Changes
	}
	if len(held) > 0 {
		p.Verdict = Held
		p.Reasons = append(held, p.Reasons...)
	}
	return p
}

func (p *Plan) refuse() *Plan {
	p.Verdict = Refused
	n := 0
	for _, d := range p.Diagnostics {
		if d.Severity == schema.Error {
			n++
		}
	}
	p.Reasons = append(p.Reasons, count(n, "error")+" in the tree")
	return p
}

func (p *Plan) tellObjects(changes []settle.ObjectChange) {
	reasons := map[settle.Action]string{settle.Create: "new in the tree", settle.Update: "changed in the tree", settle.Prune: "no longer in the tree"}
	for _, ch := range changes {
		p.Objects = append(p.Objects, Object{
			Action: ch.Action, Kind: ch.Key.Kind, Namespace: ch.Key.Namespace, Name: ch.Key.Name,
			Position: ch.Position.String(), Commit: ch.Commit, Fields: ch.Fields, Reason: reasons[ch.Action],
		})
	}
}

// tellPods compares the fork's end with its beginning.
func (p *Plan) tellPods(f *fork) {
	for _, ch := range f.changes() {
		if ch.Key.Kind != schema.KindPod {
			continue
		}
		old, _ := ch.Old.(*corev1.Pod)
		next, _ := ch.New.(*corev1.Pod)
		switch {
		case old == nil && next.Spec.NodeName == "":
			p.Unplaced = append(p.Unplaced, Unplaced{Pod: next.Namespace + "/" + next.Name, Nodes: f.refusal(next)})
			p.Pods = append(p.Pods, Pod{Action: "start", Namespace: next.Namespace, Name: next.Name, Owner: owner(next), Reason: "no node takes it"})
		case old == nil:
			p.Pods = append(p.Pods, Pod{Action: "start", Namespace: next.Namespace, Name: next.Name, Owner: owner(next), Node: schema.NodeName(next.Spec.NodeName), Reason: startReason(next)})
		case next == nil && old.DeletionTimestamp == nil:
			p.Pods = append(p.Pods, Pod{Action: "stop", Namespace: old.Namespace, Name: old.Name, Owner: owner(old), From: schema.NodeName(old.Spec.NodeName), Reason: f.stopped[old.UID]})
		}
	}
	slices.SortFunc(p.Pods, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(p.Unplaced, func(a, b Unplaced) int { return cmp.Compare(a.Pod, b.Pod) })
	for _, u := range p.Unplaced {
		p.Reasons = append(p.Reasons, "no node takes pod "+u.Pod)
	}
	if f.bound != "" {
		p.Reasons = append(p.Reasons, f.bound)
	}
	if len(p.Pods) > 0 {
		p.Capacity = f.capacity()
	}
}

func owner(pod *corev1.Pod) string {
	if ref := metav1.GetControllerOf(pod); ref != nil {
		return ref.Kind + "/" + ref.Name
	}
	return ""
}

func startReason(pod *corev1.Pod) string {
	if ref := metav1.GetControllerOf(pod); ref != nil {
		return "wanted by " + ref.Kind + " " + ref.Name
	}
	return "new in the tree"
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
	var created, changed, pruned, start, stop int
	for _, o := range p.Objects {
		switch o.Action {
		case settle.Create:
			created++
		case settle.Update:
			changed++
		case settle.Prune:
			pruned++
		}
	}
	for _, pod := range p.Pods {
		if pod.Action == "start" {
			start++
		} else {
			stop++
		}
	}
	switch p.Verdict {
	case Refused:
		return "refused: " + strings.Join(p.Reasons, "; ")
	case None:
		return "nothing to change"
	}
	s := fmt.Sprintf("%d to create, %d to change, %d to prune; %s to start, %d to stop", created, changed, pruned, count(start, "pod"), stop)
	if p.Verdict == Held {
		s = "held: " + strings.Join(p.Reasons, "; ") + "; otherwise " + s
	}
	if len(p.Unplaced) > 0 {
		s += fmt.Sprintf(", %d without a node", len(p.Unplaced))
	}
	return s
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
