package schema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is noted of how an object was built is bounded in bytes, however long the names
// are and whatever JSON makes of them, and says how many fields it leaves out.
func TestBuiltIsBounded(t *testing.T) {
	for _, long := range []string{"x", strings.Repeat("d", 300), strings.Repeat("<\"\x01", 10), strings.Repeat("<\"\x01", 100), strings.Repeat("d", 3_000)} {
		b := Built{By: "top"}
		for set := range 20 {
			for field := range 20 {
				b.Add(fmt.Sprintf("data.%s%d", long, field), fmt.Sprintf("a patch of %s%d", long, set), Position{Path: long, Line: set + 1})
			}
		}
		obj := &corev1.ConfigMap{}
		SetBuilt(obj, b)
		text := obj.Annotations[AnnotationBuilt]
		if len(text) > MaxBuiltBytes {
			t.Errorf("%.9q: %d bytes are noted", long, len(text))
		}
		got := BuiltOf(obj)
		if got.By != "top" || len(long) <= 300 && !strings.Contains(long, "<") && len(got.Set) == 0 {
			t.Errorf("%.9q: %+v", long, got)
		}
		for _, s := range got.Set {
			if len(s.Fields)+s.More != 20 {
				t.Errorf("%.9q: %d fields are named and %d more, of 20", long, len(s.Fields), s.More)
			}
		}
	}
}

// A directory whose name has no room is not noted, and takes nothing else with it.
func TestBuiltByALongName(t *testing.T) {
	obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"a": "b"}}}
	SetBuilt(obj, Built{By: strings.Repeat("d", MaxBuiltBytes)})
	if diff := cmp.Diff(map[string]string{"a": "b"}, obj.Annotations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is longer than SetBuilt writes was not written by it.
func TestBuiltIsReadAsItIsWritten(t *testing.T) {
	of := func(text string) Built {
		return BuiltOf(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{AnnotationBuilt: text}}})
	}
	fields := "{\"by\":\"p\",\"at\":\"f:1\",\"fields\":[" + strings.Repeat("\"a\",", 19) + "\"a\"]}"
	if b := of("{\"by\":\"top\",\"set\":[" + strings.Repeat(fields+",", 14) + fields + "]}"); b.By != "top" || len(b.Set) != maxBuiltSets || len(b.Set[0].Fields) != maxBuiltFields {
		t.Errorf("%+v", b)
	}
	for _, text := range []string{"", "x", "{\"by\":3}", "{\"by\":\"" + strings.Repeat("d", MaxBuiltBytes) + "\"}"} {
		if diff := cmp.Diff(Built{}, of(text)); diff != "" {
			t.Errorf("%.20q (-want +got):\n%s", text, diff)
		}
	}
}
