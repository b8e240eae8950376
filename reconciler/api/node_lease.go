package api

import (
	"iter"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

const kindLease schema.Kind = "Lease"

// LeaseDuration is how long a node may be silent before it is not ready.
const LeaseDuration = 40 * time.Second

// leaseResource serves a Lease for each node, in which clients look for when the node
// reported last. When that was is in this server's memory alone: a report that changes
// nothing is no write and no event of a watch.
var leaseResource = &resource{
	KindInfo: schema.KindInfo{
		Kind: kindLease, Group: "coordination.k8s.io", Version: "v1", Resource: "leases", Singular: "lease", Namespaced: true,
	},
	derive:  &derivation{get: getLease, list: listLeases, change: changeLease},
	maker:   "tells when the node reported last",
	fresh:   renewedLease,
	columns: []column{nameColumn, {name: "Holder"}, ageColumn},
	cells: func(obj schema.Object, now metav1.Time) []any {
		lease := obj.(*coordinationv1.Lease)
		return []any{lease.Name, *lease.Spec.HolderIdentity, age(lease.CreationTimestamp, now)}
	},
}

func getLease(r state.Reader, namespace, name string) schema.Object {
	node, ok := state.Get[*corev1.Node](r, "", name)
	if !ok || namespace != corev1.NamespaceNodeLease {
		return nil
	}
	return deriveLease(node)
}

func listLeases(r state.Reader, namespace string) iter.Seq[schema.Object] {
	return func(yield func(schema.Object) bool) {
		if namespace != "" && namespace != corev1.NamespaceNodeLease {
			return
		}
		for node := range state.All[*corev1.Node](r, "") {
			if !yield(deriveLease(node)) {
				return
			}
		}
	}
}

func changeLease(_ state.Reader, c state.Change) *objectChange {
	if c.Key.Kind != schema.KindNode {
		return nil
	}
	out := &objectChange{rv: c.RV}
	if node, ok := c.Old.(*corev1.Node); ok {
		out.old = deriveLease(node)
	}
	if node, ok := c.New.(*corev1.Node); ok {
		out.now = deriveLease(node)
	}
	return out
}

// deriveLease is renewed when the node's condition was written.
func deriveLease(node *corev1.Node) schema.Object {
	lease := &coordinationv1.Lease{
		TypeMeta: metav1.TypeMeta{Kind: string(kindLease), APIVersion: "coordination.k8s.io/v1"},
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, Namespace: corev1.NamespaceNodeLease, UID: node.UID, CreationTimestamp: node.CreationTimestamp, ResourceVersion: node.ResourceVersion,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: string(schema.KindNode), Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: new(node.Name), LeaseDurationSeconds: new(int32(LeaseDuration / time.Second))},
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && !c.LastHeartbeatTime.IsZero() {
			lease.Spec.RenewTime = &metav1.MicroTime{Time: c.LastHeartbeatTime.Time}
		}
	}
	return lease
}

func renewedLease(obj schema.Object, heard time.Time) schema.Object {
	lease := obj.(*coordinationv1.Lease) // made for this answer
	lease.Spec.RenewTime = &metav1.MicroTime{Time: heard}
	return lease
}
