package reconciler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// asks is a tree of one source that takes what a rollout of another gave up, and what is
// said of it.
type asks struct{ had, takes, says string }

var takings = map[string]asks{
	"an object":         {aConfig, aConfig, "ConfigMap default/shared was given up by source main, which may still go back from commit 200000000000 (it is free once that rollout has ended)"},
	"a node port":       {servicePort("a", ", nodePort: 30001}], type: NodePort}"), servicePort("b", ", nodePort: 30001}], type: NodePort}"), "spec.ports[0].nodePort: 30001/TCP was given up by source main"},
	"a cluster address": {servicePort("a", "}], clusterIP: 10.96.0.50}"), servicePort("b", "}], clusterIP: 10.96.0.50}"), "spec.clusterIP: 10.96.0.50 was given up by source main"},
	"a namespace":       {aNamespace, aNamespace, "Namespace lab was given up by source main"},
}

func servicePort(name, spec string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {selector: {a: b}, ports: [{port: 80" + spec + "\n"
}

// giveUp has main run well with something, and roll out a commit without it.
func giveUp(t *testing.T, had string, broken bool, main schema.SourceSpec) *misjudged {
	t.Helper()
	var on []string
	if broken {
		on = []string{"n1", "n2"}
	}
	m := newProven(t, "---\n"+had, on, own("main", main), own("second", schema.SourceSpec{}))
	m.push("main", 2, strings.ReplaceAll(pairOf, "VERSION", "v2"))
	return m
}

// What a rollout gave up stays its source's until it has ended: going back takes it again.
func TestWhatARolloutGaveUpIsKeptForGoingBack(t *testing.T) {
	for name, tt := range takings {
		t.Run(name, func(t *testing.T) {
			m := giveUp(t, tt.had, true, schema.SourceSpec{})
			m.push("second", 1, tt.takes+more)
			if phase, said := m.phase("second", 1); phase != schema.PhaseInvalid || !strings.Contains(said, tt.says) {
				t.Fatalf("%s: %s", phase, said)
			}
			m.until(2, schema.PhaseFailed)
			m.look("second")
			if phase, said := m.phase("second", 1); phase != schema.PhaseInvalid || !strings.Contains(said, tt.says) {
				t.Fatalf("of one that failed: %s: %s", phase, said)
			}
			m.stay()
			if got := m.revision(2); got.Phase != schema.PhaseRolledBack {
				t.Fatalf("it is %s: %+v", got.Phase, got.Phases)
			}
			m.until(1, schema.PhaseHealthy)
			if given := m.source("main").Status.GivenUp; len(given) > 0 {
				t.Errorf("after going back it has given up %q", given)
			}
		})
	}
}

// It is free as soon as the rollout has ended, and where nobody goes back.
func TestWhatIsGivenUpForGoodIsFree(t *testing.T) {
	for name, tt := range takings {
		t.Run(name, func(t *testing.T) {
			m := giveUp(t, tt.had, false, schema.SourceSpec{})
			m.push("second", 1, tt.takes+more)
			m.until(2, schema.PhaseHealthy)
			m.look("second")
			if phase, said := m.phase("second", 1); phase != schema.PhaseHealthy && phase != schema.PhaseRollingOut {
				t.Errorf("after the rollout: %s: %s", phase, said)
			}
		})
		t.Run(name+", of a source that does not go back", func(t *testing.T) {
			m := giveUp(t, tt.had, true, schema.SourceSpec{OnFailure: "hold"})
			m.push("second", 1, tt.takes+more)
			if phase, said := m.phase("second", 1); phase == schema.PhaseInvalid {
				t.Errorf("%s: %s", phase, said)
			}
		})
	}
}

// A second commit on the way keeps what the first gave up, until what would be gone back
// to is one without it.
func TestWhatIsGivenUpIsKeptOverTheNextCommit(t *testing.T) {
	m := giveUp(t, aConfig, false, schema.SourceSpec{})
	m.until(2, schema.PhaseHealthy)
	m.nodes.broken = ofTag("v3")
	m.push("main", 3, strings.ReplaceAll(pairOf, "VERSION", "v3"))
	m.push("second", 1, aConfig+more)
	if phase, said := m.phase("second", 1); phase != schema.PhaseInvalid {
		t.Fatalf("the first commit is what is gone back to, and second is %s: %s", phase, said)
	}
	m.nodes.broken = func(*corev1.Pod) bool { return false }
	m.until(3, schema.PhaseHealthy)
	m.pass(61 * time.Second)
	m.nodes.broken = ofTag("v4")
	m.push("main", 4, strings.ReplaceAll(pairOf, "VERSION", "v4"))
	m.look("second")
	if phase, said := m.phase("second", 1); phase == schema.PhaseInvalid {
		t.Errorf("the third commit is what is gone back to, and second is %s: %s", phase, said)
	}
	if given := m.source("main").Status.GivenUp; len(given) > 0 {
		t.Errorf("it has given up %q", given)
	}
}

// What a tree itself refers to and no longer declares is for another source to bring: its
// rollout waits for that.
func TestWhatItsOwnPodsWaitForIsFree(t *testing.T) {
	m := giveUp(t, aConfig, false, schema.SourceSpec{MissingReferences: schema.WaitForMissing})
	m.push("main", 3, strings.ReplaceAll(pairOf, "VERSION", "v3")+"---\n"+needsConfig)
	if given := m.source("main").Status.GivenUp; len(given) > 0 {
		t.Errorf("it has given up %q", given)
	}
	m.push("second", 1, aConfig+more)
	if phase, said := m.phase("second", 1); phase == schema.PhaseInvalid {
		t.Errorf("%s: %s", phase, said)
	}
}

// An address that the cluster chooses is none that a rollout gave up.
func TestNoServiceIsGivenWhatARolloutGaveUp(t *testing.T) {
	chosen := newFollowed(t, own("second", schema.SourceSpec{}))
	chosen.push("second", 1, servicePort("b", "}], type: NodePort}"))
	like := chosen.service("b").Spec
	had := servicePort("a", ", nodePort: "+portOf(like)+"}], type: NodePort, clusterIP: "+like.ClusterIP+"}")
	m := giveUp(t, had, true, schema.SourceSpec{})
	m.push("second", 1, servicePort("b", "}], type: NodePort}"))
	if got := m.service("b").Spec; got.ClusterIP == like.ClusterIP || portOf(got) == portOf(like) || got.ClusterIP == "" {
		t.Errorf("it was given %s and %s, which main gave up", got.ClusterIP, portOf(got))
	}
}

func portOf(spec corev1.ServiceSpec) string { return fmt.Sprint(spec.Ports[0].NodePort) }

func (f *followed) service(name string) *corev1.Service {
	f.t.Helper()
	svc, ok := state.Get[*corev1.Service](f.machine.Snapshot(), "default", name)
	if !ok {
		f.t.Fatalf("there is no service %s", name)
	}
	return svc
}
