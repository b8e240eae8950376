package api

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var nodeRow = row{
	kind: schema.KindNode,
	columns: []column{
		nameColumn, {name: "Status"}, {name: "Roles"}, ageColumn, {name: "Version"},
		{name: "Internal-IP", wide: true}, {name: "External-IP", wide: true}, {name: "OS-Image", wide: true},
		{name: "Kernel-Version", wide: true}, {name: "Container-Runtime", wide: true},
	},
	cells:    typedCells(nodeCells),
	fields:   fieldsCell{Do: typedFields(nodeFields)},
	narrow:   narrowCell{None: noIndex},
	shared:   sharedCell{Do: peerOfNode},
	concerns: concernsCell{Do: nodeItself},
}

func nodeCells(n *corev1.Node, now metav1.Time) []any {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	const rolePrefix = "node-role.kubernetes.io/"
	var roles []string
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		if role := strings.TrimPrefix(k, rolePrefix); role != k && role != "" {
			roles = append(roles, role)
		}
	}
	info := n.Status.NodeInfo
	return []any{
		n.Name, status, orNone(strings.Join(roles, ",")), age(n.CreationTimestamp, now), info.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP), orUnknown(info.OSImage),
		orUnknown(info.KernelVersion), orUnknown(info.ContainerRuntimeVersion),
	}
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}

func nodeFields(set fields.Set, o *corev1.Node) {
	set["spec.unschedulable"] = strconv.FormatBool(o.Spec.Unschedulable)
}

func peerOfNode(c state.Change) []string { return []string{"peers/" + c.Key.Name} }

func nodeItself(_ *Door, c state.Change, dirty map[schema.NodeName]bool) {
	dirty[schema.NodeName(c.Key.Name)] = true
}
