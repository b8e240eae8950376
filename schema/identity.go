package schema

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Annotations that tell where an object came from; derived objects carry their
// owner's.
const (
	AnnotationSource   = "fairlead/source"
	AnnotationPath     = "fairlead/path"
	AnnotationLine     = "fairlead/line"
	AnnotationCommit   = "fairlead/commit"
	AnnotationAuthor   = "fairlead/author"
	AnnotationRedacted = "fairlead/redacted" // on Secrets whose values were taken out
	AnnotationEpoch    = "fairlead/epoch"    // on Pods: epoch of the committed binding
	AnnotationSequence = "fairlead/sequence" // on ReplicaSets: pods created so far; on the pods of Jobs: which of its pods it is
	AnnotationLedger   = "fairlead/ledger"   // on Jobs: what they know of the pods they made
	AnnotationReplace  = "fairlead/replace"  // on Jobs in Git: "true" replaces the Job where it cannot change
	AnnotationDrained  = "fairlead/drained"  // "true" on terminating Pods that no service table holds any more
	// AnnotationStartsFailed is on Nodes: how often in a row they could not start pods.
	AnnotationStartsFailed = "fairlead/starts-failed"
)

// Origin is where an object stands in Git.
type Origin struct {
	Source SourceName `json:"source"`
	Path   string     `json:"path"`
	Line   int        `json:"line"`
	Commit Commit     `json:"commit"`
	Author string     `json:"author,omitempty"`
}

// Revision names the revision that the object came with.
func (o Origin) Revision() RevisionName { return RevisionOf(o.Source, o.Commit) }

// OriginOf reads the origin annotations; the zero Origin means "not from Git".
func OriginOf(obj metav1.Object) Origin {
	a := obj.GetAnnotations()
	line, _ := strconv.Atoi(a[AnnotationLine])
	return Origin{Source: SourceOf(obj), Path: a[AnnotationPath], Line: line, Commit: Commit(a[AnnotationCommit]), Author: a[AnnotationAuthor]}
}

// SourceOf is OriginOf's Source, for readers that need no more.
func SourceOf(obj metav1.Object) SourceName {
	return SourceName(obj.GetAnnotations()[AnnotationSource])
}

// InheritOrigin lets what is made from another object, which it changes in place, come
// from where that one does.
func InheritOrigin(derived, from metav1.Object) { SetOrigin(derived, OriginOf(from)) }

// SetOrigin writes the origin annotations on obj, which it changes in place.
func SetOrigin(obj metav1.Object, o Origin) {
	if o == (Origin{}) {
		return
	}
	a := obj.GetAnnotations()
	if a == nil {
		a = make(map[string]string, 5)
	}
	a[AnnotationSource] = string(o.Source)
	a[AnnotationPath] = o.Path
	a[AnnotationLine] = strconv.Itoa(o.Line)
	a[AnnotationCommit] = string(o.Commit)
	if o.Author != "" {
		a[AnnotationAuthor] = o.Author
	}
	obj.SetAnnotations(a)
}

// ClearOrigin has obj, which it changes in place, come from nowhere.
func ClearOrigin(obj metav1.Object) {
	maps.DeleteFunc(obj.GetAnnotations(), func(key, _ string) bool { return IsOriginAnnotation(key) })
}

// IsOriginAnnotation reports whether an annotation key is one of the origin's,
// which say nothing about what should run.
func IsOriginAnnotation(key string) bool {
	switch key {
	case AnnotationSource, AnnotationPath, AnnotationLine, AnnotationCommit, AnnotationAuthor, AnnotationBuilt:
		return true
	}
	return false
}

var uidSpace = uuid.MustParse("6f1b1c6e-52a5-5c0e-9f0a-6661697266c6")

// UID derives an object's identity from its key and the cluster's creation
// counter: UUIDv5 (RFC 9562) of "kind/namespace/name/counter".
func UID(k Key, counter uint64) types.UID {
	return types.UID(uuid.NewSHA1(uidSpace, fmt.Appendf(nil, "%s/%s/%s/%d", k.Kind, k.Namespace, k.Name, counter)).String())
}

// OwnedUID derives the identity of an object that another one makes: UUIDv5 of
// its key, its owner's UID and the owner's own count. It does not depend on what
// else the cluster makes meanwhile, so a plan foresees it.
func OwnedUID(k Key, owner types.UID, sequence int) types.UID {
	return types.UID(uuid.NewSHA1(uidSpace, fmt.Appendf(nil, "%s/%s/%s/%s/%d", k.Kind, k.Namespace, k.Name, owner, sequence)).String())
}

// The alphabet Kubernetes uses for generated names: no vowels, nothing that
// looks like another letter.
const nameAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// NameSuffix derives the 5-character suffix of a pod from its owner and the
// number of pods the owner made before it.
func NameSuffix(owner types.UID, sequence int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", owner, sequence))
	return encodeName(binary.BigEndian.Uint64(sum[:8]), 5)
}

// Hash is a short stable hash of any JSON value, in the name alphabet: the
// pod-template-hash of a ReplicaSet, the spec-hash of a container.
func Hash(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("schema: hash of %T: %v", v, err))
	}
	sum := sha256.Sum256(data)
	return encodeName(binary.BigEndian.Uint64(sum[:8]), 10)
}

// ShortHash is the first 8 hex digits of SHA-256, for link names and the like.
func ShortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:4])
}

func encodeName(n uint64, length int) string {
	out := make([]byte, length)
	for i := range out {
		out[i] = nameAlphabet[n%uint64(len(nameAlphabet))]
		n /= uint64(len(nameAlphabet))
	}
	return string(out)
}

// ContainerField is how an event names one of a pod's containers, as Kubernetes
// does: "spec.containers{web}". It is "" for no container.
func ContainerField(pod *corev1.Pod, container string) string {
	switch {
	case container == "":
		return ""
	case IsInitContainer(&pod.Spec, container):
		return "spec.initContainers{" + container + "}"
	}
	return "spec.containers{" + container + "}"
}
