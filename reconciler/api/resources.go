package api

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// resource is one collection the API serves.
type resource struct {
	schema.KindInfo
	// stored is set for the cluster's own kinds; any other collection is empty,
	// there because clients ask for it and take a 404 for a fault.
	stored bool
	// derive makes a collection of another kind's objects; nil for the rest.
	derive *derivation
	// The rest is a row's, where the kind has one.
	maker   string
	refuse  refuseFunc
	reach   reachFunc
	fresh   freshFunc
	columns []column
	cells   cellsFunc
	fields  fieldsFunc // nil where there are no others than of every kind
	narrow  narrowFunc // nil where nothing is found by an index
}

// listKind names the collection's list, "PodList".
func (r *resource) listKind() string { return string(r.Kind) + "List" }

// path is "group/version/resource", the key of the index.
func (r *resource) path() string { return r.Group + "/" + r.Version + "/" + r.Resource }

// empties are collections that Kubernetes clients look into and Fairlead has
// nothing in.
var empties = []schema.KindInfo{
	{Kind: "PersistentVolume", Version: "v1", Resource: "persistentvolumes", Short: []string{"pv"}},
	{Kind: "PersistentVolumeClaim", Version: "v1", Resource: "persistentvolumeclaims", Short: []string{"pvc"}, Namespaced: true},
	{Kind: "ResourceQuota", Version: "v1", Resource: "resourcequotas", Short: []string{"quota"}, Namespaced: true},
	{Kind: "LimitRange", Version: "v1", Resource: "limitranges", Short: []string{"limits"}, Namespaced: true},
	{Kind: "ServiceAccount", Version: "v1", Resource: "serviceaccounts", Short: []string{"sa"}, Namespaced: true},
	{Kind: "ReplicationController", Version: "v1", Resource: "replicationcontrollers", Short: []string{"rc"}, Namespaced: true, All: true},
	{Kind: "StatefulSet", Group: "apps", Version: "v1", Resource: "statefulsets", Short: []string{"sts"}, Namespaced: true, All: true},
	{Kind: "DaemonSet", Group: "apps", Version: "v1", Resource: "daemonsets", Short: []string{"ds"}, Namespaced: true, All: true},
	{Kind: "ControllerRevision", Group: "apps", Version: "v1", Resource: "controllerrevisions", Namespaced: true},
	{Kind: "HorizontalPodAutoscaler", Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers", Short: []string{"hpa"}, Namespaced: true, All: true},
	{Kind: "Event", Group: "events.k8s.io", Version: "v1", Resource: "events", Short: []string{"ev"}, Namespaced: true},
	{Kind: "Ingress", Group: "networking.k8s.io", Version: "v1", Resource: "ingresses", Short: []string{"ing"}, Namespaced: true},
	{Kind: "IngressClass", Group: "networking.k8s.io", Version: "v1", Resource: "ingressclasses"},
	{Kind: "NetworkPolicy", Group: "networking.k8s.io", Version: "v1", Resource: "networkpolicies", Short: []string{"netpol"}, Namespaced: true},
	{Kind: "PodDisruptionBudget", Group: "policy", Version: "v1", Resource: "poddisruptionbudgets", Short: []string{"pdb"}, Namespaced: true},
	{Kind: "Role", Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles", Namespaced: true},
	{Kind: "RoleBinding", Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings", Namespaced: true},
	{Kind: "ClusterRole", Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
	{Kind: "ClusterRoleBinding", Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
	{Kind: "PriorityClass", Group: "scheduling.k8s.io", Version: "v1", Resource: "priorityclasses", Short: []string{"pc"}},
	{Kind: "StorageClass", Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses", Short: []string{"sc"}},
	{Kind: "VolumeAttachment", Group: "storage.k8s.io", Version: "v1", Resource: "volumeattachments"},
	{Kind: "CSIDriver", Group: "storage.k8s.io", Version: "v1", Resource: "csidrivers"},
	{Kind: "CSINode", Group: "storage.k8s.io", Version: "v1", Resource: "csinodes"},
	{Kind: "CustomResourceDefinition", Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Short: []string{"crd", "crds"}},
	{Kind: "APIService", Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"},
	{Kind: "MutatingWebhookConfiguration", Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
	{Kind: "ValidatingWebhookConfiguration", Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"},
}

// resources are all collections, in the order discovery tells them: by group
// (Kubernetes' core first), version and name.
var resources = func() []*resource {
	var out []*resource
	for _, k := range schema.Kinds() {
		r := &resource{KindInfo: k, stored: true}
		r.show(rows.Of(k.Kind))
		out = append(out, r)
	}
	out = append(out, endpointsResource, leaseResource)
	for _, k := range empties {
		r := &resource{KindInfo: k, columns: nameAndAge}
		if !slices.ContainsFunc(out, func(o *resource) bool { return o.path() == r.path() }) {
			out = append(out, r)
		}
	}
	slices.SortStableFunc(out, func(a, b *resource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Resource, b.Resource))
	})
	return out
}()

// show takes over what a kind's row says. Of a kind without one, names and ages are
// shown.
func (r *resource) show(of *row) {
	if of == nil {
		r.columns, r.cells = nameAndAge, func(obj schema.Object, now metav1.Time) []any {
			return []any{obj.GetName(), age(obj.GetCreationTimestamp(), now)}
		}
		return
	}
	r.maker, r.refuse, r.reach, r.fresh = of.maker.Do, of.refuse.Do, of.reach.Do, of.fresh.Do
	r.columns, r.cells, r.fields, r.narrow = of.columns, of.cells, of.fields.Do, of.narrow.Do
}

func resourceIndex() map[string]*resource {
	m := make(map[string]*resource, len(resources))
	for _, r := range resources {
		m[r.path()] = r
	}
	return m
}

func (r *resource) categories() []string {
	if r.All {
		return []string{"all"}
	}
	return nil
}
