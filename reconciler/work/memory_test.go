package work

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

var keeper = NewKeeper([]byte("secret"))

func deployment(name string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-of-" + "d", ResourceVersion: "7", Generation: 3},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr[int32](3), Template: corev1.PodTemplateSpec{Spec: pod("p", "").Spec}},
		Status:     appsv1.DeploymentStatus{ReadyReplicas: 2},
	}
}

func source(version string, applied schema.Commit) *schema.Source {
	return &schema.Source{
		ObjectMeta: metav1.ObjectMeta{Name: "main", ResourceVersion: version},
		Status:     schema.SourceStatus{Applied: schema.CommitRef{Commit: applied}},
	}
}

// keeping is what a node keeps: its pods, and records of the objects.
func keeping(t *testing.T, pods []*corev1.Pod, objects ...schema.Object) wire.Kept {
	t.Helper()
	kept := wire.Kept{Version: 9, Items: wire.Items{}}
	for _, p := range pods {
		data, err := json.Marshal(podWork(p))
		if err != nil {
			t.Fatal(err)
		}
		key := wire.FamilyPods + "/" + string(p.UID)
		kept.Items[key] = data
		kept.Items[wire.FamilySeals+"/"+string(p.UID)] = keeper.Seal(key, data)
	}
	for _, obj := range objects {
		if key, ok := RecordKey(obj); ok {
			kept.Items[key] = keeper.Record(key, obj)
		}
	}
	return kept
}

func TestRecallIsWhatWasKept(t *testing.T) {
	mine, unbound := pod("mine", "n1"), pod("waits", "")
	kept := keeping(t, []*corev1.Pod{mine},
		source("12", "abc"), deployment("api"), unbound, mine,
		&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e"}},
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "s"}},
	)
	got, err := keeper.Recall("n1", kept)
	if err != nil {
		t.Fatal(err)
	}
	bare := func(p *corev1.Pod) *corev1.Pod {
		p = p.DeepCopy()
		p.Status = corev1.PodStatus{}
		return p
	}
	d := deployment("api")
	d.ResourceVersion, d.Status = "", appsv1.DeploymentStatus{}
	records := []schema.Object{d, bare(unbound), source("12", "abc")}
	for _, obj := range records {
		schema.SetTypeMeta(obj)
	}
	want := Memory{Version: 9, Fresh: 12, Pods: []*corev1.Pod{bare(mine)}, Records: records}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("recalled (-want +got):\n%s", diff)
	}
}

func TestRecordsOfEqualObjectsAreEqual(t *testing.T) {
	a, b := deployment("api"), deployment("api")
	b.Status.ReadyReplicas, b.ResourceVersion = 3, "8"
	key, _ := RecordKey(a)
	if string(keeper.Record(key, a)) != string(keeper.Record(key, b)) {
		t.Error("a status makes another record")
	}
	b.Generation++
	if string(keeper.Record(key, a)) == string(keeper.Record(key, b)) {
		t.Error("another generation makes the same record")
	}
}

// A node can keep what it was given and nothing else, and what else it tells counts.
func TestRecallLeavesOutWhatTheMasterDidNotMake(t *testing.T) {
	mine := pod("mine", "n1")
	cases := []struct {
		name   string
		node   schema.NodeName
		change func(wire.Items)
		want   string
	}{
		{"a changed pod", "n1", func(i wire.Items) {
			i["pods/uid-mine"] = json.RawMessage(strings.Replace(string(i["pods/uid-mine"]), `"keys"`, `"root"`, 1))
		}, "not as this cluster's master bound it"},
		{"a pod without its seal", "n1", func(i wire.Items) { delete(i, "seals/uid-mine") }, "not as this cluster's master bound it"},
		{"a pod under another name", "n1", func(i wire.Items) {
			i["pods/other"], i["seals/other"] = i["pods/uid-mine"], i["seals/uid-mine"]
		}, "not as this cluster's master bound it"},
		{"another node's pod", "n2", func(wire.Items) {}, "not bound to this node"},
		{"a record under another name", "n1", func(i wire.Items) { i["records/Deployment/shop/web"] = i["records/Deployment/shop/api"] }, "not made by this cluster's master"},
		{"another cluster's record", "n1", func(i wire.Items) {
			i["records/Source//main"] = NewKeeper([]byte("other")).Record("records/Source//main", source("99", "def"))
		}, "not made by this cluster's master"},
		{"a record cut short", "n1", func(i wire.Items) { i["records/Source//main"] = json.RawMessage(`"AAAA"`) }, "cut short"},
		{"no record", "n1", func(i wire.Items) { i["records/Source//main"] = json.RawMessage(`{}`) }, "cannot unmarshal"},
		{"a kind of another version", "n1", func(i wire.Items) {
			i["records/Fleet//main"] = keeper.Record("records/Fleet//main", source("12", "abc"))
		}, "does not know kind Fleet"},
		{"a key of no object", "n1", func(i wire.Items) { i["records/Source"] = i["records/Source//main"] }, "is not records/<kind>/<namespace>/<name>"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			whole := keeping(t, []*corev1.Pod{mine}, source("12", "abc"), deployment("api"))
			kept := wire.Kept{Version: whole.Version, Items: maps.Clone(whole.Items)}
			c.change(kept.Items)
			m, err := keeper.Recall(c.node, kept)
			if err != nil || len(m.Unreadable) != 1 || !strings.Contains(m.Unreadable[0].Why, c.want) {
				t.Fatalf("recalled %+v, %v; want one item left out, with %q", m, err, c.want)
			}
			if all, _ := keeper.Recall("n1", whole); len(m.Records)+len(m.Pods) < len(all.Records)+len(all.Pods)-1 {
				t.Errorf("%d records and %d pods are left", len(m.Records), len(m.Pods))
			}
		})
	}
}

// What is mostly unreadable is not taken for little.
func TestRecallRefusesWhatIsMostlyUnreadable(t *testing.T) {
	kept := keeping(t, []*corev1.Pod{pod("mine", "n1")}, source("12", "abc"), deployment("api"))
	if m, err := NewKeeper([]byte("another")).Recall("n1", kept); err == nil {
		t.Errorf("recalled %+v", m)
	}
}

// A node that tells a higher version than the others does not bring back what
// sources left behind.
func TestFreshnessIsProven(t *testing.T) {
	recall := func(version uint64, objects ...schema.Object) Memory {
		kept := keeping(t, nil, objects...)
		kept.Version = version
		m, err := keeper.Recall("n1", kept)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	old, now := recall(1000, source("12", "abc")), recall(30, source("29", "def"))
	if !now.Fresher(old) || old.Fresher(now) {
		t.Error("the version that a node tells beats the one its records prove")
	}
	if later := recall(31, source("29", "def")); !later.Fresher(now) || now.Fresher(later) || now.Fresher(now) {
		t.Error("between equally proven records the later one is fresher")
	}
}

func BenchmarkRecord(b *testing.B) {
	d := deployment("api")
	key, _ := RecordKey(d)
	for b.Loop() {
		keeper.Record(key, d)
	}
}
