package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"fairlead/schema"
)

// column is one column of a Table. Wide ones are shown on request only.
type column struct {
	name   string
	kind   string // OpenAPI type; "" is string
	format string
	wide   bool
}

var (
	nameColumn = column{name: "Name", format: "name"}
	ageColumn  = column{name: "Age"}
	nameAndAge = []column{nameColumn, ageColumn}
	// workloadColumns end the rows of what runs pods.
	workloadColumns = []column{ageColumn, {name: "Containers", wide: true}, {name: "Images", wide: true}, {name: "Selector", wide: true}}
)

func (res *resource) definitions() []metav1.TableColumnDefinition {
	out := make([]metav1.TableColumnDefinition, len(res.columns))
	for i, c := range res.columns {
		out[i] = metav1.TableColumnDefinition{Name: c.name, Type: c.kind, Format: c.format}
		if c.kind == "" {
			out[i].Type = "string"
		}
		if c.wide {
			out[i].Priority = 1
		}
	}
	return out
}

type cellsFunc = func(obj schema.Object, now metav1.Time) []any

// printer gives a kind's columns and, in the same order, a row's cells.
type printer struct {
	columns []column
	cells   cellsFunc
}

// printers has what Kubernetes prints for its kinds, and ours in the same manner.
var printers = map[schema.Kind]printer{
	schema.KindNamespace: {[]column{nameColumn, {name: "Status"}, ageColumn}, typedCells(namespaceCells)},
	schema.KindNode: {[]column{
		nameColumn, {name: "Status"}, {name: "Roles"}, ageColumn, {name: "Version"},
		{name: "Internal-IP", wide: true}, {name: "External-IP", wide: true}, {name: "OS-Image", wide: true},
		{name: "Kernel-Version", wide: true}, {name: "Container-Runtime", wide: true},
	}, typedCells(nodeCells)},
	schema.KindPod: {[]column{
		nameColumn, {name: "Ready"}, {name: "Status"}, {name: "Restarts"}, ageColumn,
		{name: "IP", wide: true}, {name: "Node", wide: true}, {name: "Nominated Node", wide: true}, {name: "Readiness Gates", wide: true},
	}, typedCells(podCells)},
	schema.KindService: {[]column{
		nameColumn, {name: "Type"}, {name: "Cluster-IP"}, {name: "External-IP"}, {name: "Port(s)"}, ageColumn, {name: "Selector", wide: true},
	}, typedCells(serviceCells)},
	schema.KindConfigMap: {[]column{nameColumn, {name: "Data", kind: "integer"}, ageColumn}, typedCells(configMapCells)},
	schema.KindSecret:    {[]column{nameColumn, {name: "Type"}, {name: "Data", kind: "integer"}, ageColumn}, typedCells(secretCells)},
	schema.KindEvent: {[]column{
		{name: "Last Seen"}, {name: "Type"}, {name: "Reason"}, {name: "Object"}, {name: "Subobject", wide: true}, {name: "Source", wide: true},
		{name: "Message"}, {name: "First Seen", wide: true}, {name: "Count", kind: "integer", wide: true}, {name: "Name", format: "name", wide: true},
	}, typedCells(eventCells)},
	schema.KindDeployment: {slices.Concat([]column{
		nameColumn, {name: "Ready"}, {name: "Up-to-date", kind: "integer"}, {name: "Available", kind: "integer"},
	}, workloadColumns), typedCells(deploymentCells)},
	schema.KindReplicaSet: {slices.Concat([]column{
		nameColumn, {name: "Desired", kind: "integer"}, {name: "Current", kind: "integer"}, {name: "Ready", kind: "integer"},
	}, workloadColumns), typedCells(replicaSetCells)},
	schema.KindEndpointSlice: {[]column{
		nameColumn, {name: "AddressType"}, {name: "Ports"}, {name: "Endpoints"}, ageColumn,
	}, typedCells(endpointSliceCells)},
	schema.KindSource: {[]column{
		nameColumn, {name: "Branch"}, {name: "Applied"}, {name: "Desired"}, {name: "Ready"}, ageColumn,
		{name: "Remote", wide: true}, {name: "Path", wide: true}, {name: "Message", wide: true},
	}, typedCells(sourceCells)},
	schema.KindRevision: {[]column{
		nameColumn, {name: "Source"}, {name: "Commit"}, {name: "Phase"}, {name: "Sync"}, {name: "Health"}, {name: "Subject"}, ageColumn,
		{name: "Author", wide: true}, {name: "Reason", wide: true}, {name: "Now", wide: true},
	}, typedCells(revisionCells)},
}

func typedCells[T schema.Object](cells func(T, metav1.Time) []any) cellsFunc {
	return func(obj schema.Object, now metav1.Time) []any { return cells(obj.(T), now) }
}

// printerOf is the kind's own, or name and age.
func printerOf(kind schema.Kind) ([]column, cellsFunc) {
	if p, ok := printers[kind]; ok {
		return p.columns, p.cells
	}
	return nameAndAge, func(obj schema.Object, now metav1.Time) []any {
		return []any{obj.GetName(), age(obj.GetCreationTimestamp(), now)}
	}
}

const (
	unknown = "<unknown>"
	none    = "<none>"
	unset   = "<unset>"
)

// age is how long ago t was, as kubectl writes it: "5m", "3d4h".
func age(t, now metav1.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// joinMost lists at most 3 of items.
func joinMost(items []string, empty string) string {
	const most = 3
	switch {
	case len(items) == 0:
		return empty
	case len(items) <= most:
		return strings.Join(items, ",")
	}
	return fmt.Sprintf("%s + %d more...", strings.Join(items[:most], ","), len(items)-most)
}

func namespaceCells(ns *corev1.Namespace, now metav1.Time) []any {
	return []any{ns.Name, string(ns.Status.Phase), age(ns.CreationTimestamp, now)}
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

func orUnknown(s string) string {
	if s == "" {
		return unknown
	}
	return s
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return none
}

func serviceCells(svc *corev1.Service, now metav1.Time) []any {
	var ports []string
	for _, p := range svc.Spec.Ports {
		text := fmt.Sprint(p.Port)
		if p.NodePort != 0 {
			text += fmt.Sprintf(":%d", p.NodePort)
		}
		ports = append(ports, text+"/"+string(p.Protocol))
	}
	return []any{
		svc.Name, string(svc.Spec.Type), orNone(svc.Spec.ClusterIP), externalAddress(svc), orNone(strings.Join(ports, ",")),
		age(svc.CreationTimestamp, now), orNone(labelText(svc.Spec.Selector)),
	}
}

func externalAddress(svc *corev1.Service) string {
	switch svc.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return svc.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var out []string
		for _, in := range svc.Status.LoadBalancer.Ingress {
			out = append(out, in.IP+in.Hostname)
		}
		if out = append(out, svc.Spec.ExternalIPs...); len(out) == 0 {
			return "<pending>"
		}
		return strings.Join(out, ",")
	}
	return orNone(strings.Join(svc.Spec.ExternalIPs, ","))
}

func labelText(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ",")
}

func configMapCells(cm *corev1.ConfigMap, now metav1.Time) []any {
	return []any{cm.Name, int64(len(cm.Data) + len(cm.BinaryData)), age(cm.CreationTimestamp, now)}
}

func secretCells(s *corev1.Secret, now metav1.Time) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), age(s.CreationTimestamp, now)}
}

func eventCells(e *corev1.Event, now metav1.Time) []any {
	first, last, count := e.FirstTimestamp, e.LastTimestamp, int64(e.Count)
	if first.IsZero() {
		first = metav1.Time(e.EventTime)
	}
	if e.Series != nil {
		last, count = metav1.Time(e.Series.LastObservedTime), int64(e.Series.Count)
	}
	if last.IsZero() {
		last = first
	}
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	if e.Source.Host != "" {
		source += ", " + e.Source.Host
	}
	object := strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name
	return []any{
		age(last, now), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source,
		strings.TrimSpace(e.Message), age(first, now), max(count, 1), e.Name,
	}
}

func deploymentCells(d *appsv1.Deployment, now metav1.Time) []any {
	ready := fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, replicas(d.Spec.Replicas))
	return append([]any{d.Name, ready, int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas)},
		workloadCells(d.CreationTimestamp, now, d.Spec.Template, d.Spec.Selector)...)
}

func replicaSetCells(rs *appsv1.ReplicaSet, now metav1.Time) []any {
	return append([]any{rs.Name, int64(replicas(rs.Spec.Replicas)), int64(rs.Status.Replicas), int64(rs.Status.ReadyReplicas)},
		workloadCells(rs.CreationTimestamp, now, rs.Spec.Template, rs.Spec.Selector)...)
}

// replicas is the wished number; Kubernetes' default is 1.
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func workloadCells(created, now metav1.Time, template corev1.PodTemplateSpec, selector *metav1.LabelSelector) []any {
	var names, images []string
	for _, c := range template.Spec.Containers {
		names, images = append(names, c.Name), append(images, c.Image)
	}
	return []any{age(created, now), strings.Join(names, ","), strings.Join(images, ","), metav1.FormatLabelSelector(selector)}
}

func endpointSliceCells(s *discoveryv1.EndpointSlice, now metav1.Time) []any {
	var ports, addresses []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, fmt.Sprint(*p.Port))
		case p.Name != nil:
			ports = append(ports, *p.Name)
		}
	}
	for _, e := range s.Endpoints {
		addresses = append(addresses, e.Addresses...)
	}
	return []any{s.Name, string(s.AddressType), joinMost(ports, unset), joinMost(addresses, unset), age(s.CreationTimestamp, now)}
}

//nolint:staticcheck // see endpointsResource
func endpointAddresses(subsets []corev1.EndpointSubset) string {
	var out []string
	for _, s := range subsets {
		for _, a := range s.Addresses {
			if len(s.Ports) == 0 {
				out = append(out, a.IP)
			}
			for _, p := range s.Ports {
				out = append(out, fmt.Sprintf("%s:%d", a.IP, p.Port))
			}
		}
	}
	return joinMost(out, none)
}

// shortCommit is what people read: the digits a Revision's name has.
func shortCommit(hash string) string { return orNone(hash[:min(12, len(hash))]) }

func sourceCells(s *schema.Source, now metav1.Time) []any {
	ready, message := "Unknown", ""
	for _, c := range s.Status.Conditions {
		if c.Type == "Ready" {
			ready, message = string(c.Status), c.Message
		}
	}
	remote := s.Spec.URL
	if s.Spec.Embedded {
		remote = "embedded"
	}
	return []any{
		s.Name, s.Spec.Branch, shortCommit(s.Status.Applied.Commit), shortCommit(s.Status.Desired.Commit), ready,
		age(s.CreationTimestamp, now), orNone(remote), orNone(s.Spec.Path), message,
	}
}

func revisionCells(r *schema.Revision, now metav1.Time) []any {
	reason, sync, health := "", standingOf(r.Status.Sync), standingOf(r.Status.Health)
	if n := len(r.Status.Phases); n > 0 {
		reason = r.Status.Phases[n-1].Reason
	}
	return []any{
		r.Name, r.Spec.Source, shortCommit(r.Spec.Commit), string(r.Status.Phase), orNone(sync.Word), orNone(health.Word), r.Spec.Subject,
		age(r.CreationTimestamp, now), r.Spec.Author, reason, orNone(health.Reason),
	}
}

// standingOf is empty for a revision that does not stand anywhere.
func standingOf(s *schema.Standing) schema.Standing {
	if s == nil {
		return schema.Standing{}
	}
	return *s
}
