package runtimetest_test

import (
	"testing"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/runtimetest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	const image = "localhost/program:1"
	runtimetest.Contract(t, runtimetest.Subject{
		Runtime: runtimetest.NewFake(image), Image: image, Node: "n1",
		Spec: func(name string, args ...string) pod.ContainerSpec {
			return runtimetest.Spec("n1", image, "uid-1", name, 0, args...)
		},
	})
}
