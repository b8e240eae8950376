package schema

import (
	"testing"

	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func someRights(t *rapid.T, name string) Rights {
	spec := SourceSpec{
		Namespaces:   rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 3).Draw(t, name+" namespaces"),
		ClusterKinds: rapid.SliceOfN(rapid.SampledFrom([]string{"Namespace", "Source", "*"}), 0, 2).Draw(t, name+" kinds"),
		PodSecurity:  rapid.SampledFrom(securityLevels).Draw(t, name+" level"),
		HostPath:     new(rapid.Bool().Draw(t, name+" hostPath")),
	}
	return spec.Rights()
}

// What two sources have together is what both have, whoever is asked first.
func TestRightsTogether(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		a, b := someRights(t, "a"), someRights(t, "b")
		both := a.And(b)
		if other := b.And(a); other.String() != both.String() {
			t.Errorf("%s, asked the other way %s", both, other)
		}
		for _, namespace := range []string{"a", "b", "c", "d"} {
			if both.MayUse(namespace) != (a.MayUse(namespace) && b.MayUse(namespace)) {
				t.Errorf("namespace %s of %s and %s: %t", namespace, a, b, both.MayUse(namespace))
			}
		}
		for _, kind := range []Kind{KindNamespace, KindSource, "Node"} {
			if both.MayDeclare(kind) != (a.MayDeclare(kind) && b.MayDeclare(kind)) {
				t.Errorf("%s of %s and %s: %t", kind, a, b, both.MayDeclare(kind))
			}
		}
		if both.PodSecurity.Exceeds(a.PodSecurity) || both.PodSecurity.Exceeds(b.PodSecurity) || both.HostPath != (a.HostPath && b.HostPath) {
			t.Errorf("%s and %s make %s", a, b, both)
		}
		if all := AllRights().And(a); all.String() != a.String() {
			t.Errorf("%s under one that has all: %s", a, all)
		}
	})
}

// The master's own sources have all but what they give up, those of trees the least.
func TestDefaultRights(t *testing.T) {
	for name, test := range map[string]struct {
		spec SourceSpec
		want string
	}{
		"the master's":          {OwnSourceSpec(SourceSpec{}), "namespaces any, cluster kinds any, pod security privileged, hostPath true"},
		"of the master, narrow": {OwnSourceSpec(SourceSpec{Namespaces: []string{"b", "a", "b"}, ClusterKinds: []string{}, PodSecurity: BaselineLevel}), "namespaces [a b], cluster kinds [], pod security baseline, hostPath false"},
		"a tree's":              {DefaultSourceSpec(SourceSpec{}), "namespaces any, cluster kinds [], pod security baseline, hostPath false"},
		"stored before":         {SourceSpec{}, "namespaces any, cluster kinds [], pod security baseline, hostPath false"},
	} {
		if got := test.spec.Rights().String(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
