package schema_test

import (
	"testing"

	"fairlead/schema"
	"fairlead/schema/rowtest"
)

func TestEveryKindHasItsRow(t *testing.T) { rowtest.Check(t, schema.RowsForTest()) }
