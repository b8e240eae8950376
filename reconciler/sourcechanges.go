package reconciler

import (
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// FollowingAfter says what changes of the cluster ask of those who follow its sources: to
// follow others than before, and to judge again. Where what one source is to be has
// changed, its trees and those of the sources that it declares may come to be judged
// otherwise; that a source comes or goes is seen by who declares it.
func FollowingAfter(changes []state.Change) (others, again bool) {
	for _, c := range changes {
		if c.Key.Kind != schema.KindSource {
			continue
		}
		others = true
		again = again || c.Old != nil && c.New != nil && !schema.Equal(c.Old, c.New)
	}
	return others, again
}
