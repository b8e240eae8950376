// Package rowtest holds the tables of every floor to the rule that no kind is
// forgotten: each has a row, and each cell of a row says what is done or why
// nothing is. Tests call it.
package rowtest

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"fairlead/schema"
)

// Check fails the test for every kind without a row and for every cell that is
// missing.
func Check[R any](t *testing.T, rows schema.Rows[R]) {
	t.Helper()
	for _, missing := range Missing(rows, schema.Kinds()) {
		t.Error(missing)
	}
}

// Missing lists the kinds without a row, and the cells that say nothing or two things.
func Missing[R any](rows schema.Rows[R], kinds []schema.KindInfo) (out []string) {
	for _, info := range kinds {
		row := rows.Of(info.Kind)
		if row == nil {
			out = append(out, fmt.Sprintf("kind %s has no row in this table", info.Kind))
			continue
		}
		v := reflect.ValueOf(row).Elem()
		for i := range v.NumField() {
			if problem := judge(v.Field(i)); problem != "" {
				out = append(out, fmt.Sprintf("kind %s: cell %s %s", info.Kind, v.Type().Field(i).Name, problem))
			}
		}
	}
	return out
}

// judge is "" for a field that is no cell or a cell as it should be.
func judge(field reflect.Value) string {
	t := field.Type()
	if t.PkgPath() != reflect.TypeFor[schema.Kind]().PkgPath() || !strings.HasPrefix(t.Name(), "Cell[") {
		return ""
	}
	does, none := !field.FieldByName("Do").IsZero(), field.FieldByName("None").String() != ""
	switch {
	case does && none:
		return "says both what is done and why nothing is"
	case !does && !none:
		return "is missing: say what is done for the kind, or in None why nothing is"
	}
	return ""
}
