package pod

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNestedMounts(t *testing.T) {
	const volumes = "volumes: [{name: cfg, configMap: {name: c}}, {name: key, secret: {secretName: s}}, {name: all, projected: {sources: []}}, {name: d, emptyDir: {}}, {name: e, emptyDir: {}}]\n"
	tests := []struct {
		name, container string
		want            []Nested
	}{
		{"nothing", "{name: c}", nil},
		{"beside each other", "{name: c, volumeMounts: [{name: cfg, mountPath: /cfg}, {name: d, mountPath: /cfg-d}]}", nil},
		{"below a ConfigMap", "{name: c, volumeMounts: [{name: cfg, mountPath: /cfg}, {name: d, mountPath: /cfg/run}]}", []Nested{{0, "run", 1}}},
		{"listed before it", "{name: c, volumeMounts: [{name: d, mountPath: /cfg/a/run/}, {name: cfg, mountPath: /cfg/}]}", []Nested{{1, "a/run", 0}}},
		{"below a Secret and a projection", "{name: c, volumeMounts: [{name: key, mountPath: /k}, {name: all, mountPath: /k/all}, {name: d, mountPath: /k/all/d}]}",
			[]Nested{{0, "all", 1}, {1, "d", 2}}},
		{"the innermost counts", "{name: c, volumeMounts: [{name: cfg, mountPath: /c}, {name: d, mountPath: /c/d}, {name: e, mountPath: /c/d/e}]}", []Nested{{0, "d", 1}}},
		{"one that is read-only here", "{name: c, volumeMounts: [{name: d, mountPath: /d, readOnly: true}, {name: e, mountPath: /d/e}]}", []Nested{{0, "e", 1}}},
		{"files of ours", "{name: c, terminationMessagePath: /cfg/why, volumeMounts: [{name: cfg, mountPath: /cfg}]}", []Nested{{0, "why", FileOfOurs}}},
		{"all of /etc and /dev", "{name: c, volumeMounts: [{name: cfg, mountPath: /etc}, {name: key, mountPath: /dev}, {name: d, mountPath: /etc/hosts}]}",
			[]Nested{{0, "hosts", 2}, {1, "shm", DirOfOurs}, {0, "hostname", FileOfOurs}, {0, "resolv.conf", FileOfOurs}}},
	}
	for _, test := range tests {
		p := podFrom(t, volumes+"containers: ["+test.container+"]")
		if diff := cmp.Diff(test.want, NestedMounts(p, &p.Spec.Containers[0])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestMountsIn(t *testing.T) {
	p := podFrom(t, `
volumes: [{name: cfg, configMap: {name: c}}, {name: d, emptyDir: {}}]
initContainers: [{name: i, volumeMounts: [{name: cfg, mountPath: /c}, {name: d, mountPath: /c/x/y}]}]
containers:
- {name: a, volumeMounts: [{name: cfg, mountPath: /c}, {name: d, mountPath: /c/run}]}
- {name: b, volumeMounts: [{name: cfg, mountPath: /other}, {name: d, mountPath: /other/run}]}
- {name: part, volumeMounts: [{name: cfg, mountPath: /c, subPath: sub}, {name: d, mountPath: /c/not}]}`)
	if diff := cmp.Diff([]string{"run", "x/y"}, MountsIn(p, "cfg")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := MountsIn(p, "d"); got != nil {
		t.Errorf("in what is written to: %v", got)
	}
}
