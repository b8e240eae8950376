package runtimetest_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/runtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const image = "localhost/program:1"

func spec(name string, args ...string) pod.ContainerSpec {
	return runtimetest.Spec("n1", image, "uid-1", name, 0, args...)
}

func TestFakeKeepsTheContract(t *testing.T) {
	f := runtimetest.NewFake(image)
	runtimetest.Contract(t, runtimetest.Subject{
		Runtime: f, Image: image, Node: "n1", Spec: spec,
		KillConmon:  func(_ *testing.T, s pod.ContainerSpec, _ string) { f.KillConmon(s.Name) },
		KillService: func(*testing.T) { f.KillService(); f.StartService() },
		Haunt:       func(_ *testing.T, uid types.UID, id string) { f.Haunt(uid, id) },
	})
}

// Driven by virtual time the fake reads no clock and nothing blocks.
func TestFakeInVirtualTime(t *testing.T) {
	f := runtimetest.NewFake(image)
	now := time.Unix(1_700_000_000, 0)
	f.Now = func() time.Time { return now }
	f.Stall = func(context.Context, <-chan struct{}) { now = now.Add(10 * time.Second) }
	id, err := f.Create(t.Context(), spec("c", "stay"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if err := f.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if e, ok, err := f.Ended(t.Context(), id); ok || err != nil {
		t.Errorf("while it runs: %+v, %v", e, err)
	}
	f.Hang()
	if _, err := f.List(t.Context()); !errors.Is(err, nodeagent.ErrUnavailable) {
		t.Errorf("a hanging service: %v", err)
	}
	f.StartService()
	f.Die("c", pod.Exit{Code: 3})
	e, ok, err := f.Ended(t.Context(), id)
	if want := (pod.Exit{Code: 3, FinishedAt: time.Unix(1_700_000_011, 0)}); !ok || err != nil || e != want {
		t.Errorf("got %+v, %v, %v, want %+v", e, ok, err, want)
	}
	list, err := f.List(t.Context())
	if err != nil || len(list) != 1 || !list[0].StartedAt.Equal(time.Unix(1_700_000_001, 0)) {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// The fake counts what must never happen, so that a test can ask for it.
func TestTwoAttemptsAtOnceAreNoticed(t *testing.T) {
	f := runtimetest.NewFake(image)
	start := func(name string) {
		t.Helper()
		s := spec(name, "stay")
		s.Labels[pod.LabelContainer] = "c"
		id, err := f.Create(t.Context(), s)
		if err == nil {
			err = f.Start(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	start("c-0")
	f.Die("c-0", pod.Exit{})
	start("c-1")
	if got := f.Twice(); len(got) != 0 {
		t.Errorf("one after the other: %v", got)
	}
	start("c-2")
	if got := f.Twice(); !slices.Equal(got, []string{"c-2"}) {
		t.Errorf("two at once: %v", got)
	}
}
