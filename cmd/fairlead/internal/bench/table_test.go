package main

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRowJudgesItself(t *testing.T) {
	for _, test := range []struct {
		name string
		row  row
		want string
	}{
		{"no goal", row{measured: duration(time.Second)}, "-"},
		{"below", row{measured: duration(time.Second), goal: goal{most: duration(time.Second)}}, "yes"},
		{"above", row{measured: duration(2 * time.Second), goal: goal{most: duration(time.Second)}}, "NO"},
		{"nothing allowed, nothing there", row{measured: count(0, "writes"), goal: goal{most: count(0, "writes")}}, "yes"},
		{"nothing allowed, one there", row{measured: count(1, "writes"), goal: goal{most: count(0, "writes")}}, "NO"},
		{"ratio kept", row{measured: times(1), baseline: times(1), goal: goal{mostRatio: 1.3}}, "yes"},
		{"ratio broken", row{measured: times(1.4), baseline: times(1), goal: goal{mostRatio: 1.3}}, "NO"},
		{"both asked, one kept", row{measured: duration(9), baseline: duration(3), goal: goal{most: duration(10), mostRatio: 1.5}}, "NO"},
		{"three times faster", row{measured: duration(1), baseline: duration(4), goal: goal{mostRatio: 1. / 3}}, "yes"},
	} {
		if got := test.row.reachedText(); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestRowSurvivesJSON(t *testing.T) {
	want := row{bar: "P4", what: "40 pods", measured: duration(3), goal: goal{most: duration(4), mostRatio: 1.3}, against: "raw", baseline: duration(5), note: "a"}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got row
	if err := json.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %+v, want %+v", err, got, want)
	}
}

func TestPercentile(t *testing.T) {
	s := samples{5, 1, 4, 2, 3}
	for p, want := range map[float64]time.Duration{0: 1, 50: 3, 99: 5, 100: 5} {
		if got := s.at(p); got != want {
			t.Errorf("p%v is %d, want %d", p, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 3: "3", 0.0214: "0.0214", 0.21: "0.21", 12.34: "12.3", 1234.5: "1234", -0.5: "-0.50"} {
		if got := number(v); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
}
