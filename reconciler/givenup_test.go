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

// treeOf is a workload of its own, which fails soon, and what stands beside it.
func treeOf(name, tag string, beside ...string) string {
	return strings.Join(append([]string{strings.NewReplacer("web", name, "VERSION", tag, "replicas: 2", "replicas: 2\n  progressDeadlineSeconds: 60").Replace(pairOf)}, beside...), "---\n")
}

const lacksRoom = "          resources: {requests: {cpu: \"900\"}}\n"

func (m *misjudged) awaits(source schema.SourceName, commit int, phase schema.Phase) {
	m.t.Helper()
	for range 1000 {
		if got, _ := m.phase(source, commit); got == phase {
			return
		}
		m.pass(time.Second)
	}
	got, said := m.phase(source, commit)
	m.t.Fatalf("%s's commit %d is %s and not %s: %s", source, commit, got, phase, said)
}

var second = own("second", schema.SourceSpec{})

// takenSince is main with a second commit that ran well without something, which the
// source second has taken by now; a third commit of main that has no room stands still.
func takenSince(t *testing.T, tt asks) *misjudged {
	t.Helper()
	m := newProven(t, "---\n"+tt.had, nil, own("main", schema.SourceSpec{}), second)
	m.push("main", 2, treeOf("web", "v2"))
	m.until(2, schema.PhaseHealthy)
	m.push("second", 11, treeOf("api", "v1", tt.takes))
	m.awaits("second", 11, schema.PhaseHealthy)
	m.push("main", 3, treeOf("web", "v3"+"\n"+strings.TrimSuffix(lacksRoom, "\n")))
	m.until(3, schema.PhaseStalled)
	return m
}

// What another source has taken lawfully is that one's to give up and to take again,
// whatever the source had that it had it from.
func TestWhatWasTakenIsGivenUpByWhoHasIt(t *testing.T) {
	for name, tt := range takings {
		t.Run(name, func(t *testing.T) {
			m := takenSince(t, tt)
			for _, what := range m.source("main").Status.GivenUp {
				if strings.Contains(tt.says, what+" was given up") {
					t.Errorf("main has given up %s, which second has", what)
				}
			}
			m.nodes.broken = ofTag("broken")
			m.push("second", 12, treeOf("api", "broken"))
			m.awaits("second", 12, schema.PhaseFailed)
			if err := m.Stay(t.Context(), "second", m.repos["second"]); err != nil {
				t.Fatal(err)
			}
			if phase, said := m.phase("second", 12); phase != schema.PhaseRolledBack {
				t.Fatalf("second's commit is %s: %s", phase, said)
			}
		})
	}
}

// What a source has it moves between its objects as it likes, and what it gave up itself
// it takes again, whoever gave that up before.
func TestWhatASourceHasIsItsOwnToMove(t *testing.T) {
	tt := takings["a node port"]
	m := newProven(t, "---\n"+tt.had, nil, own("main", schema.SourceSpec{}), second)
	m.push("main", 2, treeOf("web", "v2"))
	m.until(2, schema.PhaseHealthy)
	m.push("second", 11, treeOf("api", "v1", tt.takes))
	m.awaits("second", 11, schema.PhaseHealthy)
	m.nodes.broken = ofTag("v3")
	m.push("main", 3, treeOf("web", "v3"))
	m.push("second", 12, treeOf("api", "v1", servicePort("c", ", nodePort: 30001}], type: NodePort}")))
	if phase, said := m.phase("second", 12); phase == schema.PhaseInvalid {
		t.Errorf("moved: %s", said)
	}
	m.push("second", 13, treeOf("api", "v1"))
	m.push("second", 14, treeOf("api", "v1", tt.takes))
	if phase, said := m.phase("second", 14); phase == schema.PhaseInvalid {
		t.Errorf("taken again: %s", said)
	}
}

// A rollout that stands still keeps what it gave up for a time, not for ever.
func TestWhatAStalledRolloutGaveUpIsFreeAtLast(t *testing.T) {
	for name, tt := range takings {
		t.Run(name, func(t *testing.T) {
			m := newProven(t, "---\n"+tt.had, nil, own("main", schema.SourceSpec{}), second)
			m.push("main", 2, treeOf("web", "v2"+"\n"+strings.TrimSuffix(lacksRoom, "\n")))
			m.until(2, schema.PhaseStalled)
			m.pass(9 * time.Minute)
			m.push("second", 11, tt.takes+more)
			if phase, said := m.phase("second", 11); phase != schema.PhaseInvalid || !strings.Contains(said, tt.says[:20]) {
				t.Fatalf("after nine minutes: %s: %s", phase, said)
			}
			m.pass(2 * time.Minute)
			m.look("second")
			if phase, said := m.phase("second", 11); phase == schema.PhaseInvalid {
				t.Errorf("after eleven minutes: %s", said)
			}
		})
	}
}

// Where going back is barred by what another source has, nothing is kept for it.
func TestNothingIsKeptForAWayBackThatOthersBar(t *testing.T) {
	tt := takings["a node port"]
	m := newProven(t, "---\n"+tt.had+"---\n"+aConfig, nil, own("main", schema.SourceSpec{}), second)
	m.push("main", 2, treeOf("web", "v2", aConfig))
	m.until(2, schema.PhaseHealthy)
	m.push("second", 11, treeOf("api", "v1", tt.takes))
	m.awaits("second", 11, schema.PhaseHealthy)
	m.nodes.broken = ofTag("v3")
	m.push("main", 3, treeOf("web", "v3"))
	m.push("second", 12, treeOf("api", "v1", tt.takes, aConfig))
	if phase, said := m.phase("second", 12); phase != schema.PhaseInvalid {
		t.Fatalf("while main may go back second is %s: %s", phase, said)
	}
	m.until(3, schema.PhaseFailed)
	m.stay()
	if got := m.revision(3); got.Phase != schema.PhaseHeld {
		t.Fatalf("main is %s: %+v", got.Phase, got.Phases)
	}
	m.look("second")
	if phase, said := m.phase("second", 12); phase == schema.PhaseInvalid {
		t.Errorf("main cannot go back: %s", said)
	}
}

// What pods can do without is not waited for, and stays given up.
func TestAnOptionalReferenceFreesNothing(t *testing.T) {
	const secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: shared}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{\"auths\": {}}'}\n"
	for name, tt := range map[string]struct{ had, refers, given string }{
		"an environment": {aConfig, "          envFrom: [{configMapRef: {name: shared, optional: true}}]\n", "ConfigMap default/shared"},
		"a pull secret":  {secret, "      imagePullSecrets: [{name: shared}]\n", "Secret default/shared"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newProven(t, "---\n"+tt.had, nil, own("main", schema.SourceSpec{MissingReferences: schema.WaitForMissing}))
			m.push("main", 2, treeOf("web", "v2")+tt.refers)
			if given := m.source("main").Status.GivenUp; len(given) != 1 || given[0] != tt.given {
				t.Errorf("given up is %q", given)
			}
		})
	}
}
