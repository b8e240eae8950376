package why

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

func TestFindTakesWhatIsMeant(t *testing.T) {
	tx := state.Empty(state.Counters{}).Begin()
	for _, key := range [][2]string{{"default", "api"}, {"shop", "api"}, {"shop", "web"}, {"a", "twice"}, {"b", "twice"}} {
		tx.Put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key[0], Name: key[1]}})
	}
	commit := schema.Commit("4f2a1c0d9b3e4f2a1c0d9b3e4f2a1c0d9b3e4f2a")
	tx.Put(&schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: string(schema.RevisionOf("main", commit))}, Spec: schema.RevisionSpec{Source: "main", Commit: commit}})
	cluster := tx.Commit()
	tests := []struct {
		kind            schema.Kind
		namespace, name string
		want, err       string
	}{
		{schema.KindPod, "", "api", "Pod default/api", ""},
		{schema.KindPod, "shop", "api", "Pod shop/api", ""},
		{schema.KindPod, "", "web", "Pod shop/web", ""},
		{schema.KindPod, "default", "web", "", "there is no Pod default/web"},
		{schema.KindPod, "", "twice", "", `"twice" is more than one object: Pod a/twice, Pod b/twice`},
		{schema.KindRevision, "", string(commit), "Revision " + string(schema.RevisionOf("main", commit)), ""},
		{schema.KindRevision, "shop", commit.Short(), "Revision " + string(schema.RevisionOf("main", commit)), ""},
	}
	for _, test := range tests {
		key, err := Find(cluster, schema.Info(test.kind), test.namespace, test.name)
		switch {
		case err != nil && err.Error() != test.err, err == nil && (test.err != "" || key.String() != test.want):
			t.Errorf("%s %s/%s: got %v, %v; want %q, %q", test.kind, test.namespace, test.name, key, err, test.want, test.err)
		}
	}
}
