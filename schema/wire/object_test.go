package wire

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"fairlead/schema"
)

// filler fills objects with whatever their types can hold; what their encodings do
// not, a quantity in two spellings, say, it leaves alone.
func filler(seed int64) *randfill.Filler {
	return randfill.NewWithSeed(seed).NilChance(0.3).NumElements(1, 2).MaxDepth(12).Funcs(
		func(q *resource.Quantity, c randfill.Continue) {
			*q = *resource.NewQuantity(c.Int63n(1000), resource.DecimalSI)
		},
		func(v *intstr.IntOrString, c randfill.Continue) { *v = intstr.FromInt32(c.Int31()) },
		func(at *metav1.Time, c randfill.Continue) { *at = metav1.Unix(c.Int63n(1<<31), 0) },
		func(at *metav1.MicroTime, c randfill.Continue) {
			*at = metav1.NewMicroTime(time.UnixMicro(c.Int63n(1 << 50)))
		},
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.Raw = []byte(`{"f:spec":{}}`) },
	)
}

// An object of any kind comes back as it was, from what this version writes and
// from the JSON of the one before.
func TestObjectsComeBack(t *testing.T) {
	for _, info := range schema.Kinds() {
		t.Run(string(info.Kind), func(t *testing.T) {
			for seed := range int64(50) {
				want := info.New()
				filler(seed).Fill(want)
				schema.SetTypeMeta(want)
				now, err := EncodeObject(want)
				if err != nil {
					t.Fatal(err)
				}
				before, err := json.Marshal(want)
				if err != nil {
					t.Fatal(err)
				}
				for _, data := range [][]byte{now, before} {
					got, err := DecodeObject(info.Kind, data)
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					if !equality.Semantic.DeepEqual(want, got) {
						t.Fatalf("seed %d: %.1q... came back as (-want +got):\n%s", seed, data, cmp.Diff(want, got))
					}
				}
				if again, err := EncodeObject(want.DeepCopyObject().(schema.Object)); err != nil || string(again) != string(now) {
					t.Fatalf("seed %d: an equal object is encoded otherwise: %v", seed, err)
				}
			}
		})
	}
}

func TestDecodeObjectRefusesWhatIsNone(t *testing.T) {
	pod, err := EncodeObject(schema.Info(schema.KindPod).New())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind schema.Kind
		data []byte
	}{
		{"Fleet", pod}, {schema.KindPod, nil}, {schema.KindPod, []byte("P\x0a\xff")}, {schema.KindPod, []byte("{")}, {schema.KindSource, pod},
	} {
		if obj, err := DecodeObject(c.kind, c.data); err == nil {
			t.Errorf("%s %q is read as %v", c.kind, c.data, obj)
		}
	}
}
