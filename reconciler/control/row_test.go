package control

import (
	"testing"

	"fairlead/schema"
	"fairlead/schema/rowtest"
)

func TestEveryKindHasItsRow(t *testing.T) { rowtest.Check(t, rows) }

// What stands in Git is updated and gone back to: for none of these kinds may the
// reason be that it never stands there, and the other way about.
func TestRowsAgreeWithWhatStandsInGit(t *testing.T) {
	for _, row := range rows.All() {
		desired := schema.Info(row.Kind).Desired
		if got := row.Carry.None != notInGit; got != desired {
			t.Errorf("kind %s: stands in Git: %v, but its row says of what is carried over: %q", row.Kind, desired, row.Carry.None)
		}
		if got := row.Configured.None != notInGit; got != desired {
			t.Errorf("kind %s: stands in Git: %v, but its row says of what comes from no source: %q", row.Kind, desired, row.Configured.None)
		}
	}
}
