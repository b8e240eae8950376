package control

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// world is a cluster with the controllers and a clock of its own: a small model of
// the settle engine, with a binder and agents that do what a test says.
type world struct {
	t     failer
	tx    *state.Txn
	now   time.Time
	cfg   Config
	wakes map[visit]time.Time
	after func()        // called after every visit that changed something
	pick  func(int) int // which of n waiting visits comes next; nil is the first
	// frozen holds every object seen at rest as it was then; nil does not check.
	frozen map[schema.Object]string
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

type visit struct {
	controller int
	key        schema.Key
}

var start = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t failer) *world {
	return &world{
		t: t, tx: state.Empty(state.Counters{}).Begin(), now: start, wakes: map[visit]time.Time{},
		cfg: Config{ServiceCIDR: netip.MustParsePrefix("10.96.0.0/24"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 30009},
	}
}

func (w *world) context() *Context { return &Context{Tx: w.tx, Now: w.now, Config: w.cfg} }

func (w *world) put(objs ...schema.Object) {
	for _, o := range objs {
		w.tx.Put(o)
	}
}

// settle visits until nothing is left to visit, then once more everything: the
// second time must write nothing.
func (w *world) settle() {
	w.t.Helper()
	w.run(nil)
	w.checkFrozen()
	before := w.tx.Counters().ResourceVersion
	visited := map[visit]bool{}
	for i, c := range Table() {
		for _, k := range schema.Kinds() {
			if k.Kind == schema.KindEvent {
				continue
			}
			for obj := range w.tx.List(k.Kind, "") {
				for _, key := range c.Triggers(w.tx, state.Change{Key: schema.KeyOf(obj), New: obj}) {
					if visited[visit{i, key}] {
						continue
					}
					visited[visit{i, key}] = true
					c.Reconcile(w.context(), key)
					if rv := w.tx.Counters().ResourceVersion; rv != before {
						w.t.Fatalf("a second visit of %s by %s wrote %s", key, c.Name, w.tx.TakeDirty()[0].Key)
					}
				}
			}
		}
	}
}

// checkFrozen finds an object that was changed in place after it was stored.
func (w *world) checkFrozen() {
	w.t.Helper()
	if w.frozen == nil {
		return
	}
	for obj, was := range w.frozen {
		if is := schema.Hash(obj); is != was {
			w.t.Fatalf("%s was changed in place", schema.KeyOf(obj))
		}
	}
	for _, k := range schema.Kinds() {
		for obj := range w.tx.List(k.Kind, "") {
			w.frozen[obj] = schema.Hash(obj)
		}
	}
}

func (w *world) run(queue []visit) {
	w.t.Helper()
	table := Table()
	for visits := 0; ; visits++ {
		for _, c := range w.tx.TakeDirty() {
			for i := range table {
				for _, key := range table[i].Triggers(w.tx, c) {
					if v := (visit{i, key}); !slices.Contains(queue, v) {
						queue = append(queue, v)
					}
				}
			}
		}
		if len(queue) == 0 {
			return
		}
		if visits > 100_000 {
			w.t.Fatalf("does not settle: %v", queue[0])
		}
		next := 0
		if w.pick != nil {
			next = w.pick(len(queue))
		}
		v := queue[next]
		queue = slices.Delete(queue, next, next+1)
		before := w.tx.Counters().ResourceVersion
		wake := table[v.controller].Reconcile(w.context(), v.key)
		delete(w.wakes, v)
		if !wake.IsZero() {
			w.wakes[v] = wake
		}
		if w.after != nil && w.tx.Counters().ResourceVersion != before {
			w.after()
		}
	}
}

// nextWake is zero when nobody waits for the time.
func (w *world) nextWake() (next time.Time) {
	for _, at := range w.wakes {
		next = earliest(next, at)
	}
	return next
}

// pass lets time go by, waking who asked for it on the way.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for {
		next := w.nextWake()
		if next.IsZero() || next.After(end) {
			break
		}
		w.now = next
		var due []visit
		for v, at := range w.wakes {
			if !at.After(w.now) {
				due = append(due, v)
			}
		}
		slices.SortFunc(due, func(a, b visit) int {
			return cmp.Or(cmp.Compare(a.controller, b.controller), a.key.Compare(b.key))
		})
		for _, v := range due {
			delete(w.wakes, v)
		}
		w.run(due)
	}
	w.now = end
	w.settle()
}

func (w *world) pods(namespace string) []*corev1.Pod {
	return slices.Collect(state.All[*corev1.Pod](w.tx, namespace))
}

// bind puts every unbound pod on a node, in turn.
func (w *world) bind(nodes ...string) {
	for i, p := range slices.Collect(state.By[*corev1.Pod](w.tx, state.PodsByNode, "")) {
		next := state.Edit(p)
		next.Spec.NodeName = nodes[i%len(nodes)]
		setCondition(next, corev1.PodScheduled, corev1.ConditionTrue, w.now)
		w.tx.Put(next)
	}
}

// edit changes a pod as its agent would.
func (w *world) edit(p *corev1.Pod, f func(*corev1.Pod)) {
	next := state.Edit(p)
	f(next)
	w.tx.Put(next)
}

// start makes every bound pod run and be ready.
func (w *world) start() {
	for _, p := range w.pods("") {
		if p.Spec.NodeName != "" && p.Status.Phase == corev1.PodPending && p.DeletionTimestamp == nil {
			w.edit(p, func(p *corev1.Pod) { running(p, w.now) })
		}
	}
}

var addresses int

func running(p *corev1.Pod, now time.Time) {
	p.Status.Phase = corev1.PodRunning
	addresses++
	p.Status.PodIP = fmt.Sprintf("10.112.%d.%d", addresses/250, addresses%250+1)
	setCondition(p, corev1.PodReady, corev1.ConditionTrue, now)
}

func setCondition(p *corev1.Pod, t corev1.PodConditionType, s corev1.ConditionStatus, now time.Time) {
	p.Status.Conditions = append(slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == t }),
		corev1.PodCondition{Type: t, Status: s, LastTransitionTime: metav1.NewTime(now)})
}

// reap lets every terminating pod be gone.
func (w *world) reap() {
	for _, p := range w.pods("") {
		if p.DeletionTimestamp != nil {
			w.tx.Delete(schema.KeyOf(p))
		}
	}
}

// live goes on binding, starting and reaping until nothing changes any more.
func (w *world) live(nodes ...string) {
	w.t.Helper()
	for range 1000 {
		w.settle()
		before := w.tx.Counters().ResourceVersion
		w.bind(nodes...)
		w.run(nil)
		w.start()
		w.reap()
		w.run(nil)
		if w.tx.Counters().ResourceVersion == before {
			return
		}
	}
	w.t.Fatalf("the cluster does not come to rest")
}

func (w *world) node(names ...string) {
	for _, name := range names {
		w.put(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		})
	}
}

func (w *world) setNodeReady(name string, s corev1.ConditionStatus) {
	n := state.Edit(get[*corev1.Node](w, "", name))
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: s}}
	w.tx.Put(n)
}

func get[T schema.Object](w *world, namespace, name string) T {
	w.t.Helper()
	obj, ok := state.Get[T](w.tx, namespace, name)
	if !ok {
		w.t.Fatalf("no %T %s/%s", obj, namespace, name)
	}
	return obj
}

// deployment is shop/api with three replicas of image v1.
func deployment(change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	replicas, deadline, history := int32(3), int32(600), int32(10)
	surge, unavailable := intstr.FromInt32(1), intstr.FromInt32(0)
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "api", Namespace: "shop", Generation: 1, CreationTimestamp: metav1.NewTime(start)},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, ProgressDeadlineSeconds: &deadline, RevisionHistoryLimit: &history,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "api"}},
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable}},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "api"}, Annotations: map[string]string{"team": "shop"}},
				Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{Name: "api", Image: "localhost/api:v1", ReadinessProbe: &corev1.Probe{}}}},
			},
		},
	}
	for _, f := range change {
		f(d)
	}
	return d
}

// change applies a change to a deployment as an accepted commit would.
func (w *world) change(name string, f func(*appsv1.Deployment)) {
	w.t.Helper()
	d := state.Edit(get[*appsv1.Deployment](w, "shop", name))
	f(d)
	d.Generation++
	w.tx.Put(d)
}

func image(tag string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "localhost/api:" + tag }
}

func replicas(n int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Replicas = &n }
}

func events(w *world) []string {
	var out []string
	all := slices.Collect(state.All[*corev1.Event](w.tx, ""))
	slices.SortFunc(all, func(a, b *corev1.Event) int {
		return cmp.Or(a.FirstTimestamp.Compare(b.FirstTimestamp.Time), cmp.Compare(len(a.ResourceVersion), len(b.ResourceVersion)), cmp.Compare(a.ResourceVersion, b.ResourceVersion))
	})
	for _, e := range all {
		out = append(out, fmt.Sprintf("%s %s %s: %s", e.Type, e.InvolvedObject.Kind, e.Reason, e.Message))
	}
	return out
}

func testWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.frozen = map[schema.Object]string{}
	w.node("n1", "n2", "n3")
	return w
}
