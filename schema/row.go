package schema

import (
	"fmt"
	"iter"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Row is all that is known of one kind by itself, without looking at the cluster: each
// kind's file fills one, and no code that handles any object knows a kind by name.
type Row struct {
	KindInfo
	// Name is the rule that the names of its objects follow, one of apimachinery's.
	Name nameCell
	// Supported is the table of its fields that are acted on, beside those of every
	// kind: see supported.go for the language.
	Supported supportedCell
	// Defaults fills in, in place, what Kubernetes' defaults say about fields left out.
	Defaults defaultsCell
	// Judge tells what is wrong with a defaulted object, beside the metadata that every
	// kind has.
	Judge judgeCell
	// Update tells which fields of new differ from old and may not.
	Update updateCell
	// Work is what an object whose work has an end is asked to do.
	Work workCell
	// Pods is the pods that an object makes. Pods are defaulted, judged by the standards
	// of pod security, and searched for references wherever they stand.
	Pods podsCell
	// References are the other objects of its namespace that an object names.
	References referencesCell
	// Data is what pods take from an object that they refer to.
	Data dataCell
	// Backends are the pods that an object sends connections to.
	Backends backendsCell
	// Claims are what no other object of the cluster may have as well.
	Claims claimsCell
	// Declares is the namespace that an object declares.
	Declares declaresCell
	// Rights tells what an object asks for beyond the rights of the source that its tree
	// belongs to, besides its place and its pods, for which every kind is judged.
	Rights rightsCell
	// Owns are the kinds whose objects are made from one of these and end with it.
	Owns ownsCell
	// Carry gives next, which takes live's place, what the cluster wrote on live:
	// status, and what was allocated for it. Identity and annotations are every kind's.
	Carry carryCell
	// Memory is what survives of it where the master lost its store.
	Memory memoryCell
	// Whole reports whether a stored object has what every accepted one has.
	Whole wholeCell
}

type (
	nameCell       = Cell[func(name string) []string]
	supportedCell  = Cell[[]string]
	defaultsCell   = Cell[func(obj Object)]
	judgeCell      = Cell[func(p *problems, obj Object)]
	updateCell     = Cell[func(p *problems, old, new Object)]
	workCell       = Cell[Work]
	podsCell       = Cell[func(obj Object) PodTemplate]
	referencesCell = Cell[func(obj Object) iter.Seq[Reference]]
	dataCell       = Cell[Data]
	backendsCell   = Cell[func(obj Object) Backends]
	claimsCell     = Cell[func(obj Object) []Claim]
	declaresCell   = Cell[func(obj Object) Declared]
	rightsCell     = Cell[func(p *problems, obj Object, source SourceName, r Rights)]
	ownsCell       = Cell[[]Kind]
	carryCell      = Cell[func(live, next Object)]
	memoryCell     = Cell[Memory]
	wholeCell      = Cell[func(obj Object) bool]
)

// Memory is what survives a lost store of a kind's objects. The nodes keep it.
type Memory struct {
	// Kept reports whether an object is kept; nil for all.
	Kept func(obj Object) bool
	// Lean is a copy without what is found out anew, or obj itself where all of it is
	// kept and its resourceVersion tells how fresh the record is; nil where nothing is
	// kept.
	Lean func(obj Object) Object
	// Brief is the least that is kept of an object, in place of Lean's copy, where the
	// history of its source takes too much: nil when the cluster can do without it. A row
	// without Brief has no history.
	Brief func(obj Object) Object
	// Size is about how many bytes Lean's copy takes as stored, where that can be told more
	// quickly than by encoding it; nil where it cannot.
	Size func(obj Object) int64
	// Ahead is how many bytes the records of what the object must be able to make may take,
	// where its own takes record: there is room for them from the start, so that objects do
	// not wait for each other's. Nil is for nothing.
	Ahead func(obj Object, record int64) int64
	// Told is how many bytes every node is told of it at most, beside what is kept; nil
	// for nothing.
	Told func(obj Object) int64
	// Room is how many bytes more than now an object of a source may come to, with the
	// records of what the cluster writes about it; nil for none.
	Room func(obj Object) int64
}

// Work is what tells whether two objects of a kind ask for the same.
type Work struct {
	// Same takes out of spec, which is of an object, what may change while the work stays
	// the same.
	Same func(obj Object, spec map[string]any)
	// Size takes out of spec how much of the work there is, where that may change in place
	// of an object that is there, and reports whether any other size may change to that of
	// obj; nil for a kind whose work has one size.
	Size func(obj Object, spec map[string]any) (has, mayCome bool)
}

// Data is what pods take from the objects of a kind.
type Data struct {
	// Keys are those of an object, sorted.
	Keys func(obj Object) []string
	// NoEnvironment tells which value no environment can be made from, and why: of one
	// key, or the first of all for "". The value itself is not told.
	NoEnvironment func(obj Object, key string) (bad, why string)
}

// Backends are pods in the object's namespace, by what they must have.
type Backends struct {
	Selector      map[string]string
	SelectorField string
	Ports         []BackendPort // those that are asked for by name
}

// BackendPort is a named port of a pod.
type BackendPort struct {
	Field    string // that asks for it
	Name     string
	Protocol corev1.Protocol
}

// Claim is something that one object of the cluster can have: a port of every node, or
// an address. Values that are wrong by themselves claim nothing.
type Claim struct {
	Field    string
	Address  netip.Addr      // an address of services,
	NodePort int32           // or a port of every node,
	Protocol corev1.Protocol // of this protocol
}

// String is "spec.ports[0].nodePort 30080/TCP".
func (c Claim) String() string { return c.Field + " " + c.Value() }

// Value is what is claimed: "30080/TCP" or "10.96.0.50".
func (c Claim) Value() string {
	if c.NodePort == 0 {
		return c.Address.String()
	}
	return fmt.Sprintf("%d/%s", c.NodePort, c.Protocol)
}

// Declared is a namespace and what it asks of the pods in it.
type Declared struct {
	Namespace string
	Security  NamespaceSecurity
	Aged      []string // labels that ask for the rules of a version: there are the newest only
}

// DeclaredBy is the namespace that an object declares, nil for most kinds.
func DeclaredBy(obj Object) *Declared {
	declares := rowOf(obj).Declares.Do
	if declares == nil {
		return nil
	}
	d := declares(obj)
	return &d
}

// AsksOfPods reports whether it says anything about the pods in the namespace.
func (d *Declared) AsksOfPods() bool {
	return d.Security != (NamespaceSecurity{}) || len(d.Aged) > 0
}

// rows is the table of kinds. It is filled by init, so that what a row does may ask for
// another.
var rows Rows[Row]

// Of is the row of a kind, nil for one that this version does not know.
func Of(kind Kind) *Row { return rows.Of(kind) }

// rowOf is the row of an object's kind; an object of an unknown type panics.
func rowOf(obj Object) *Row { return &rows.rows[indexOf(obj)] }

// Reasons that several kinds share.
const (
	notInGit     = "it does not stand in Git"
	noDefaults   = "Kubernetes has no defaults for it"
	anyUpdate    = "all of it may change"
	neverDone    = "its work has no end"
	noPods       = "it makes no pods"
	namesNothing = "it names no other object"
	noData       = "pods take nothing from it"
	noBackends   = "nothing connects through it"
	claimsNone   = "any number of objects may have what it asks for"
	declaresNone = "it declares no namespace"
	noRights     = "it asks for nothing besides"
	ownsNothing  = "nothing is made from it that ends with it"
	noStatus     = "the cluster writes nothing on it"
	anyIsWhole   = "it has no field that others count on"
)

// subdomain is the rule for most names.
var subdomain = nameCell{Do: validation.IsDNS1123Subdomain}

// all is the whole object, its version included.
func all(obj Object) Object { return obj }

// unversioned is the whole object without its version.
func unversioned(obj Object) Object {
	out := obj.DeepCopyObject().(Object)
	out.SetResourceVersion("")
	return out
}

// referencesOf are those of an object's pods, by fields of the object.
func referencesOf(pods func(Object) PodTemplate) func(Object) iter.Seq[Reference] {
	return func(obj Object) iter.Seq[Reference] {
		t := pods(obj)
		return func(yield func(Reference) bool) {
			for r := range References(t.Spec) {
				if !yield(r.below(t.SpecField)) {
					return
				}
			}
		}
	}
}

// ReferencesOf are the other objects of its namespace that an object names, in the
// order of its fields.
func ReferencesOf(obj Object) iter.Seq[Reference] {
	if walk := rowOf(obj).References.Do; walk != nil {
		return walk(obj)
	}
	return func(func(Reference) bool) {}
}

// Why no environment can be made from a value.
const (
	asFile = "mount it as a file instead"
	hasNUL = "contains a NUL byte, which no environment can carry: " + asFile
)

// firstWithNUL is the first key in order whose value has a NUL; only one key is looked
// at unless it is "".
func firstWithNUL[V any](data map[string]V, key string, index func(V, byte) int) (first string, found bool) {
	if key != "" {
		value, ok := data[key]
		return key, ok && index(value, 0) >= 0
	}
	for k, v := range data {
		if (!found || k < first) && index(v, 0) >= 0 {
			first, found = k, true
		}
	}
	return first, found
}

// MayTake reports whether pods take something from the objects of a kind.
func MayTake(kind Kind) bool {
	row := Of(kind)
	return row != nil && row.Data.Do.Keys != nil
}

// DataKeys are the keys of an object that pods take something from, sorted; nil for
// other kinds.
func DataKeys(obj Object) []string {
	if keys := rowOf(obj).Data.Do.Keys; keys != nil {
		return keys(obj)
	}
	return nil
}

// NoEnvironment tells which value of an object no environment can be made from, and
// why: of one key, or the first of all for "". The value itself is not told.
func NoEnvironment(obj Object, key string) (bad, why string) {
	if data := rowOf(obj).Data.Do; data.NoEnvironment != nil {
		return data.NoEnvironment(obj, key)
	}
	return "", ""
}
