package schema

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
)

// KindSource is the kind of Source.
const KindSource Kind = "Source"

var sourceRow = Row{
	KindInfo: KindInfo{
		Kind: KindSource, Group: Group, Version: "v1", Resource: "sources", Singular: "source",
		Desired: true, OfItself: true, Followed: true, New: func() Object { return &Source{} },
	},
	Name:       nameCell{Do: validation.IsDNS1123Label},
	Supported:  supportedCell{Do: []string{"spec"}},
	Defaults:   defaultsCell{Do: func(obj Object) { s := obj.(*Source); s.Spec = DefaultSourceSpec(s.Spec) }},
	Judge:      judgeCell{Do: func(p *problems, obj Object) { p.source(&obj.(*Source).Spec) }},
	Update:     updateCell{None: anyUpdate},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: "its credentials are a file on the master"},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{Do: rightsOfSource},
	Owns:       ownsCell{None: "what it declared is orphaned where it goes, or pruned by its trees"},
	Carry:      carryCell{Do: func(live, next Object) { next.(*Source).Status = live.(*Source).Status }},
	Memory:     memoryCell{Do: Memory{Lean: all, Room: roomOfSource}},
	Whole:      wholeCell{Do: wholeSource},
}

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
	// CreateNamespaces has namespaces made that its objects stand in and that nobody
	// declares. They belong to no source, and never go by themselves.
	CreateNamespaces bool `json:"createNamespaces,omitempty"`
	// MissingReferences says what becomes of pods that name a ConfigMap or Secret that
	// nobody declares: error (default), or wait, which has them wait until it is there.
	MissingReferences string `json:"missingReferences,omitempty"`

	// What its trees may ask for; see Rights. Never more than the source has that
	// declares it.
	Namespaces   []string      `json:"namespaces,omitempty"`   // empty is any
	ClusterKinds []string      `json:"clusterKinds,omitempty"` // "*" is any, empty is none
	PodSecurity  SecurityLevel `json:"podSecurity,omitempty"`  // default baseline
	HostPath     *bool         `json:"hostPath,omitempty"`     // default false
}

// What a Source may say of missing references.
const (
	ErrorOnMissing = "error"
	WaitForMissing = "wait"
)

// SourceAuth names the file on the master that holds the source's credentials.
type SourceAuth struct {
	SecretFile string `json:"secretFile,omitempty"`
}

// CommitRef is a commit and its tree, both as full hex hashes.
type CommitRef struct {
	Commit Commit   `json:"commit,omitempty"`
	Tree   TreeHash `json:"tree,omitempty"`
}

// SourceStatus is where a source stands.
type SourceStatus struct {
	Observed CommitRef `json:"observed,omitempty"` // what the remote has
	Applied  CommitRef `json:"applied,omitempty"`  // what the cluster's objects come from
	Desired  CommitRef `json:"desired,omitempty"`  // what Git asks for
	// JudgedUnder is what Desired was judged by: the source's rights, as Rights.String
	// has them, and SourceSpec.Reading. What was judged by others is judged again.
	JudgedUnder string `json:"judgedUnder,omitempty"`
	// SecretKiB is what the values of the applied Secrets take, rounded up to SecretUnit:
	// it bounds them all also while those of other sources have not been read yet, after a
	// start, and tells nobody how long a value is.
	SecretKiB int64 `json:"secretKiB,omitempty"`
	// Finished are objects that did their work and are no longer there, sorted by
	// object: they are not made again until what they ask for changes.
	Finished []FinishedRecord `json:"finished,omitempty"`
	// GivenUp is what objects of the source had that they do not have since a revision
	// which has run well for long enough: objects by their keys ("Service shop/api"),
	// cluster addresses and node ports ("30080/TCP"), sorted. While what is applied may
	// make way for that revision no other source takes it. It is emptied where that cannot
	// be, and when the rollout has stood still for long.
	GivenUp    []string           `json:"givenUp,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MaxGivenUp bounds SourceStatus.GivenUp: the longest names of so many take a third of what
// an object may have. What is beyond it may be taken.
const MaxGivenUp = 1_000

// SourceName is its name as other objects give it.
func (s *Source) SourceName() SourceName { return SourceName(s.Name) }

// roomOfSource is for the revisions of a source, each as brief as it can be kept.
func roomOfSource(Object) int64 { return KeptRevisions * MaxBriefRevision }

// SecretUnit is what SourceStatus.SecretKiB is a multiple of.
const SecretUnit = 4

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
	out.Status.Finished = slices.Clone(s.Status.Finished)
	out.Status.GivenUp = slices.Clone(s.Status.GivenUp)
	return &out
}

// DefaultProgressDeadline is how long a workload may go without progress before its
// revision has failed, where neither it nor its source says.
const DefaultProgressDeadline = 600 * time.Second

// DefaultHealthyFor is how long a revision must have run well before a source goes
// back to it: longer than a program that ends soon takes to end for the second time.
const DefaultHealthyFor = 60 * time.Second

// DefaultSourceSpec returns spec with every empty field at its default.
func DefaultSourceSpec(spec SourceSpec) SourceSpec {
	setDefault(&spec.Branch, "main")
	setDefault(&spec.Path, ".")
	setDefault(&spec.Namespace, "default")
	setDefault(&spec.Unsupported, "error")
	setDefault(&spec.MissingReferences, ErrorOnMissing)
	setDefault(&spec.OnFailure, "rollback")
	setDefault(&spec.PruneLimit, "50%")
	setDefault(&spec.PodSecurity, BaselineLevel)
	setPointer(&spec.Interval, metav1.Duration{Duration: 30 * time.Second})
	setPointer(&spec.ProgressDeadline, metav1.Duration{Duration: DefaultProgressDeadline})
	setPointer(&spec.HealthyFor, metav1.Duration{Duration: DefaultHealthyFor})
	return spec
}

// Reading tells what a defaulted spec says of how its trees are read and judged, where
// that is not the default; "" where all is.
func (s *SourceSpec) Reading() string {
	var b strings.Builder
	tell := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&b, ", "+format, args...)
		}
	}
	plain := DefaultSourceSpec(SourceSpec{})
	tell(s.Namespace != plain.Namespace, "namespace %s", s.Namespace)
	tell(s.Unsupported != plain.Unsupported, "unsupported: %s", s.Unsupported)
	tell(s.CreateNamespaces, "createNamespaces")
	tell(s.MissingReferences != "" && s.MissingReferences != plain.MissingReferences, "missingReferences: %s", s.MissingReferences)
	tell(len(s.Include) > 0, "include %q", s.Include)
	tell(len(s.Exclude) > 0, "exclude %q", s.Exclude)
	return b.String()
}

func (p *problems) source(s *SourceSpec) {
	switch {
	case s.Embedded && s.URL != "":
		p.add("spec.url", "must be left out when embedded is true")
	case !s.Embedded && s.URL == "":
		p.hint("spec", `write url or "embedded: true"`, "names no repository")
	}
	if s.URL != "" {
		r, err := ParseRemote(s.URL)
		switch {
		case err != nil:
			p.add("spec.url", "%q %v", withoutCredentials(s.URL), err)
		case strings.Trim(r.Path, "/") == "":
			p.add("spec.url", "%q names no repository", s.URL)
		}
	}
	if s.Embedded && s.Auth != nil {
		p.add("spec.auth", "an embedded source has no credentials: it takes pushers' tokens")
	}
	if !safeRelative(s.Path) {
		p.add("spec.path", "%q must be a relative path inside the repository", s.Path)
	}
	p.rule("", "spec.namespace", s.Namespace, validation.IsDNS1123Label)
	oneOf(p, "", "spec.unsupported", s.Unsupported, "error", "warn")
	oneOf(p, "", "spec.missingReferences", s.MissingReferences, ErrorOnMissing, WaitForMissing)
	oneOf(p, "", "spec.onFailure", s.OnFailure, "rollback", "hold")
	if s.Interval.Duration < time.Second {
		p.add("spec.interval", "%s is too short, at least 1s", s.Interval.Duration)
	}
	if s.ProgressDeadline.Duration < time.Second {
		p.add("spec.progressDeadline", "%s is too short, at least 1s", s.ProgressDeadline.Duration)
	}
	if s.HealthyFor.Duration < 0 {
		p.add("spec.healthyFor", "%s must not be negative", s.HealthyFor.Duration)
	}
	if percent, err := strconv.Atoi(strings.TrimSuffix(s.PruneLimit, "%")); err != nil || !strings.HasSuffix(s.PruneLimit, "%") || percent < 0 || percent > 100 {
		p.hint("spec.pruneLimit", "write a percentage like 50%", "%q is not a percentage from 0%% to 100%%", s.PruneLimit)
	}
	p.globs("spec.include", s.Include)
	p.globs("spec.exclude", s.Exclude)
	p.rights(s)
}

var userInfo = regexp.MustCompile(`//[^/]*@`)

// withoutCredentials is a URL as it may be told: what is wrong in a tree is read
// by more people than the tree.
func withoutCredentials(url string) string {
	return userInfo.ReplaceAllString(url, "//…@")
}

func (p *problems) globs(at string, globs []string) {
	for i, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || strings.Trim(glob, "/") == "" {
			p.hint(fmt.Sprintf("%s[%d]", at, i), "* stands for part of a name, ** for any number of directories", "%q is not a glob", glob)
		}
	}
}

// rightsOfSource tells what a declared source would have beyond the one that declares it.
func rightsOfSource(p *problems, obj Object, source SourceName, r Rights) {
	child := &obj.(*Source).Spec
	for i, namespace := range child.Namespaces {
		if !r.MayUse(namespace) {
			p.mayNotUse(fmt.Sprintf("spec.namespaces[%d]", i), source, namespace, r)
		}
	}
	for i, kind := range child.ClusterKinds {
		if !r.AnyKind && !r.MayDeclare(Kind(kind)) {
			p.hint(fmt.Sprintf("spec.clusterKinds[%d]", i), "a source never has more than the one that declares it", "the source %q may not declare objects of %q itself", source, kind)
		}
	}
	if child.PodSecurity.Exceeds(r.PodSecurity) {
		p.hint("spec.podSecurity", "write "+string(r.PodSecurity)+": a source never has more than the one that declares it", "the source %q itself has %s", source, r.PodSecurity)
	}
	if isTrue(child.HostPath) && !r.HostPath {
		p.hint("spec.hostPath", "leave it out: a source never has more than the one that declares it", "the source %q may not mount directories of nodes itself", source)
	}
}

// rights judges what a source is to have by itself.
func (p *problems) rights(s *SourceSpec) {
	for i, namespace := range s.Namespaces {
		p.rule(fmt.Sprintf("spec.namespaces[%d]", i), "", namespace, validation.IsDNS1123Label)
	}
	for i, kind := range s.ClusterKinds {
		if info, ok := Lookup(Kind(kind)); kind != anyClusterKind && (!ok || info.Namespaced || !info.Desired) {
			p.hint(fmt.Sprintf("spec.clusterKinds[%d]", i), "one of "+strings.Join(clusterKinds(), ", ")+`, or "*" for all`, "%q is no cluster-scoped kind that may stand in Git", kind)
		}
	}
	oneOf(p, "", "spec.podSecurity", s.PodSecurity, securityLevels...)
	if isTrue(s.HostPath) && !s.PodSecurity.Exceeds(BaselineLevel) {
		p.hint("spec.hostPath", "write podSecurity: privileged beside it, or leave it out", "podSecurity %s allows no volumes of type hostPath", s.PodSecurity)
	}
}

func wholeSource(obj Object) bool {
	spec := &obj.(*Source).Spec
	return spec.Interval != nil && spec.ProgressDeadline != nil
}
