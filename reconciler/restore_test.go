package reconciler_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/objecttest"
	"fairlead/schema/wire"
)

// records are what a store has of a snapshot.
func records(t *testing.T, s *state.Snapshot) []wire.Record {
	t.Helper()
	var out []wire.Record
	for _, info := range schema.Kinds() {
		for obj := range s.List(info.Kind, "") {
			data, err := wire.EncodeObject(obj)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, wire.Record{Key: schema.KeyOf(obj), ResourceVersion: 1 << 40, Object: data})
		}
	}
	return out
}

// keys are those of everything but events, whose names tell when and why.
func keys(s *state.Snapshot) (out []string) {
	for _, info := range schema.Kinds() {
		for obj := range s.List(info.Kind, "") {
			if info.Kind != schema.KindEvent {
				out = append(out, schema.KeyOf(obj).String())
			}
		}
	}
	return out
}

// damages are ways in which a record may have become unreadable.
var damages = map[string]func(wire.Record) []byte{
	"nothing":          func(wire.Record) []byte { return nil },
	"noise":            func(wire.Record) []byte { return []byte("P\xff\xff\xff\xff\x01") },
	"no object at all": func(wire.Record) []byte { return []byte("P") },
	"JSON that ends":   func(wire.Record) []byte { return []byte(`{"metadata":{"name":"`) },
	"a list":           func(wire.Record) []byte { return []byte(`[]`) },
	"a name and no more": func(r wire.Record) []byte {
		return []byte(`{"metadata":{"name":"` + r.Key.Name + `","namespace":"` + r.Key.Namespace + `"}}`)
	},
	"another's object": func(r wire.Record) []byte {
		return []byte(`{"metadata":{"name":"other","namespace":"` + r.Key.Namespace + `"}}`)
	},
	"a time of the year 10000": func(r wire.Record) []byte {
		return []byte(`{"metadata":{"creationTimestamp":"10000-01-01T00:00:00Z","name":"` + r.Key.Name + `","namespace":"` + r.Key.Namespace + `"}}`)
	},
}

// One record that cannot be read keeps nothing else from being there. What Git asks
// for is made anew, and no pod ends that did not hang from what was lost.
func TestUnreadableRecordsKeepNothingFromStarting(t *testing.T) {
	for _, info := range schema.Kinds() {
		t.Run(string(info.Kind), func(t *testing.T) {
			for _, damage := range slices.Sorted(maps.Keys(damages)) {
				c := newCluster(t, 2)
				cand := shop(t, objecttest.Commit(1), "v1", withIdleJobs)
				c.push(cand)
				c.untilPhase(objecttest.Commit(1), schema.PhaseHealthy)
				before := c.machine.Snapshot()
				all := records(t, before)
				i := slices.IndexFunc(all, func(r wire.Record) bool { return r.Key.Kind == info.Kind })
				if i < 0 {
					t.Fatalf("there is no %s to damage", info.Kind)
				}
				harmless := damage == "a name and no more" && !slices.Contains([]schema.Kind{
					schema.KindDeployment, schema.KindReplicaSet, schema.KindJob, schema.KindCronJob, schema.KindPod, schema.KindSource, schema.KindRevision}, info.Kind)
				all[i].Object = damages[damage](all[i])
				restored, unreadable := reconciler.Restore(all, before.Counters())
				if harmless != (len(unreadable) == 0) {
					t.Fatalf("%s: told of %v", damage, unreadable)
				}
				if harmless {
					continue
				}
				if len(unreadable) != 1 || unreadable[0].Key != wire.StoreKey(all[i].Key) || !strings.Contains(unreadable[0].Why, all[i].Key.String()) {
					t.Errorf("%s: told of %v", damage, unreadable)
				}
				c.startAgain(restored, unreadable)
				c.again(cand)
				if got, want := keys(c.machine.Snapshot()), keys(before); !alike(info.Kind, got, want) {
					t.Errorf("%s of %s: there is %v\nwas %v", damage, all[i].Key, got, want)
				}
			}
		})
	}
}

// withIdleJobs adds a Job and a CronJob that are suspended.
func withIdleJobs(objects []*schema.Desired) []*schema.Desired {
	yes, pods := true, corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "c", Image: "localhost/c:1"}}}}
	about := metav1.ObjectMeta{Name: "idle", Namespace: "shop"}
	for _, obj := range []schema.Object{
		&batchv1.Job{ObjectMeta: about, Spec: batchv1.JobSpec{Suspend: &yes, Template: pods}},
		&batchv1.CronJob{ObjectMeta: about, Spec: batchv1.CronJobSpec{Suspend: &yes, Schedule: "@hourly", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: pods}}}},
	} {
		schema.Default(obj)
		schema.InheritOrigin(obj, objects[0].Object)
		objects = append(objects, asDesired(obj))
	}
	slices.SortFunc(objects, func(a, b *schema.Desired) int { return schema.KeyOf(a.Object).Compare(schema.KeyOf(b.Object)) })
	return objects
}

// alike compares what is there; pods and endpoints that are made anew have other
// names.
func alike(lost schema.Kind, got, want []string) bool {
	if !slices.Contains([]schema.Kind{schema.KindPod, schema.KindReplicaSet, schema.KindDeployment, schema.KindService, schema.KindEndpointSlice}, lost) {
		return slices.Equal(got, want)
	}
	kinds := func(all []string) (out []string) {
		for _, key := range all {
			if strings.HasPrefix(key, "Pod ") || strings.HasPrefix(key, "EndpointSlice ") {
				key, _, _ = strings.Cut(key, " ")
			}
			out = append(out, key)
		}
		return out
	}
	return slices.Equal(kinds(got), kinds(want))
}

// startAgain starts a machine from what could be read.
func (c *cluster) startAgain(s *state.Snapshot, unreadable []wire.Unreadable) {
	spec := schema.DefaultSourceSpec(schema.SourceSpec{Embedded: true})
	src := schema.Source{Spec: spec}
	src.Name = "main"
	c.machine = reconciler.NewMachine(c.engine, s, []schema.Source{src})
	c.machine.Missing(unreadable)
	c.step()
}

// again does what a follower does at its first look, and lets the cluster settle.
func (c *cluster) again(cand reconciler.Candidate) {
	c.t.Helper()
	src := c.source()
	if src.Status.Applied.Commit == "" {
		c.push(cand)
	} else {
		if !meta.IsStatusConditionFalse(src.Status.Conditions, schema.ConditionComplete) {
			c.t.Errorf("the source does not say that something is missing: %v", src.Status.Conditions)
		}
		cand.Again = true
		c.rest(cand)
		if !meta.IsStatusConditionTrue(c.source().Status.Conditions, schema.ConditionComplete) {
			c.t.Errorf("the source is not whole again: %v", c.source().Status.Conditions)
		}
	}
	c.untilPhase(cand.Commit.Hash, schema.PhaseHealthy)
	for range 90 { // no pod goes for want of a node that is heard
		c.step()
	}
	c.rest()
}

// The pods of a node whose record cannot be read stay as they are.
func TestPodsOfAnUnreadableNodeStay(t *testing.T) {
	c := newCluster(t, 2)
	cand := shop(t, objecttest.Commit(1), "v1", nil)
	c.push(cand)
	c.untilPhase(objecttest.Commit(1), schema.PhaseHealthy)
	placed := c.placed()
	before := c.machine.Snapshot()
	all := records(t, before)
	for i := range all {
		if k := all[i].Key.Kind; k == schema.KindNode || k == schema.KindNamespace {
			all[i].Object = nil
		}
	}
	restored, unreadable := reconciler.Restore(all, before.Counters())
	c.startAgain(restored, unreadable)
	c.again(cand)
	if got := c.placed(); !slices.Equal(got, placed) {
		t.Errorf("pods are %v, were %v", got, placed)
	}
	for pod := range state.All[*corev1.Pod](c.machine.Snapshot(), "") {
		old, ok := state.PodByUID(before, pod.UID)
		if !ok || old.Name != pod.Name {
			t.Errorf("pod %s is another one", pod.Name)
		}
	}
}

// What is applied again is not valid any more: the source says so once, and nothing
// is done.
func TestApplyingAgainWhatIsInvalid(t *testing.T) {
	c := newCluster(t, 2)
	cand := shop(t, objecttest.Commit(1), "v1", nil)
	c.push(cand)
	c.untilPhase(objecttest.Commit(1), schema.PhaseHealthy)
	c.startAgain(c.machine.Snapshot(), []wire.Unreadable{{Key: "/fairlead/v1/o/nothing", Why: "a test"}})
	cand.Again = true
	cand.Diagnostics = schema.Diagnostics{{Severity: schema.Error, Position: schema.Position{Path: "a.yaml", Line: 3}, Message: "a mistake"}}
	c.rest(cand)
	writes := c.writes
	c.rest(cand)
	cond := meta.FindStatusCondition(c.source().Status.Conditions, schema.ConditionComplete)
	if cond == nil || cond.Status != "False" || !strings.Contains(cond.Message, "a.yaml:3: a mistake") || c.writes != writes {
		t.Errorf("the source says %+v, after %d writes more", cond, c.writes-writes)
	}
}
