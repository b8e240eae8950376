package settle

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

func configMap(namespace, name string) schema.Object {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func namespace(name string) schema.Object {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	schema.Default(ns)
	return ns
}

// A namespace that nobody declares is made with the first object in it where the source
// has it made. It belongs to nobody: it stays when its objects go, whoever declares it
// takes it over, and once it is declared no more it stays while it is in use.
func TestNamespacesAreMade(t *testing.T) {
	at := state.Empty(state.Counters{})
	apply := func(objects ...schema.Object) (told []string) {
		var all []*schema.Desired
		for _, obj := range objects {
			schema.SetOrigin(obj, schema.Origin{Source: "main", Path: "a.yaml", Line: 1, Commit: "abc"})
			all = append(all, &schema.Desired{Object: obj, Position: schema.Position{Path: "a.yaml", Line: 1}})
		}
		slices.SortFunc(all, func(a, b *schema.Desired) int { return schema.KeyOf(a.Object).Compare(schema.KeyOf(b.Object)) })
		changes, diags := Difference(at, "main", all)
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		tx := at.Begin()
		for _, ch := range changes {
			told = append(told, fmt.Sprint(ch.Action, " ", ch.Key))
		}
		Apply(&control.Context{Tx: tx, Now: now}, changes)
		at = tx.Commit()
		if again, _ := Difference(at, "main", all); len(again) > 0 {
			t.Errorf("applied again: %v", again)
		}
		return told
	}
	spec := func(change func(*schema.SourceSpec)) {
		tx := at.Begin()
		src := &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: schema.OwnSourceSpec(schema.SourceSpec{})}
		change(&src.Spec)
		tx.Put(src)
		at = tx.Commit()
	}
	inShop := func() schema.Object { return configMap("shop", "a") }
	for _, step := range []struct {
		name    string
		creates bool
		tree    []schema.Object
		want    []string
	}{
		{"given ones always", false, []schema.Object{configMap("kube-system", "a")}, []string{"create ConfigMap kube-system/a", "create Namespace kube-system"}},
		{"others when asked", true, []schema.Object{inShop(), configMap("shop", "b"), configMap("default", "c")},
			[]string{"prune ConfigMap kube-system/a", "create ConfigMap default/c", "create ConfigMap shop/a", "create ConfigMap shop/b", "create Namespace shop"}},
		{"it stays when all in it goes", true, nil, []string{"prune ConfigMap default/c", "prune ConfigMap shop/a", "prune ConfigMap shop/b"}},
		{"it is there", true, []schema.Object{inShop()}, []string{"create ConfigMap shop/a"}},
		{"declared, it is taken over", true, []schema.Object{inShop(), namespace("shop")}, []string{"update Namespace shop"}},
		{"declared no more and in use, it stays", true, []schema.Object{inShop()}, []string{"update Namespace shop"}},
		{"nor does it go later", true, nil, []string{"prune ConfigMap shop/a"}},
		{"declared, one is not made besides", true, []schema.Object{configMap("new", "a"), namespace("new")}, []string{"create ConfigMap new/a", "create Namespace new"}},
		{"not in use, what was declared goes", true, nil, []string{"prune ConfigMap new/a", "prune Namespace new"}},
	} {
		spec(func(s *schema.SourceSpec) { s.CreateNamespaces = step.creates })
		got := apply(step.tree...)
		slices.Sort(got)
		slices.Sort(step.want)
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

// What a source may not make is refused also where the tree was judged before its rights,
// or the declaration of another source, went; and nobody fills the cluster with namespaces.
func TestNamespacesAreNotMade(t *testing.T) {
	for _, c := range []struct {
		name  string
		kinds []string
		there int // that nobody declares
		want  string
	}{
		{"without the right", nil, 0, `no namespace "shop" is declared, and this source may not make it`},
		{"without room", []string{"Namespace"}, maxMade, `namespace "shop" is not made: there are 1000 already that nobody declares`},
		{"with both", []string{"Namespace"}, maxMade - 1, ""},
	} {
		tx := state.Empty(state.Counters{}).Begin()
		spec := schema.DefaultSourceSpec(schema.SourceSpec{CreateNamespaces: true, ClusterKinds: c.kinds})
		tx.Put(&schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}, Spec: spec})
		for i := range c.there {
			tx.Put(schema.NewNamespace(fmt.Sprint("n", i)))
		}
		_, diags := Difference(tx.Commit(), "main", []*schema.Desired{{Object: configMap("shop", "a")}})
		got := ""
		for _, d := range diags {
			got += d.Message
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// What declares namespaces is asked of the kind's row; a kind that this version does not
// know declares none.
func TestUnknownKindsDeclareNoNamespace(t *testing.T) {
	h := newHomes(state.Empty(state.Counters{}), "main")
	h.see(schema.Key{Kind: "Later", Namespace: "shop", Name: "a"}, &schema.Desired{})
	if len(h.declared) > 0 || !h.used["shop"] {
		t.Errorf("declared %v, used %v", h.declared, h.used)
	}
}
