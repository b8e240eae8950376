package control

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

var deploymentRow = Row{
	Kind:       schema.KindDeployment,
	Controller: controllerCell{Do: Controller{"deployment", deploymentTriggers, reconcileDeployment}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{Do: replicaSetsOf},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: takenOver},
	StandIn:    standInCell{None: noStandIn},
}

// Annotations and labels that kubectl and others read.
const (
	annotationRevision        = "deployment.kubernetes.io/revision"
	annotationRevisionHistory = "deployment.kubernetes.io/revision-history"
	annotationDesired         = "deployment.kubernetes.io/desired-replicas"
	annotationMax             = "deployment.kubernetes.io/max-replicas"
	annotationChangeCause     = "kubernetes.io/change-cause"
	annotationLastApplied     = "kubectl.kubernetes.io/last-applied-configuration"
	labelHash                 = appsv1.DefaultDeploymentUniqueLabelKey
)

// maxRevisionNumber bounds what a Deployment may say that its number was: anybody can
// write the annotation.
const maxRevisionNumber = 1 << 30

// defaultRevisionHistoryLimit is how many old replica sets are kept, as in
// Kubernetes.
const defaultRevisionHistoryLimit = 10

func deploymentTriggers(r state.Reader, c state.Change) []schema.Key {
	switch c.Key.Kind {
	case schema.KindDeployment:
		return []schema.Key{c.Key}
	case schema.KindReplicaSet:
		var keys []schema.Key
		for _, rs := range changedSides[*appsv1.ReplicaSet](c) {
			if key, ok := ownerKey(rs, schema.KindDeployment); ok && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		return keys
	case schema.KindPod:
		// The end of a terminating pod changes no replica set's status, but
		// Recreate waits for it, and so does the clean-up of old replica sets.
		if pod, ok := c.Old.(*corev1.Pod); ok && c.New == nil {
			return deploymentOfPod(r, pod)
		}
	}
	return nil
}

func deploymentOfPod(r state.Reader, pod *corev1.Pod) []schema.Key {
	rsKey, ok := ownerKey(pod, schema.KindReplicaSet)
	if !ok {
		return nil
	}
	rs, ok := state.Get[*appsv1.ReplicaSet](r, rsKey.Namespace, rsKey.Name)
	if !ok {
		return nil
	}
	if key, ok := ownerKey(rs, schema.KindDeployment); ok {
		return []schema.Key{key}
	}
	return nil
}

// family is a deployment's replica sets: the one whose template it has now, nil
// before it is made, and the others, oldest first.
type family struct {
	current *appsv1.ReplicaSet
	olds    []*appsv1.ReplicaSet
}

func familyOf(r state.Reader, d *appsv1.Deployment) family {
	var f family
	owned := slices.Collect(state.By[*appsv1.ReplicaSet](r, state.ReplicaSetsByOwner, string(d.UID)))
	slices.SortFunc(owned, func(a, b *appsv1.ReplicaSet) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(revisionNumber(a), revisionNumber(b)), cmp.Compare(a.Name, b.Name))
	})
	at := slices.IndexFunc(owned, func(rs *appsv1.ReplicaSet) bool { return schema.HasTemplateOf(rs, d) })
	for i, rs := range owned {
		if i == at {
			f.current = rs
		} else {
			f.olds = append(f.olds, rs)
		}
	}
	return f
}

// all are the replica sets, the current one last.
func (f family) all() []*appsv1.ReplicaSet {
	if f.current == nil {
		return slices.Clone(f.olds)
	}
	return append(slices.Clone(f.olds), f.current)
}

// reconcileDeployment takes one step towards the deployment's template and
// replica count: it makes or sizes replica sets, cleans up old ones, and writes
// the status. What the replica sets make of it brings the next visit.
func reconcileDeployment(c *Context, key schema.Key) (wake time.Time) {
	d, ok := state.Get[*appsv1.Deployment](c.Tx, key.Namespace, key.Name)
	if !ok {
		return wake
	}
	f := familyOf(c.Tx, d)
	created := false
	switch {
	case d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType:
		created = recreate(c, d, f)
	case scaledAmidRollout(d, f):
		spreadScale(c, d, f)
	default:
		created = rollForward(c, d, f)
	}
	f = familyOf(c.Tx, d)
	next := editDeployment(d)
	if f.current != nil {
		setAnnotation(next, annotationRevision, f.current.Annotations[annotationRevision])
	}
	wake = deploymentStatus(c, next, f, created)
	if !maps.Equal(d.Annotations, next.Annotations) || !equality.Semantic.DeepEqual(d.Status, next.Status) {
		c.Tx.Put(next)
	}
	cleanUpHistory(c, next, f)
	return wake
}

// editDeployment is a copy whose annotations and status may change; what lies
// deeper is shared with the frozen d.
func editDeployment(d *appsv1.Deployment) *appsv1.Deployment {
	next := *d
	next.Annotations = maps.Clone(d.Annotations)
	return &next
}

// scaledAmidRollout reports whether the replica count is another one than that
// which the running replica sets, at least two and the current one among them,
// were sized for. In every other case a rolling step reaches the new count itself.
func scaledAmidRollout(d *appsv1.Deployment, f family) bool {
	if f.current == nil || health.Desired(f.current.Spec.Replicas) == 0 {
		return false
	}
	running, scaled := 0, false
	for _, rs := range f.all() {
		if health.Desired(rs.Spec.Replicas) == 0 {
			continue
		}
		running++
		n, err := strconv.Atoi(rs.Annotations[annotationDesired])
		scaled = scaled || err == nil && int32(n) != health.Desired(d.Spec.Replicas)
	}
	return running > 1 && scaled
}

// spreadScale gives each running replica set its share of a new replica count.
func spreadScale(c *Context, d *appsv1.Deployment, f family) {
	all := f.all()
	sizes := make([]setSize, len(all))
	for i, rs := range all {
		sizes[i] = sizeOf(c, rs)
	}
	for i, n := range resize(boundsOf(d), sizes) {
		if health.Desired(all[i].Spec.Replicas) > 0 {
			setReplicas(c, d, all[i], n)
		}
	}
}

func sizeOf(c *Context, rs *appsv1.ReplicaSet) setSize {
	n := countPods(c, rs)
	return setSize{spec: health.Desired(rs.Spec.Replicas), active: n.active, available: n.available}
}

// rollForward makes the replica set of the current template or takes the next
// step of the rolling update.
func rollForward(c *Context, d *appsv1.Deployment, f family) (created bool) {
	b := boundsOf(d)
	olds := make([]setSize, len(f.olds))
	for i, rs := range f.olds {
		olds[i] = sizeOf(c, rs)
	}
	if f.current == nil {
		createReplicaSet(c, d, f.olds, growCurrent(b, setSize{}, olds))
		return true
	}
	current := adopt(c, d, f)
	n, newOlds := rollingStep(b, sizeOf(c, current), olds)
	setReplicas(c, d, current, n)
	for i, rs := range f.olds {
		if health.Desired(rs.Spec.Replicas) > 0 {
			setReplicas(c, d, rs, newOlds[i])
		}
	}
	return false
}

// recreate lets every old pod end before it makes new ones.
func recreate(c *Context, d *appsv1.Deployment, f family) (created bool) {
	standing := int32(0)
	for _, rs := range f.olds {
		if health.Desired(rs.Spec.Replicas) > 0 {
			setReplicas(c, d, rs, 0)
		}
		standing += countPods(c, rs).standing
	}
	switch {
	case standing > 0:
		return false
	case f.current == nil:
		createReplicaSet(c, d, f.olds, health.Desired(d.Spec.Replicas))
		return true
	}
	setReplicas(c, d, adopt(c, d, f), health.Desired(d.Spec.Replicas))
	return false
}

// createReplicaSet makes the replica set of the current template, in place of one
// of that name that a former deployment left.
func createReplicaSet(c *Context, d *appsv1.Deployment, olds []*appsv1.ReplicaSet, replicas int32) {
	hash := schema.Hash(d.Spec.Template)
	template := d.Spec.Template // the two, frozen, share what they have in common: so they are compared at once
	template.Labels = withLabel(template.Labels, labelHash, hash)
	selector := d.Spec.Selector.DeepCopy()
	if selector == nil {
		selector = &metav1.LabelSelector{}
	}
	selector.MatchLabels = withLabel(selector.MatchLabels, labelHash, hash)
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: d.Name + "-" + hash, Namespace: d.Namespace, Labels: maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{ownerRef(d)}, CreationTimestamp: c.Stamp(), Generation: 1,
		},
		Spec: appsv1.ReplicaSetSpec{Replicas: &replicas, MinReadySeconds: d.Spec.MinReadySeconds, Selector: selector, Template: template},
	}
	annotate(c, d, rs, olds)
	// A number never comes twice, nor a UID made from it, where older sets were lost with
	// the store.
	if n, err := strconv.Atoi(d.Annotations[annotationRevision]); err == nil && revisionNumber(rs) <= n && n < maxRevisionNumber {
		setAnnotation(rs, annotationRevision, strconv.Itoa(n+1))
	}
	setSizeAnnotations(d, rs)
	rs.UID = schema.OwnedUID(schema.KeyOf(rs), d.UID, revisionNumber(rs))
	c.Tx.Put(rs)
	if replicas > 0 {
		tellScaled(c, d, rs, 0, replicas)
	}
}

func withLabel(labels map[string]string, key, value string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

// adopt brings the current replica set's annotations, and what it takes from the
// deployment beside the template, up to date.
func adopt(c *Context, d *appsv1.Deployment, f family) *appsv1.ReplicaSet {
	next := editSet(f.current)
	annotate(c, d, next, f.olds)
	if next.Spec.MinReadySeconds != d.Spec.MinReadySeconds {
		next.Spec.MinReadySeconds = d.Spec.MinReadySeconds
		next.Generation++
	}
	if next.Generation == f.current.Generation && maps.Equal(next.Annotations, f.current.Annotations) {
		return f.current
	}
	c.Tx.Put(next)
	return next
}

// annotate gives the current replica set the deployment's annotations and origin,
// and the highest revision number, in place. The change cause is that of the
// change which made it the current one.
func annotate(c *Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet, olds []*appsv1.ReplicaSet) {
	for _, k := range slices.Sorted(maps.Keys(d.Annotations)) {
		if !isSetOwn(k) {
			setAnnotation(rs, k, d.Annotations[k])
		}
	}
	schema.InheritOrigin(rs, d)
	want := 1
	for _, old := range olds {
		want = max(want, revisionNumber(old)+1)
	}
	had := revisionNumber(rs)
	if had >= want {
		return
	}
	if had > 0 {
		history := rs.Annotations[annotationRevisionHistory]
		setAnnotation(rs, annotationRevisionHistory, strings.TrimPrefix(history+","+strconv.Itoa(had), ","))
	}
	setAnnotation(rs, annotationRevision, strconv.Itoa(want))
	if cause := changeCause(c, d); cause != "" {
		setAnnotation(rs, annotationChangeCause, cause)
	}
}

// isSetOwn reports whether a replica set has a value of its own for the
// annotation.
func isSetOwn(key string) bool {
	switch key {
	case annotationRevision, annotationRevisionHistory, annotationDesired, annotationMax, annotationLastApplied, schema.AnnotationSequence:
		return true
	}
	return schema.IsOriginAnnotation(key)
}

// changeCause is what the manifest says, else the commit and its subject.
func changeCause(c *Context, d *appsv1.Deployment) string {
	if cause := d.Annotations[annotationChangeCause]; cause != "" {
		return cause
	}
	origin := schema.OriginOf(d)
	if origin.Commit == "" {
		return ""
	}
	short := origin.Commit.Short()
	rev, ok := state.Revision(c.Tx, origin.Revision())
	if !ok {
		return short
	}
	return strings.TrimSpace(short + " " + rev.Spec.Subject)
}

// revisionNumber is zero for a replica set that has none.
func revisionNumber(rs *appsv1.ReplicaSet) int {
	n, _ := strconv.Atoi(rs.Annotations[annotationRevision])
	return n
}

func setAnnotation(obj metav1.Object, key, value string) {
	a := obj.GetAnnotations()
	if a == nil {
		a = map[string]string{}
	}
	a[key] = value
	obj.SetAnnotations(a)
}

// setSizeAnnotations writes down, in place, what the replica set was sized for.
func setSizeAnnotations(d *appsv1.Deployment, rs *appsv1.ReplicaSet) {
	desired, most := sizedFor(d)
	setAnnotation(rs, annotationDesired, desired)
	setAnnotation(rs, annotationMax, most)
}

func sizedFor(d *appsv1.Deployment) (desired, most string) {
	b := boundsOf(d)
	return strconv.Itoa(int(b.desired)), strconv.Itoa(int(b.most()))
}

// setReplicas sizes a replica set and writes down what it was sized for.
func setReplicas(c *Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet, n int32) {
	had := health.Desired(rs.Spec.Replicas)
	if desired, most := sizedFor(d); had == n && rs.Annotations[annotationDesired] == desired && rs.Annotations[annotationMax] == most {
		return
	}
	next := editSet(rs)
	setSizeAnnotations(d, next)
	if had != n {
		next.Spec.Replicas = &n
		next.Generation++
		tellScaled(c, d, rs, had, n)
	}
	c.Tx.Put(next)
}

func tellScaled(c *Context, d *appsv1.Deployment, rs *appsv1.ReplicaSet, from, to int32) {
	direction := "up"
	if to < from {
		direction = "down"
	}
	Event(c, d, corev1.EventTypeNormal, "ScalingReplicaSet", fmt.Sprintf("Scaled %s replica set %s from %d to %d", direction, rs.Name, from, to))
}

// cleanUpHistory forgets the oldest replica sets beyond the history limit once
// the rollout is complete; one that still has a pod stays.
func cleanUpHistory(c *Context, d *appsv1.Deployment, f family) {
	limit := defaultRevisionHistoryLimit
	if d.Spec.RevisionHistoryLimit != nil {
		limit = int(*d.Spec.RevisionHistoryLimit)
	}
	excess := len(f.olds) - limit
	if excess <= 0 || !health.Complete(d, &d.Status) {
		return
	}
	olds := slices.Clone(f.olds)
	slices.SortStableFunc(olds, func(a, b *appsv1.ReplicaSet) int { return cmp.Compare(revisionNumber(a), revisionNumber(b)) })
	for _, rs := range olds[:excess] {
		if health.Desired(rs.Spec.Replicas) == 0 && countPods(c, rs).all == 0 {
			c.Tx.Delete(schema.KeyOf(rs))
		}
	}
}

func replicaSetsOf(r state.Reader, d schema.Object) iter.Seq[schema.Object] {
	return r.By(state.ReplicaSetsByOwner, string(d.GetUID()))
}
