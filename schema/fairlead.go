package schema

import (
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Group is the API group of Fairlead's own kinds.
const Group = "fairlead"

// Source is a Git repository, branch and path that the master follows.
// Cluster-scoped.
type Source struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              SourceSpec   `json:"spec"`
	Status            SourceStatus `json:"status,omitempty"`
}

// SourceSpec says what to follow and how to judge it. Exactly one of URL and
// Embedded is set.
type SourceSpec struct {
	URL              string           `json:"url,omitempty"`
	Embedded         bool             `json:"embedded,omitempty"`
	Branch           string           `json:"branch,omitempty"`           // default main
	Path             string           `json:"path,omitempty"`             // default "."
	Interval         *metav1.Duration `json:"interval,omitempty"`         // default 30s
	Namespace        string           `json:"namespace,omitempty"`        // for objects without one; default "default"
	Unsupported      string           `json:"unsupported,omitempty"`      // error (default) or warn
	OnFailure        string           `json:"onFailure,omitempty"`        // rollback (default) or hold
	ProgressDeadline *metav1.Duration `json:"progressDeadline,omitempty"` // default 600s
	HealthyFor       *metav1.Duration `json:"healthyFor,omitempty"`       // default 60s; how long a revision must run well to be gone back to
	PruneLimit       string           `json:"pruneLimit,omitempty"`       // default 50%
	Include          []string         `json:"include,omitempty"`          // globs; empty is everything
	Exclude          []string         `json:"exclude,omitempty"`
	Auth             *SourceAuth      `json:"auth,omitempty"`

	// What its trees may ask for; see Rights. Never more than the source has that
	// declares it.
	Namespaces   []string      `json:"namespaces,omitempty"`   // empty is any
	ClusterKinds []string      `json:"clusterKinds,omitempty"` // "*" is any, empty is none
	PodSecurity  SecurityLevel `json:"podSecurity,omitempty"`  // default baseline
	HostPath     *bool         `json:"hostPath,omitempty"`     // default false
}

// SourceAuth names the file on the master that holds the source's credentials.
type SourceAuth struct {
	SecretFile string `json:"secretFile,omitempty"`
}

// CommitRef is a commit and its tree, both as full hex hashes.
type CommitRef struct {
	Commit string `json:"commit,omitempty"`
	Tree   string `json:"tree,omitempty"`
}

// SourceStatus is where a source stands.
type SourceStatus struct {
	Observed CommitRef `json:"observed,omitempty"` // what the remote has
	Applied  CommitRef `json:"applied,omitempty"`  // what the cluster's objects come from
	Desired  CommitRef `json:"desired,omitempty"`  // what Git asks for
	// JudgedUnder is the rights under which Desired was judged, as Rights.String
	// has them. What was judged under others is judged again.
	JudgedUnder string             `json:"judgedUnder,omitempty"`
	Conditions  []metav1.Condition `json:"conditions,omitempty"`
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
// named RevisionName(source, commit).
type Revision struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              RevisionSpec   `json:"spec"`
	Status            RevisionStatus `json:"status,omitempty"`
}

// RevisionSpec identifies the commit.
type RevisionSpec struct {
	Source  string      `json:"source"`
	Commit  string      `json:"commit"`
	Tree    string      `json:"tree"`
	Parent  string      `json:"parent,omitempty"`
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
	RolledBackTo string              `json:"rolledBackTo,omitempty"`
	Quarantined  bool                `json:"quarantined,omitempty"`
	Placements   map[string]NodeName `json:"placements,omitempty"` // planned pod "namespace/name" -> node
	Differs      []string            `json:"differs,omitempty"`    // "differs from plan: ..." notes
	Conditions   []metav1.Condition  `json:"conditions,omitempty"`
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

// TrailerPrefix begins the name of every trailer of ours.
const TrailerPrefix = "Fairlead-"

// The commit trailers that override a guard, each good once.
const (
	TrailerAllowPrune  = "Fairlead-Allow-Prune"  // value: how many objects may go
	TrailerRetry       = "Fairlead-Retry"        // value: why
	TrailerAllowRewind = "Fairlead-Allow-Rewind" // value: the commit that is left
)

// Overrides are the guards that commits lift by their trailers.
type Overrides struct {
	AllowPrune int    // objects that may go; the largest of all commits since the applied one
	Retry      string // why a tree that failed is tried again; of the commits since the one judged last
}

// RevisionName is "<source>-<first 12 hex digits of commit>".
func RevisionName(source, commit string) string {
	return source + "-" + commit[:min(12, len(commit))]
}

// DeepCopyObject implements runtime.Object.
func (s *Source) DeepCopyObject() runtime.Object {
	out := *s
	s.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Include = slices.Clone(s.Spec.Include)
	out.Spec.Exclude = slices.Clone(s.Spec.Exclude)
	out.Spec.Interval = clonePtr(s.Spec.Interval)
	out.Spec.ProgressDeadline = clonePtr(s.Spec.ProgressDeadline)
	out.Spec.HealthyFor = clonePtr(s.Spec.HealthyFor)
	out.Spec.Auth = clonePtr(s.Spec.Auth)
	out.Spec.Namespaces = slices.Clone(s.Spec.Namespaces)
	out.Spec.ClusterKinds = slices.Clone(s.Spec.ClusterKinds)
	out.Spec.HostPath = clonePtr(s.Spec.HostPath)
	out.Status.Conditions = slices.Clone(s.Status.Conditions)
	return &out
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
	out.Status.Conditions = slices.Clone(r.Status.Conditions)
	return &out
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
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
