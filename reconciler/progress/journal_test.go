package progress

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

func TestEachFateIsToldOnce(t *testing.T) {
	revision := func(phases ...schema.Phase) *schema.Revision {
		rev := &schema.Revision{}
		for i, p := range phases {
			rev.Status.Phases = append(rev.Status.Phases, schema.PhaseRecord{Name: p, At: metav1.Unix(int64(i), 0)})
		}
		return rev
	}
	tests := []struct {
		name     string
		old, new schema.Object
		want     []schema.Phase
		bad      bool
	}{
		{"what comes between is not told", revision(schema.PhaseSeen), revision(schema.PhaseSeen, schema.PhaseValid, schema.PhaseRollingOut), []schema.Phase{schema.PhaseRollingOut}, false},
		{"what was told before is not", revision(schema.PhaseRollingOut), revision(schema.PhaseRollingOut, schema.PhaseFailed), []schema.Phase{schema.PhaseFailed}, true},
		{"a new revision", nil, revision(schema.PhaseInvalid), []schema.Phase{schema.PhaseInvalid}, true},
		{"one that is seen anew begins anew", revision(schema.PhaseRollingOut, schema.PhaseHealthy), revision(schema.PhaseHealthy), []schema.Phase{schema.PhaseHealthy}, false},
		{"another object", nil, &schema.Source{}, nil, false},
		{"one that went", revision(schema.PhaseHealthy), nil, nil, false},
	}
	for _, test := range tests {
		c := state.Change{}
		if test.old != nil {
			c.Old = test.old
		}
		if test.new != nil {
			c.New = test.new
		}
		var got []schema.Phase
		for _, f := range Fates(c) {
			got = append(got, f.Phase.Name)
			if f.Bad != test.bad {
				t.Errorf("%s: bad: got %v", test.name, f.Bad)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}
