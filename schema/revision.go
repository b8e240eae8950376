package schema

import (
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// KindRevision is the kind of Revision.
const KindRevision Kind = "Revision"

var revisionRow = Row{
	KindInfo: KindInfo{
		Kind: KindRevision, Group: Group, Version: "v1", Resource: "revisions", Singular: "revision", Short: []string{"rev"},
		OfItself: true, New: func() Object { return &Revision{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{None: notInGit},
	Defaults:   defaultsCell{None: notInGit},
	Judge:      judgeCell{None: notInGit},
	Update:     updateCell{None: notInGit},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: namesNothing},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: notInGit},
	Owns:       ownsCell{None: ownsNothing},
	Carry:      carryCell{None: notInGit},
	Memory:     memoryCell{Do: Memory{Lean: all}},
	Whole:      wholeCell{Do: wholeRevision},
}

// Phase is a station in the life of a revision.
type Phase string

// The phases, in the order a healthy revision passes the first six.
const (
	PhaseSeen       Phase = "Seen"
	PhaseVerified   Phase = "Verified"
	PhaseValid      Phase = "Valid"
	PhasePlanned    Phase = "Planned"
	PhaseRollingOut Phase = "RollingOut"
	PhaseHealthy    Phase = "Healthy"
	PhaseInvalid    Phase = "Invalid"
	PhaseHeld       Phase = "Held"
	PhaseStalled    Phase = "Stalled"
	PhaseFailed     Phase = "Failed"
	PhaseRolledBack Phase = "RolledBack"
	PhaseSuperseded Phase = "Superseded"
)

// Revision is one commit of a source as the master handled it. Cluster-scoped,
// named RevisionOf(source, commit).
type Revision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              RevisionSpec   `json:"spec"`
	Status            RevisionStatus `json:"status,omitempty"`
}

// RevisionSpec identifies the commit.
type RevisionSpec struct {
	Source  SourceName  `json:"source"`
	Commit  Commit      `json:"commit"`
	Tree    TreeHash    `json:"tree"`
	Parent  Commit      `json:"parent,omitempty"`
	Author  string      `json:"author,omitempty"`
	Subject string      `json:"subject,omitempty"`
	Time    metav1.Time `json:"time,omitempty"`
	Pusher  string      `json:"pusher,omitempty"`
}

// RevisionStatus is what became of it.
type RevisionStatus struct {
	Phase        Phase               `json:"phase,omitempty"`
	Phases       []PhaseRecord       `json:"phases,omitempty"`
	Seen         uint64              `json:"seen,omitempty"`     // the cluster's version when it was last seen: the order of revisions, also within a second
	Sync         *Standing           `json:"sync,omitempty"`     // while it runs or Git asks for it
	Health       *Standing           `json:"health,omitempty"`   // since it was applied; of one that was replaced, as it was then
	ProvenAt     *metav1.Time        `json:"provenAt,omitempty"` // when it had run well for its source's healthyFor
	Evidence     []Evidence          `json:"evidence,omitempty"` // of why it does not work, or did not when it failed; within FitEvidence's bounds
	Counts       RevisionCounts      `json:"counts,omitempty"`
	Diagnostics  []Diagnostic        `json:"diagnostics,omitempty"` // at most MaxRevisionDiagnostics
	RolledBackTo Commit              `json:"rolledBackTo,omitempty"`
	Quarantined  bool                `json:"quarantined,omitempty"`
	JudgedAgain  *JudgedAgain        `json:"judgedAgain,omitempty"` // it is not counted as failed any more, which is done once
	Placements   map[string]NodeName `json:"placements,omitempty"`  // planned pod "namespace/name" -> node
	Differs      []string            `json:"differs,omitempty"`     // "differs from plan: ..." notes
	Conditions   []metav1.Condition  `json:"conditions,omitempty"`
}

// JudgedAgain is when and why a revision that failed was counted as failed no more: it is
// tried once more.
type JudgedAgain struct {
	At     metav1.Time `json:"at"`
	Reason string      `json:"reason"`
}

// Standing is how a revision stands now, in one word, where its phases tell what it
// went through.
type Standing struct {
	Word   string      `json:"word"`
	Reason string      `json:"reason,omitempty"`
	Since  metav1.Time `json:"since"` // since when the word is true
}

// The words of RevisionStatus.Sync: does the cluster match Git?
const (
	Synced  = "Synced"  // the revision's objects are applied, and Git asks for them
	Drifted = "Drifted" // they were applied, and some are no longer there
	Held    = "Held"    // Git asks for one revision and another runs
	Invalid = "Invalid" // Git asks for a tree that has errors
)

// SyncWords are all of them.
var SyncWords = []string{Synced, Drifted, Held, Invalid}

// The words of RevisionStatus.Health: does it work?
const (
	Healthy     = "Healthy"     // every workload is complete
	Progressing = "Progressing" // it is rolled out
	Degraded    = "Degraded"    // it was healthy, and a workload no longer is
	Failed      = "Failed"      // its rollout failed
)

// HealthWords are all of them.
var HealthWords = []string{Healthy, Progressing, Degraded, Failed}

// MaxRevisionDiagnostics bounds RevisionStatus.Diagnostics.
const MaxRevisionDiagnostics = 100

// PhaseRecord tells when and why a revision entered a phase.
type PhaseRecord struct {
	Name   Phase       `json:"name"`
	At     metav1.Time `json:"at"`
	Reason string      `json:"reason,omitempty"`
}

// RevisionCounts is the plan in numbers.
type RevisionCounts struct {
	Created int `json:"created"`
	Changed int `json:"changed"`
	Pruned  int `json:"pruned"`
	Pods    int `json:"pods"` // pods started
	// Objects is how many objects the tree asks for; 0 where an earlier version did
	// not count them.
	Objects int `json:"objects,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (r *Revision) DeepCopyObject() runtime.Object {
	out := *r
	r.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Status.Phases = slices.Clone(r.Status.Phases)
	out.Status.Sync = clonePtr(r.Status.Sync)
	out.Status.Health = clonePtr(r.Status.Health)
	out.Status.ProvenAt = clonePtr(r.Status.ProvenAt)
	out.Status.Evidence = slices.Clone(r.Status.Evidence) // what a piece points to is never changed
	out.Status.Diagnostics = slices.Clone(r.Status.Diagnostics)
	out.Status.Placements = maps.Clone(r.Status.Placements)
	out.Status.Differs = slices.Clone(r.Status.Differs)
	out.Status.JudgedAgain = clonePtr(r.Status.JudgedAgain)
	out.Status.Conditions = slices.Clone(r.Status.Conditions)
	return &out
}

func wholeRevision(obj Object) bool {
	spec := &obj.(*Revision).Spec
	return spec.Source != "" && spec.Commit != ""
}

// Entered is when the revision last came into a phase, zero for never.
func (r *Revision) Entered(phase Phase) time.Time {
	var at time.Time
	for _, p := range r.Status.Phases {
		if p.Name == phase {
			at = p.At.Time
		}
	}
	return at
}

// Enter records phase at the given time, the reason as far as it is kept; entering
// the phase it is in already changes nothing and reports false.
func (r *Revision) Enter(phase Phase, at metav1.Time, reason string) bool {
	if r.Status.Phase == phase {
		return false
	}
	r.Status.Phase = phase
	r.Status.Phases = append(r.Status.Phases, PhaseRecord{Name: phase, At: at, Reason: FitText(reason, MaxReasonText)})
	if n := len(r.Status.Phases); n > MaxPhaseRecords {
		r.Status.Phases = slices.Delete(r.Status.Phases, MaxPhaseRecords/2, MaxPhaseRecords/2+n-MaxPhaseRecords)
	}
	return true
}
