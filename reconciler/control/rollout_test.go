package control

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func TestBoundsOf(t *testing.T) {
	tests := []struct {
		name               string
		replicas           int32
		surge, unavailable intstr.IntOrString
		want               bounds
	}{
		{"numbers", 10, intstr.FromInt32(2), intstr.FromInt32(1), bounds{10, 2, 1}},
		{"surge rounds up, unavailable down", 10, intstr.FromString("25%"), intstr.FromString("25%"), bounds{10, 3, 2}},
		{"both zero cannot move", 3, intstr.FromInt32(0), intstr.FromInt32(0), bounds{3, 0, 1}},
		{"percentages that round to nothing", 1, intstr.FromString("0%"), intstr.FromString("25%"), bounds{1, 0, 1}},
		{"no more unavailable than there are", 2, intstr.FromInt32(0), intstr.FromInt32(5), bounds{2, 0, 2}},
		{"nothing wanted", 0, intstr.FromString("25%"), intstr.FromString("25%"), bounds{0, 0, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := deployment(replicas(tt.replicas), func(d *appsv1.Deployment) {
				d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &tt.surge, MaxUnavailable: &tt.unavailable}
			})
			if got := boundsOf(d); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestRollingStep(t *testing.T) {
	up := func(n int32) setSize { return setSize{n, n, n} }
	tests := []struct {
		name        string
		b           bounds
		current     setSize
		olds        []setSize
		wantCurrent int32
		wantOlds    []int32
	}{
		{"begins with the surge", bounds{3, 1, 0}, setSize{}, []setSize{up(3)}, 1, []int32{3}},
		{"waits for the new pod", bounds{3, 1, 0}, setSize{1, 1, 0}, []setSize{up(3)}, 1, []int32{3}},
		{"takes one old for one new", bounds{3, 1, 0}, up(1), []setSize{up(3)}, 1, []int32{2}},
		{"does not count on room that an old pod still holds", bounds{3, 1, 0}, up(1), []setSize{{2, 3, 3}}, 1, []int32{2}},
		{"without surge takes old ones first", bounds{3, 0, 1}, setSize{}, []setSize{up(3)}, 0, []int32{2}},
		{"unhealthy old pods go first, oldest set first", bounds{4, 1, 1}, setSize{1, 1, 0}, []setSize{{2, 2, 0}, up(2)}, 1, []int32{1, 2}},
		{"all old pods go once the new ones stand", bounds{3, 1, 0}, up(3), []setSize{up(1)}, 3, []int32{0}},
		{"a smaller count with the old template", bounds{2, 1, 0}, setSize{}, []setSize{up(5)}, 0, []int32{2}},
		{"no old sets: all at once", bounds{5, 1, 0}, setSize{}, nil, 5, nil},
		{"a smaller count without a rollout", bounds{2, 1, 0}, up(5), nil, 2, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			current, olds := rollingStep(tt.b, tt.current, tt.olds)
			if current != tt.wantCurrent || !cmp.Equal(olds, tt.wantOlds) && len(olds)+len(tt.wantOlds) > 0 {
				t.Errorf("got %d and %v, want %d and %v", current, olds, tt.wantCurrent, tt.wantOlds)
			}
		})
	}
}

func TestResize(t *testing.T) {
	up := func(n int32) setSize { return setSize{n, n, n} }
	tests := []struct {
		name string
		b    bounds
		sets []setSize
		want []int32
	}{
		{"grows both by their size", bounds{20, 2, 0}, []setSize{up(8), up(4)}, []int32{15, 7}},
		{"shrinks both by their size", bounds{5, 1, 0}, []setSize{up(8), up(4)}, []int32{4, 2}},
		{"a shrink takes the unavailable first", bounds{6, 1, 0}, []setSize{up(6), {5, 5, 0}}, []int32{6, 1}},
		{"nothing wanted", bounds{0, 0, 0}, []setSize{up(3), up(1)}, []int32{0, 0}},
		{"a set without pods stays so", bounds{6, 1, 0}, []setSize{{}, up(2), up(2)}, []int32{0, 3, 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := resize(tt.b, tt.sets); !cmp.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// One step never asks for more than the surge, nor for fewer available pods than
// the bounds allow, if there were enough before.
func TestStepsKeepTheBounds(t *testing.T) {
	genSet := func(t *rapid.T, name string) setSize {
		s := setSize{spec: int32(rapid.IntRange(0, 10).Draw(t, name)), active: int32(rapid.IntRange(0, 10).Draw(t, name))}
		s.available = int32(rapid.IntRange(0, int(s.active)).Draw(t, name))
		return s
	}
	chance.Check(t, func(t *rapid.T) {
		b := bounds{int32(rapid.IntRange(0, 12).Draw(t, "desired")), int32(rapid.IntRange(0, 4).Draw(t, "surge")), 0}
		b.unavailable = int32(rapid.IntRange(0, int(b.desired)).Draw(t, "unavailable"))
		if b.surge == 0 {
			b.unavailable = min(max(b.unavailable, 1), b.desired)
		}
		sets := []setSize{genSet(t, "old"), genSet(t, "older"), genSet(t, "current")}
		var spec, sure int32
		for _, s := range sets {
			spec += s.spec
			sure += s.sure()
		}
		check := func(what string, sizes []int32) {
			var total, left int32
			for i, n := range sizes {
				if n < 0 {
					t.Fatalf("%s: negative size in %v", what, sizes)
				}
				total += n
				left += min(n, sets[i].available)
			}
			if total > max(b.most(), spec) {
				t.Fatalf("%s: %v is more than %d", what, sizes, b.most())
			}
			if left < min(sure, b.least()) {
				t.Fatalf("%s: %v leaves %d available of %d, at least %d are due", what, sizes, left, sure, b.least())
			}
		}
		current, olds := rollingStep(b, sets[2], sets[:2])
		check("rolling", append(olds, current))
		check("resize", resize(b, sets))
	})
}
