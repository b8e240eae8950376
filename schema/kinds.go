// Package schema answers what may stand in Git and what the cluster's objects
// are: the kinds, their identity, where an object came from, and how a mistake
// in a user's file is told. It reads no file and talks to nobody; every other
// room imports it.
package schema

import (
	"fmt"
	"reflect"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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

// The kinds Fairlead knows.
const (
	KindNamespace     Kind = "Namespace"
	KindNode          Kind = "Node"
	KindPod           Kind = "Pod"
	KindService       Kind = "Service"
	KindConfigMap     Kind = "ConfigMap"
	KindSecret        Kind = "Secret"
	KindEvent         Kind = "Event"
	KindDeployment    Kind = "Deployment"
	KindReplicaSet    Kind = "ReplicaSet"
	KindEndpointSlice Kind = "EndpointSlice"
	KindSource        Kind = "Source"
	KindRevision      Kind = "Revision"
)

// KindInfo is what the API, the loader and the printers need to know of a kind.
type KindInfo struct {
	Kind       Kind
	Group      string // "" is Kubernetes' core group
	Version    string
	Resource   string // plural, as in URLs
	Singular   string
	Short      []string // kubectl's short names
	Namespaced bool
	Desired    bool // may stand in Git
	Logs       bool // has a log subresource
	All        bool // is among what `kubectl get all` shows
	Sealed     bool // its values are shown to nobody
	OfItself   bool // what the cluster writes of itself; its objects are not counted among what was created
	New        func() Object
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

var kinds = []KindInfo{
	{Kind: KindNamespace, Version: "v1", Resource: "namespaces", Singular: "namespace", Short: []string{"ns"}, Desired: true, New: func() Object { return &corev1.Namespace{} }},
	{Kind: KindNode, Version: "v1", Resource: "nodes", Singular: "node", Short: []string{"no"}, New: func() Object { return &corev1.Node{} }},
	{Kind: KindPod, Version: "v1", Resource: "pods", Singular: "pod", Short: []string{"po"}, Namespaced: true, Desired: true, Logs: true, All: true, New: func() Object { return &corev1.Pod{} }},
	{Kind: KindService, Version: "v1", Resource: "services", Singular: "service", Short: []string{"svc"}, Namespaced: true, Desired: true, All: true, New: func() Object { return &corev1.Service{} }},
	{Kind: KindConfigMap, Version: "v1", Resource: "configmaps", Singular: "configmap", Short: []string{"cm"}, Namespaced: true, Desired: true, New: func() Object { return &corev1.ConfigMap{} }},
	{Kind: KindSecret, Version: "v1", Resource: "secrets", Singular: "secret", Namespaced: true, Desired: true, Sealed: true, New: func() Object { return &corev1.Secret{} }},
	{Kind: KindEvent, Version: "v1", Resource: "events", Singular: "event", Short: []string{"ev"}, Namespaced: true, OfItself: true, New: func() Object { return &corev1.Event{} }},
	{Kind: KindDeployment, Group: "apps", Version: "v1", Resource: "deployments", Singular: "deployment", Short: []string{"deploy"}, Namespaced: true, Desired: true, All: true, New: func() Object { return &appsv1.Deployment{} }},
	{Kind: KindReplicaSet, Group: "apps", Version: "v1", Resource: "replicasets", Singular: "replicaset", Short: []string{"rs"}, Namespaced: true, All: true, New: func() Object { return &appsv1.ReplicaSet{} }},
	{Kind: KindEndpointSlice, Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices", Singular: "endpointslice", Namespaced: true, New: func() Object { return &discoveryv1.EndpointSlice{} }},
	{Kind: KindSource, Group: Group, Version: "v1", Resource: "sources", Singular: "source", Desired: true, OfItself: true, New: func() Object { return &Source{} }},
	{Kind: KindRevision, Group: Group, Version: "v1", Resource: "revisions", Singular: "revision", Short: []string{"rev"}, OfItself: true, New: func() Object { return &Revision{} }},
}

var (
	byKind = make(map[Kind]int, len(kinds))
	byType = make(map[reflect.Type]int, len(kinds))
)

func init() {
	for i, k := range kinds {
		byKind[k.Kind] = i
		byType[reflect.TypeOf(k.New())] = i
	}
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
func KindOf(obj Object) Kind {
	i, ok := byType[reflect.TypeOf(obj)]
	if !ok {
		panic(fmt.Sprintf("schema: no kind has type %T", obj))
	}
	return kinds[i].Kind
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
