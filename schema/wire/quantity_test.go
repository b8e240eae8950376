package wire

import (
	"encoding/json"
	"testing"
)

// A node's report of a few bytes does not keep the master busy for ever.
func TestReportsWithEndlessQuantitiesAreRefused(t *testing.T) {
	for _, c := range []struct {
		capacity string
		refused  bool
	}{
		{`"1E999999999999"`, true}, {`1e999999999999`, true}, {`"1.5e+100"`, true}, {`"-1e-999999999"`, true}, {` "1e1000" `, true},
		{`"1e3"`, false}, {`"12E"`, false}, {`"4Ei"`, false}, {`"100m"`, false}, {`16`, false},
	} {
		var r Report
		err := json.Unmarshal([]byte(`{"node":"n1","bootID":"1e234567-0e12","nodeIP":"12e456x","capacity":{"cpu":`+c.capacity+`},"pods":[{"uid":"12e45678-9abc","name":"a \"1e1000\", b: 1e1000, \\"}]}`), &r)
		if (err != nil) != c.refused {
			t.Errorf("%s: %v", c.capacity, err)
		}
		if err == nil && (r.Node != "n1" || len(r.Capacity) != 1 || len(r.Pods) != 1) {
			t.Errorf("%s is read as %+v", c.capacity, r)
		}
	}
}
