package control

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead/reconciler/health"
)

// setSize is what the arithmetic of a rollout knows of one replica set.
type setSize struct {
	spec      int32 // pods wanted
	active    int32 // pods there, not terminating; differs from spec until the replica set is visited
	available int32
}

// sure is how many available pods are left once the replica set has come down to
// its spec: it lets the unavailable ones go first.
func (s setSize) sure() int32 { return min(s.spec, s.available) }

// held is how many pods count against the surge: those that come and those that
// have not gone yet.
func (s setSize) held() int32 { return max(s.spec, s.active) }

// bounds is how far a rollout may go: at most desired+surge pods, at least
// desired-unavailable of them available.
type bounds struct{ desired, surge, unavailable int32 }

func (b bounds) most() int32  { return b.desired + b.surge }
func (b bounds) least() int32 { return b.desired - b.unavailable }

// boundsOf resolves a strategy's percentages as Kubernetes does: surge rounded up,
// unavailable rounded down and at most desired, and at least one of the two not
// zero.
func boundsOf(d *appsv1.Deployment) bounds {
	b := bounds{desired: health.Desired(d.Spec.Replicas)}
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return b
	}
	quarter := intstr.FromString("25%")
	surge, unavailable := &quarter, &quarter
	if ru := d.Spec.Strategy.RollingUpdate; ru != nil {
		surge = intstr.ValueOrDefault(ru.MaxSurge, quarter)
		unavailable = intstr.ValueOrDefault(ru.MaxUnavailable, quarter)
	}
	b.surge = scaled(surge, b.desired, true)
	b.unavailable = min(scaled(unavailable, b.desired, false), b.desired)
	if b.surge == 0 && b.unavailable == 0 {
		b.unavailable = min(1, b.desired)
	}
	return b
}

// scaled is zero for what is not a number or a percentage.
func scaled(v *intstr.IntOrString, of int32, up bool) int32 {
	n, err := intstr.GetScaledValueFromIntOrPercent(v, int(of), up)
	if err != nil {
		return 0
	}
	return int32(max(n, 0))
}

// rollingStep is the next step of a rolling update: sizes for the current replica
// set and for the old ones, which are given oldest first. The current one grows
// into the surge; old ones give up first what is not available, then what the
// available pods of all allow.
func rollingStep(b bounds, current setSize, olds []setSize) (newCurrent int32, newOlds []int32) {
	newCurrent = growCurrent(b, current, olds)
	newOlds = make([]int32, len(olds))
	total, sure := newCurrent, min(newCurrent, current.available)
	for i, old := range olds {
		newOlds[i] = old.spec
		total += old.spec
		sure += old.sure()
	}
	spare := total - b.least() - (newCurrent - min(newCurrent, current.available))
	if spare <= 0 {
		return newCurrent, newOlds
	}
	for i, old := range olds {
		gone := min(spare, old.spec-old.sure())
		newOlds[i] -= gone
		spare -= gone
	}
	over := sure - b.least()
	for i := range olds {
		gone := max(0, min(over, newOlds[i]))
		newOlds[i] -= gone
		over -= gone
	}
	return newCurrent, newOlds
}

func growCurrent(b bounds, current setSize, olds []setSize) int32 {
	if current.spec >= b.desired {
		return b.desired
	}
	held := current.held()
	for _, old := range olds {
		held += old.held()
	}
	return min(b.desired, current.spec+max(0, b.most()-held))
}

// resize spreads a changed replica count over the replica sets of a rollout that
// is under way, so that neither side takes all of it. Growth goes to each by its
// size; a shrink takes what is not available first, oldest set first, and the rest
// from each by its size. Sets of size zero stay so. The last set is the current one.
func resize(b bounds, sets []setSize) []int32 {
	sizes := make([]int32, len(sets))
	var total, held int32
	for i, s := range sets {
		sizes[i] = s.spec
		total += s.spec
		held += s.held()
	}
	allowed := b.most()
	if b.desired == 0 {
		allowed = 0
	}
	switch {
	case total < allowed:
		share(sizes, allowed-max(total, min(held, allowed)))
	case total > allowed:
		excess := total - allowed
		for i, s := range sets {
			gone := min(excess, s.spec-s.sure())
			sizes[i] -= gone
			excess -= gone
		}
		share(sizes, -excess)
	}
	return sizes
}

// share adds n, which may be negative, to the sizes in proportion to them; what
// rounding leaves over goes to the largest, later ones first.
func share(sizes []int32, n int32) {
	var total int64
	order := make([]int, len(sizes))
	for i, s := range sizes {
		order[i] = i
		total += int64(s)
	}
	if total == 0 || n == 0 {
		return
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(b, a))
	})
	left := n
	for _, i := range order {
		part := int32(int64(n) * int64(sizes[i]) / total)
		sizes[i] += part
		left -= part
	}
	step := int32(1)
	if n < 0 {
		step = -1
	}
	for k := 0; left != 0; k++ {
		i := order[k%len(order)]
		if sizes[i] == 0 {
			continue
		}
		sizes[i] += step
		left -= step
	}
}
