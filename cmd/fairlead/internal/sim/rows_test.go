package sim

import (
	"testing"

	"fairlead/schema"
	"fairlead/schema/rowtest"
)

func TestNoKindIsForgotten(t *testing.T) { rowtest.Check(t, rows) }

// What may stand in Git and makes pods is asked for by the team and held to what its kind
// promises: no such kind goes without an oracle.
func TestEveryWorkloadKindIsHeldToItsPromises(t *testing.T) {
	for _, info := range schema.Kinds() {
		if !info.Desired || schema.Of(info.Kind).Pods.Do == nil {
			continue
		}
		r := rows.Of(info.Kind)
		if r == nil || r.asks.Do.begin == nil || r.holds.Do == nil {
			t.Errorf("%s makes pods: say in its row how the team asks for it and what holds of it at every instant", info.Kind)
		}
	}
}
