package api

import (
	"testing"

	"fairlead/schema/rowtest"
)

func TestEveryKindHasItsRow(t *testing.T) {
	rowtest.Check(t, rows)
	for _, row := range rows.All() {
		if len(row.columns) == 0 || row.cells == nil {
			t.Errorf("kind %s: its row shows nothing", row.kind)
		}
	}
}
