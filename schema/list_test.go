package schema_test

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema"
)

// One value and a list of one are the same, and what is written is read again.
func TestListsAreReadFromOneOrMany(t *testing.T) {
	for in, want := range map[string]string{
		`"10.0.0.1"`:              `"10.0.0.1"`,
		`["10.0.0.1"]`:            `"10.0.0.1"`,
		`["10.0.0.1", "fd00::1"]`: `["10.0.0.1","fd00::1"]`,
		`[]`:                      `[]`,
		`""`:                      `null`,
		` null `:                  `null`,
	} {
		var l schema.List[string]
		if err := json.Unmarshal([]byte(in), &l); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		got, err := json.Marshal(l)
		if err != nil || string(got) != want {
			t.Errorf("%s is written as %s (%v), want %s", in, got, err, want)
		}
	}
	for _, in := range []string{`1`, `{"a":"b"}`, `[1]`, `["a", 1]`, `true`} {
		var l schema.List[string]
		if err := json.Unmarshal([]byte(in), &l); err == nil {
			t.Errorf("%s is read as %q, want an error", in, l)
		}
	}
}

func TestListsHoldTypes(t *testing.T) {
	var l schema.List[netip.Prefix]
	if err := json.Unmarshal([]byte(`"10.112.0.0/22"`), &l); err != nil {
		t.Fatal(err)
	}
	want := schema.List[netip.Prefix]{netip.MustParsePrefix("10.112.0.0/22")}
	if diff := cmp.Diff(want, l, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if got := (schema.List[netip.Prefix]{}).First(); got.IsValid() {
		t.Errorf("the first of none is %v, want the zero prefix", got)
	}
}
