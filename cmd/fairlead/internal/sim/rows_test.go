package sim

import (
	"testing"

	"fairlead/schema/rowtest"
)

func TestNoKindIsForgotten(t *testing.T) { rowtest.Check(t, rows) }
