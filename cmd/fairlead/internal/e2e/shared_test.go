package e2e

import "testing"

// shared is the cluster of testShared's tests.
var shared *cluster

// One cluster serves tests that disturb nobody else, one after the other: each begins
// with a clone of what the one before left in Git.
func testShared(t *testing.T) {
	shared = fresh(t, nodeCount)
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"NodesAreReady", testNodesAreReady},
		{"UpAgainChangesNothing", testUpAgainChangesNothing},
		{"AnotherNumberOfNodesIsRefused", testAnotherNumberOfNodesIsRefused},
		{"ContainersAreMade", testContainersAreMade},
		{"HostileDoors", testHostileDoors},
		{"HostileNode", testHostileNode},
		{"HostileSubPath", testHostileSubPath},
		{"SubPath", testSubPath},
		{"Jobs", testJobs},
		{"WhatIsAbsentIsWaitedFor", testWhatIsAbsentIsWaitedFor},
		{"Kustomize", testKustomize},
		{"Pipelines", testPipelines},
	} {
		t.Run(test.name, test.run)
	}
}
