package reconciler_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

func TestWhatAChangeAsksOfFollowing(t *testing.T) {
	source := func(path string, change func(*schema.Source)) *schema.Source {
		src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true, Path: path})}
		change(src)
		return src
	}
	as := func(*schema.Source) {}
	applied := func(src *schema.Source) { src.Status.Applied.Commit = "c1" }
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api"}}
	for name, c := range map[string]struct {
		old, next     schema.Object
		others, again bool
	}{
		"a source comes":            {nil, source(".", as), true, false},
		"a source goes":             {source(".", as), nil, true, false},
		"its spec changes":          {source(".", as), source("deploy", as), true, true},
		"its status changes":        {source(".", as), source(".", applied), true, false},
		"something else is changed": {pod, pod, false, false},
	} {
		about := c.next
		if about == nil {
			about = c.old
		}
		others, again := reconciler.FollowingAfter([]state.Change{{Key: schema.KeyOf(about), Old: c.old, New: c.next}})
		if others != c.others || again != c.again {
			t.Errorf("%s: other sources: %v, judge again: %v; want %v, %v", name, others, again, c.others, c.again)
		}
	}
}
