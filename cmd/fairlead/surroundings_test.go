package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/load"
)

const podThatRefers = `apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  imagePullSecrets: [{name: pull}]
  containers:
    - name: c
      image: localhost/c:1
      envFrom: [{secretRef: {name: token}}]
      env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: a}}}]
`

// What the cluster does not answer for is not said to be absent.
func TestWhatCannotBeAskedForIsNoErrorOfTheTree(t *testing.T) {
	for name, tt := range map[string]struct {
		fails    error
		warnings int
	}{
		"absent":            {&client.StatusError{Code: http.StatusNotFound, Message: "not found"}, 0},
		"too many requests": {&client.StatusError{Code: http.StatusTooManyRequests, Message: "later"}, 3},
		"broken":            {&client.StatusError{Code: http.StatusInternalServerError, Message: "broken"}, 3},
		"no answer in time": {context.DeadlineExceeded, 3},
	} {
		for _, missing := range []string{schema.ErrorOnMissing, schema.WaitForMissing} {
			t.Run(name+", "+missing, func(t *testing.T) {
				s := &surroundings{
					source: "team", kinds: surroundingKinds(), cluster: state.Empty(state.Counters{}), got: map[schema.Key]schema.Object{},
					get: func(schema.Key) (schema.Object, error) { return nil, tt.fails },
				}
				options := s.options()
				options.Rights = nil
				blob := &schema.Blob{Hash: "p", Size: int64(len(podThatRefers)), Open: func() ([]byte, error) { return []byte(podThatRefers), nil }}
				tree := schema.Tree{Files: []schema.File{{Path: "p.yaml", Blob: blob}}}
				got := load.Load(t.Context(), tree, schema.SourceSpec{MissingReferences: missing}, options).Diagnostics
				unknown := 0
				for _, d := range got {
					if strings.Contains(d.Message, "is not known whether") && d.Severity == schema.Warning {
						unknown++
					}
				}
				if unknown != tt.warnings || got.HasErrors() != (tt.warnings == 0 && missing == schema.ErrorOnMissing) || len(got) != 3 {
					t.Errorf("told is %v", got)
				}
				if told := s.unasked(); (told != nil) != (tt.warnings > 0) || told != nil && !errors.Is(told, tt.fails) {
					t.Errorf("unasked: %v", told)
				}
			})
		}
	}
}
