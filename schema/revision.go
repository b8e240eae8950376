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
	Memory:     memoryCell{Do: Memory{Lean: all, Brief: briefRevision, Size: sizeOfRevision}},
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

// KeptRevisions is how many revisions of a source are kept.
const KeptRevisions = 50

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

const (
	// MaxBriefRevision bounds what briefRevision leaves, as stored.
	MaxBriefRevision = 2 << 10
	briefText        = 60 // bytes of each text as JSON
	briefPhases      = 3
)

// briefRevision is what a revision was and what became of it, without its plan, its
// evidence and all but one diagnostic, and with texts cut short.
func briefRevision(obj Object) Object {
	r := obj.(*Revision)
	out := &Revision{TypeMeta: r.TypeMeta, Spec: r.Spec, ObjectMeta: metav1.ObjectMeta{
		Name: r.Name, UID: r.UID, ResourceVersion: r.ResourceVersion, Generation: r.Generation, CreationTimestamp: r.CreationTimestamp,
	}}
	out.Spec.Author, out.Spec.Subject, out.Spec.Pusher = brief(r.Spec.Author), brief(r.Spec.Subject), brief(r.Spec.Pusher)
	out.Status = RevisionStatus{
		Phase: r.Status.Phase, Seen: r.Status.Seen, Sync: r.Status.Sync.brief(), Health: r.Status.Health.brief(), ProvenAt: r.Status.ProvenAt,
		Counts: r.Status.Counts, RolledBackTo: r.Status.RolledBackTo, Quarantined: r.Status.Quarantined,
	}
	for _, p := range r.Status.Phases[max(0, len(r.Status.Phases)-briefPhases):] {
		p.Reason = brief(p.Reason)
		out.Status.Phases = append(out.Status.Phases, p)
	}
	if j := r.Status.JudgedAgain; j != nil {
		out.Status.JudgedAgain = &JudgedAgain{At: j.At, Reason: brief(j.Reason)}
	}
	if d := Diagnostics(r.Status.Diagnostics).firstError(); d != (Diagnostic{}) {
		d.Path, d.Message, d.Hint = brief(d.Path), brief(d.Message), brief(d.Hint)
		out.Status.Diagnostics = []Diagnostic{d}
	}
	return out
}

// brief is the start of a text.
func brief(text string) string {
	for most := briefText; ; most /= 2 {
		if out := FitText(text, most); jsonBytes(out) <= briefText+len(`"",`) {
			return out
		}
	}
}

// sizeOfRevision adds up what may be long: the JSON of one with a large plan takes longer
// than the round that changes it.
func sizeOfRevision(obj Object) int64 {
	const (
		field           = len(`"":"",`)
		phaseFrame      = len(`{"name":"RolledBack","at":"2006-01-02T15:04:05Z","reason":}`)
		diagnosticFrame = len(`{"path":,"line":12345,"column":12345,"severity":"warning","message":,"hint":}`)
		evidenceFrame   = 200 // names of fields, an exit code, a time
	)
	status := &obj.(*Revision).Status
	size := MaxBriefRevision
	for pod, node := range status.Placements {
		size += field + len(pod) + len(node)
	}
	for _, p := range status.Phases {
		size += phaseFrame + jsonBytes(p.Reason)
	}
	for _, d := range status.Diagnostics {
		size += diagnosticFrame + jsonBytes(d.Path) + jsonBytes(d.Message) + jsonBytes(d.Hint)
	}
	for _, c := range status.Conditions {
		size += phaseFrame + jsonBytes(c.Type) + jsonBytes(c.Reason) + jsonBytes(c.Message)
	}
	for i := range status.Evidence {
		size += evidenceFrame + status.Evidence[i].textBytes() + logBytes(status.Evidence[i].Log)
	}
	for _, note := range status.Differs {
		size += jsonBytes(note)
	}
	return int64(size)
}

func (s *Standing) brief() *Standing {
	if s == nil {
		return nil
	}
	return &Standing{Word: s.Word, Reason: brief(s.Reason), Since: s.Since}
}

// BelongsTo is the source that an object comes from or tells of, "" for none.
func BelongsTo(obj Object) SourceName {
	if r, ok := obj.(*Revision); ok {
		return r.Spec.Source
	}
	return SourceOf(obj)
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

// Release takes the hold of a guard away.
func (r *Revision) Release() {
	r.Status.Conditions = slices.DeleteFunc(r.Status.Conditions, func(c metav1.Condition) bool { return c.Type == ConditionHeld })
}

// Leave forgets that the revision is in a phase, so that it can be entered for another
// reason. In any other phase it changes nothing.
func (r *Revision) Leave(phase Phase) {
	if n := len(r.Status.Phases); r.Status.Phase == phase && n > 1 {
		r.Status.Phases = slices.Delete(r.Status.Phases, n-1, n)
		r.Status.Phase = r.Status.Phases[n-2].Name
	}
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
