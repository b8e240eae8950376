// Package schema answers what may stand in Git and what the cluster's objects
// are: the kinds, their identity, where an object came from, and how a mistake
// in a user's file is told. It reads no file and talks to nobody; every other
// room imports it.
package schema

import (
	"fmt"
	"reflect"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8sschema "k8s.io/apimachinery/pkg/runtime/schema"
)

// Object is any object of the cluster: Kubernetes' own types and ours.
type Object interface {
	metav1.Object
	runtime.Object
}

// Kind names a kind of object, as in a manifest's `kind`. Kinds are unique
// across groups here, so a Kind alone identifies a type.
type Kind string

// KindInfo is what the API, the loader and the printers need to know of a kind.
type KindInfo struct {
	Kind       Kind
	Group      string // "" is Kubernetes' core group
	Version    string
	Resource   string // plural, as in URLs
	Singular   string
	Short      []string // kubectl's short names
	Namespaced bool
	Desired    bool   // may stand in Git
	Logs       bool   // has a log subresource
	All        bool   // is among what `kubectl get all` shows
	Sealed     bool   // its values are shown to nobody
	OfItself   bool   // what the cluster writes of itself; its objects are not counted among what was created
	Followed   bool   // trees come from its objects, and none of them changes the one that it came from
	Instead    string // what to write or do instead, for some that may not stand in Git
	Older      []Older
	New        func() Object
}

// Older is a form in which Kubernetes served a kind once
// (https://kubernetes.io/docs/reference/using-api/deprecation-guide/).
type Older struct {
	APIVersion string
	Differs    string // what is to be changed besides apiVersion, "" for nothing
}

// APIVersion is the manifest form, "apps/v1" or "v1".
func (k KindInfo) APIVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

// GVK is the kind as apimachinery names it.
func (k KindInfo) GVK() k8sschema.GroupVersionKind {
	return k8sschema.GroupVersionKind{Group: k.Group, Version: k.Version, Kind: string(k.Kind)}
}

// table has a line for each kind. Everything else of a kind stands in its own file.
var table = []Row{
	namespaceRow,
	nodeRow,
	podRow,
	serviceRow,
	configMapRow,
	secretRow,
	eventRow,
	deploymentRow,
	replicaSetRow,
	jobRow,
	cronJobRow,
	endpointSliceRow,
	sourceRow,
	revisionRow,
}

// These are filled by init: what stands in a row may ask for a kind.
var (
	kinds  []KindInfo
	byKind = make(map[Kind]int)
	byType = make(map[reflect.Type]int)
)

func init() {
	for i := range table {
		kinds = append(kinds, table[i].KindInfo)
		byKind[table[i].Kind] = i
		byType[reflect.TypeOf(table[i].New())] = i
	}
	rows = RowsOf(func(r *Row) Kind { return r.Kind }, table...)
	supported = compileSupport()
}

// Kinds returns every kind in a fixed order. The slice is shared; do not change it.
func Kinds() []KindInfo { return kinds }

// Lookup finds a kind by name.
func Lookup(k Kind) (KindInfo, bool) {
	i, ok := byKind[k]
	if !ok {
		return KindInfo{}, false
	}
	return kinds[i], true
}

// Info is Lookup for a kind that is known to exist; an unknown one panics.
func Info(k Kind) KindInfo {
	info, ok := Lookup(k)
	if !ok {
		panic(fmt.Sprintf("schema: unknown kind %q", k))
	}
	return info
}

// Index is the kind's place in Kinds, for arrays of tables.
func Index(k Kind) int {
	i, ok := byKind[k]
	if !ok {
		panic(fmt.Sprintf("schema: unknown kind %q", k))
	}
	return i
}

// KindOf tells an object's kind from its Go type; TypeMeta need not be set.
func KindOf(obj Object) Kind { return kinds[indexOf(obj)].Kind }

// KindFor is KindOf for a type of which there is no object yet.
func KindFor[T Object]() Kind {
	i, ok := byType[reflect.TypeFor[T]()]
	if !ok {
		panic(fmt.Sprintf("schema: no kind has type %s", reflect.TypeFor[T]()))
	}
	return kinds[i].Kind
}

// indexOf is the place of an object's kind in Kinds.
func indexOf(obj Object) int {
	i, ok := byType[reflect.TypeOf(obj)]
	if !ok {
		panic(fmt.Sprintf("schema: no kind has type %T", obj))
	}
	return i
}

// SetTypeMeta writes apiVersion and kind from the object's Go type.
func SetTypeMeta(obj Object) {
	obj.GetObjectKind().SetGroupVersionKind(Info(KindOf(obj)).GVK())
}

// Key is an object's identity. Namespace is empty for cluster-scoped kinds.
type Key struct {
	Kind      Kind
	Namespace string
	Name      string
}

// KeyOf is the identity of obj.
func KeyOf(obj Object) Key {
	return Key{KindOf(obj), obj.GetNamespace(), obj.GetName()}
}

// String is "Deployment shop/api" or "Node n1".
func (k Key) String() string {
	if k.Namespace == "" {
		return string(k.Kind) + " " + k.Name
	}
	return string(k.Kind) + " " + k.Namespace + "/" + k.Name
}

// ParseKey is the key of which String is text; false for what is none.
func ParseKey(text string) (Key, bool) {
	kind, of, ok := strings.Cut(text, " ")
	namespace, name, isIn := strings.Cut(of, "/")
	if !isIn {
		namespace, name = "", of
	}
	return Key{Kind(kind), namespace, name}, ok
}

// Compare orders keys by kind, namespace and name.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(string(k.Kind), string(o.Kind)); c != 0 {
		return c
	}
	if c := strings.Compare(k.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, o.Name)
}

// NodeName names a node of the cluster.
type NodeName string
