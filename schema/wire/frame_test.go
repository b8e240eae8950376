package wire

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
)

func drawWork(t *rapid.T, label string) *Work {
	w := &Work{
		Node: "n1", PodCIDRs: schema.List[string]{"10.112.0.0/22"}, Cluster: ClusterInfo{ID: "c", Domain: "cluster.local"},
		Peers: map[schema.NodeName]Peer{}, Pods: map[types.UID]PodWork{}, ConfigMaps: map[string]map[string][]byte{},
		Secrets: map[string]map[string][]byte{}, Services: map[string]Service{},
	}
	for i := range rapid.IntRange(0, 3).Draw(t, label+" pods") {
		uid := types.UID(fmt.Sprintf("u%d", i))
		w.Pods[uid] = PodWork{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: rapid.SampledFrom([]string{"x", "y"}).Draw(t, label+" name"), UID: uid}}, Epoch: rapid.Int64Range(1, 3).Draw(t, label+" epoch")}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, label+" services") {
		w.Services[fmt.Sprintf("a/s%d", i)] = Service{ClusterIPs: schema.List[string]{rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2"}).Draw(t, label+" ip")}, Ports: []ServicePort{}}
	}
	if rapid.Bool().Draw(t, label+" config") {
		w.ConfigMaps["a/c"] = map[string][]byte{"k": {0, 1, 2}}
		w.BinaryKeys = map[string][]string{"a/c": {"k"}}
		w.Peers["n2"] = Peer{NodeIPs: schema.List[string]{"192.0.2.2"}, PodCIDRs: schema.List[string]{"10.112.4.0/22"}}
	}
	return w
}

func TestDeltaTakesOldToNew(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		old, next := drawWork(t, "old"), drawWork(t, "new")
		before := Split(old)
		after, err := before.Apply(Delta(before, Split(next), 1, 2))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Join(after)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(next, got); diff != "" {
			t.Fatalf("work after the delta (-want +got):\n%s", diff)
		}
		whole, err := Items{"pods/old": []byte(`{}`)}.Apply(Delta(nil, Split(next), 0, 2))
		if err != nil || whole.Hash() != after.Hash() {
			t.Fatalf("the whole gives %s, %v; the delta gave %s", whole.Hash(), err, after.Hash())
		}
	})
}

func TestAppendWritesWhatMarshalDoes(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		old, next := Split(drawWork(t, "old")), Split(drawWork(t, "new"))
		next[`services/a/<"b">`] = []byte(`"x"`)
		whole := Delta(nil, next, 0, 2)
		whole.Logs = []LogRequest{{ID: "1", Pod: "u"}}
		for _, f := range []Frame{whole, Delta(old, next, 1, 2), Delta(next, old, 1, 2), {Version: 3, Since: 3}, {Recover: true}} {
			want, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			got, err := f.Append([]byte("before"))
			if err != nil || string(got) != "before"+string(want) {
				t.Fatalf("%v\n got %s\nwant before%s", err, got, want)
			}
		}
	})
}

func TestApplyRefusesAWrongHash(t *testing.T) {
	items := Split(&Work{Node: "n1"})
	f := Delta(items, Split(&Work{Node: "n2"}), 1, 2)
	items["services/a/b"] = []byte(`{}`) // something the master does not know of
	if _, err := items.Apply(f); err == nil {
		t.Error("a delta over another base was taken")
	}
}

func FuzzJoin(f *testing.F) {
	f.Add("pods/u", `{"pod":{"metadata":{"name":"x"}},"epoch":1}`)
	f.Add("services/a/b", `{"ports":[]}`)
	f.Add("configMaps/a/b", `{"k":"AAE="}`)
	f.Add("what/ever", `1`)
	f.Fuzz(func(t *testing.T, key, value string) {
		if w, err := Join(Items{key: []byte(value)}); err == nil {
			for uid, p := range w.Pods {
				if p.Pod == nil {
					t.Errorf("pod %s is nil", uid)
				}
			}
		}
	})
}
