package e2e

import (
	"sync"
	"testing"
	"time"
)

// besideEachOther is how many tests work at a time, each on a cluster: they also wait,
// two cores serve so many, and what a test measures holds beside others.
const besideEachOther = 3

// Each test has a cluster of its own, and several run at a time. They begin in this
// order, which `go test` would not keep: the longest first, so that none runs on alone.
// One of them is run by `-run /Nodes`, one of testShared's by `-run /Shared/SubPath`.
func TestClusters(t *testing.T) {
	tests := []struct {
		name  string
		run   func(*testing.T)
		waits bool // hardly works, and needs no place
	}{
		{"Nodes", testNodes, true},
		{"RolloutsLoseNothing", testRolloutsLoseNothing, false},
		{"Faults", testFaults, false},
		{"Shared", testShared, false},
		{"Mistakes", testMistakes, false},
		{"Guards", testGuards, false},
		{"Shop", testShop, false},
		{"TwoClusters", testTwoClusters, false},
		{"Tutorial", testTutorial, false},
		{"Readme", testReadme, false},
		{"HostilePush", testHostilePush, false},
		{"HostilePoison", testHostilePoison, false},
	}
	places := make(chan struct{}, besideEachOther)
	var all sync.WaitGroup
	for _, test := range tests {
		if !test.waits {
			places <- struct{}{}
		}
		all.Go(func() {
			began := time.Now()
			ok := t.Run(test.name, test.run)
			if took := time.Since(began); took > time.Second { // else -run has left it out
				t.Logf("%s has ended after %v, passed: %v", test.name, took.Round(time.Second), ok)
			}
			if !test.waits {
				<-places
			}
		})
	}
	all.Wait()
}
