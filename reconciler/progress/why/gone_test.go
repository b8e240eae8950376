package why

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// rolledBack is a cluster whose commit b failed and made way for a: its pods are gone.
func rolledBack() state.Reader {
	at := metav1.NewTime(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	src.Status.Applied.Commit, src.Status.Desired.Commit = schema.Commit(strings.Repeat("a", 40)), schema.Commit(strings.Repeat("b", 40))
	good := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-" + strings.Repeat("a", 12)}, Spec: schema.RevisionSpec{Source: "main", Commit: schema.Commit(strings.Repeat("a", 40))}}
	good.Enter(schema.PhaseHealthy, at, "")
	bad := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-" + strings.Repeat("b", 12)}, Spec: schema.RevisionSpec{Source: "main", Commit: schema.Commit(strings.Repeat("b", 40)), Subject: "v2"}}
	bad.Enter(schema.PhaseSeen, at, "")
	bad.Enter(schema.PhaseRolledBack, at, "went back to aaaaaaaaaaaa: no progress for 30s")
	bad.Status.Evidence = []schema.Evidence{
		{Pod: "shop/api-7-x", Workload: "Deployment shop/api", Node: "n2", Container: "api", Code: "CrashLoop", Reason: "container api of pod api-7-x ends with exit code 1, 3 restarts", Exit: &schema.EvidenceExit{Code: 1}, At: at, Log: []string{"begin", "panic: no database"}},
		{Pod: "shop/new-1-y", Workload: "Deployment shop/new", Node: "n1", Also: []schema.NodeName{"n3"}, Container: "new", Code: "OfALaterVersion", Reason: "container new of pod new-1-y hums", At: at},
	}
	zero := int32(0)
	api := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api", UID: "d"}, Spec: appsv1.DeploymentSpec{Replicas: &zero}}
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api-6", UID: "r", OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: "api", UID: "d", Controller: new(bool)}}}, Spec: appsv1.ReplicaSetSpec{Replicas: &zero}}
	*set.OwnerReferences[0].Controller = true
	tx := state.Empty(state.Counters{}).Begin()
	for _, o := range []schema.Object{api, set} {
		schema.SetOrigin(o, schema.Origin{Source: "main", Path: "api.yaml", Line: 1, Commit: schema.Commit(strings.Repeat("a", 40))})
	}
	for _, o := range []schema.Object{src, good, bad, api, set} {
		tx.Restore(o)
	}
	return tx.Commit()
}

// When a failed revision's pods are gone, what they showed is still told: of the pod,
// of what it was of, and of the revision.
func TestWhatIsGoneIsStillExplained(t *testing.T) {
	for _, tt := range []struct {
		key  schema.Key
		code health.Code
		want []string // in the text
	}{
		{schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: "api-7-x"}, health.CrashLoop, []string{
			"it is gone with revision main-bbbbbbbbbbbb, which is RolledBack; while it was there: container api of pod api-7-x ends with exit code 1, 3 restarts",
			"Last lines of container api of pod shop/api-7-x:\n  | begin\n  | panic: no database\n",
			"gone; it was on n2",
		}},
		{schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "new"}, health.Failed, []string{"while it was there: container new of pod new-1-y hums", "gone; it was on n1 (pods on n3 showed the same)"}},
		{schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "api"}, health.Quarantined, []string{
			"What was seen of it:\n  seen in namespace shop on n2: container api of pod api-7-x ends with exit code 1, 3 restarts\n    | begin\n    | panic: no database\n",
		}},
		{schema.Key{Kind: schema.KindReplicaSet, Namespace: "shop", Name: "api-6"}, health.Quarantined, []string{"    | panic: no database\n"}},
		{schema.Key{Kind: schema.KindRevision, Name: "main-bbbbbbbbbbbb"}, health.Quarantined, []string{"    | panic: no database\n", "container new of pod new-1-y hums"}},
		{schema.Key{Kind: schema.KindSource, Name: "main"}, health.Quarantined, []string{"    | panic: no database\n"}},
	} {
		chain, err := Explain(rolledBack(), tt.key)
		if err != nil {
			t.Errorf("%s: %v", tt.key, err)
			continue
		}
		var text strings.Builder
		chain.WriteText(&text, time.Date(2026, 5, 1, 12, 1, 0, 0, time.UTC))
		if chain.Code != tt.code {
			t.Errorf("%s: code %s, want %s", tt.key, chain.Code, tt.code)
		}
		if len(chain.Evidence) == 0 {
			t.Errorf("%s: no evidence in the answer for programs", tt.key)
		}
		for _, want := range tt.want {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%s: the answer lacks %q:\n%s", tt.key, want, text.String())
			}
		}
		if n := strings.Count(text.String(), "panic: no database"); n > 1 {
			t.Errorf("%s: the line is told %d times:\n%s", tt.key, n, text.String())
		}
	}
	if _, err := Explain(rolledBack(), schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: "api"}); err == nil {
		t.Error("a pod that never was is explained")
	}
}

func TestKeptFindsWhatIsGone(t *testing.T) {
	r := rolledBack()
	pod, of := schema.Key{Kind: schema.KindPod, Namespace: "shop", Name: "api-7-x"}, schema.Key{Kind: schema.KindDeployment, Namespace: "shop", Name: "new"}
	for _, tt := range []struct {
		kind            schema.Kind
		namespace, name string
		want            []schema.Key
	}{
		{schema.KindPod, "", "api-7-x", []schema.Key{pod}},
		{schema.KindPod, "shop", "api-7-x", []schema.Key{pod}},
		{schema.KindPod, "other", "api-7-x", []schema.Key{}},
		{schema.KindDeployment, "", "new", []schema.Key{of}},
		{schema.KindDeployment, "", "api", []schema.Key{}}, // it is there
		{schema.KindService, "", "new", []schema.Key{}},
	} {
		if diff := cmp.Diff(tt.want, Kept(r, tt.kind, tt.namespace, tt.name)); diff != "" {
			t.Errorf("%s %s/%s (-want +got):\n%s", tt.kind, tt.namespace, tt.name, diff)
		}
	}
}
