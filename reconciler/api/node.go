package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

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
	maker:    makerCell{None: byCluster},
	refuse:   refuseCell{Do: refuseNode},
	reach:    reachCell{Do: func(schema.Object) string { return "a node is reached by its own address" }},
	fresh:    freshCell{Do: freshNode},
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

// freshNode has the last report as its conditions' heartbeat.
func freshNode(obj schema.Object, heard time.Time) schema.Object {
	node := state.Shallow(obj.(*corev1.Node))
	node.Status.Conditions = slices.Clone(node.Status.Conditions)
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; c.LastHeartbeatTime.Time.Before(heard) {
			c.LastHeartbeatTime = metav1.NewTime(heard)
		}
	}
	return node
}

// refuseNode is for nodes, which describe themselves.
func refuseNode(w *write) string {
	var patch struct {
		Metadata struct{ Labels, Annotations json.RawMessage }
		Spec     struct{ Unschedulable, Taints json.RawMessage }
	}
	_ = json.Unmarshal(w.body, &patch) // what is no patch is any change
	node := "Node " + w.name
	own := fmt.Sprintf("in its own configuration, agent.yaml on %s: change them there and restart its agent", w.name)
	switch {
	case w.method == http.MethodDelete:
		return node + " is registered until its entry is out of pki/nodes.json (\"Labels, taints, taking a node out\" in docs/operations.md); to empty it first give it a taint with effect NoExecute in its agent.yaml"
	case patch.Spec.Unschedulable != nil:
		return fmt.Sprintf("%s is not cordoned or drained here: give it a taint in its agent.yaml and restart its agent, with effect NoSchedule to keep new pods away, NoExecute to move all of them; `fairlead plan --drain %s` shows beforehand what becomes of them", node, w.name)
	case patch.Spec.Taints != nil:
		return "taints of " + node + " stand " + own
	case patch.Metadata.Labels != nil:
		return "labels of " + node + " stand " + own + fmt.Sprintf("; reserved ones, below kubernetes.io and k8s.io, come with a token: `fairlead token --node %s --label KEY=VALUE`", w.name)
	case patch.Metadata.Annotations != nil:
		return node + " has no annotations of its own; labels stand " + own
	}
	return "labels and taints of " + node + " stand " + own + "; all else it reports"
}
