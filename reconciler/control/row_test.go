package control

import (
	"testing"

	"fairlead/schema"
	"fairlead/schema/rowtest"
)

func TestEveryKindHasItsRow(t *testing.T) { rowtest.Check(t, rows) }

// For none of the kinds that stand in Git may the reason be that it never stands there,
// and the other way about.
func TestRowsAgreeWithWhatStandsInGit(t *testing.T) {
	for _, row := range rows.All() {
		desired := schema.Info(row.Kind).Desired
		if got := row.Configured.None != notInGit; got != desired {
			t.Errorf("kind %s: stands in Git: %v, but its row says of what comes from no source: %q", row.Kind, desired, row.Configured.None)
		}
	}
}

// What is made from another object ends with it: the owner's row visits it, or its own
// controller removes it and says so.
func TestWhatIsOwnedEndsWithItsOwner(t *testing.T) {
	for _, row := range rows.All() {
		for _, owned := range schema.Of(row.Kind).Owns.Do {
			of := rows.Of(owned)
			collected := row.Dependents.Do != nil && of.Collect.Do != nil
			if !collected && (row.Dependents.None == nothingNeeds || of.Collect.None == needsNothing) {
				t.Errorf("kind %s owns %s, and neither row says how they end together", row.Kind, owned)
			}
		}
	}
}
