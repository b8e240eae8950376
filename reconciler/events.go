package reconciler

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Bounds on events, as Kubernetes keeps them by default.
const (
	MaxEvents  = 10_000
	EventKept  = time.Hour
	sweepEvery = time.Minute
)

// forgetEvents drops events that are old, and the oldest when there are too many.
func (m *Machine) forgetEvents(c *control.Context) {
	if c.Now.Sub(m.swept) < sweepEvery {
		return
	}
	m.swept = c.Now
	var kept []*corev1.Event
	for e := range state.All[*corev1.Event](c.Tx, "") {
		if c.Now.Sub(e.LastTimestamp.Time) > EventKept {
			c.Tx.Delete(schema.KeyOf(e))
			continue
		}
		kept = append(kept, e)
	}
	if len(kept) <= MaxEvents {
		return
	}
	slices.SortStableFunc(kept, func(a, b *corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	for _, e := range kept[:len(kept)-MaxEvents] {
		c.Tx.Delete(schema.KeyOf(e))
	}
}
