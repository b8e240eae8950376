package plan

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// What is mounted with a subPath, written or expanded, does not follow its object.
func TestAMountOfAPartIsReadAtStart(t *testing.T) {
	for name, test := range map[string]struct {
		mount corev1.VolumeMount
		want  bool
	}{
		"whole":       {corev1.VolumeMount{Name: "v"}, false},
		"subPath":     {corev1.VolumeMount{Name: "v", SubPath: "a"}, true},
		"subPathExpr": {corev1.VolumeMount{Name: "v", SubPathExpr: "$(POD)"}, true},
	} {
		spec := &corev1.PodSpec{
			Volumes:    []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "conf"}}}}},
			Containers: []corev1.Container{{Name: "c", VolumeMounts: []corev1.VolumeMount{test.mount}}},
		}
		refs := 0
		for ref := range schema.References(spec) {
			refs++
			if got := readAtStart(spec, ref); got != test.want {
				t.Errorf("%s: %v", name, got)
			}
		}
		if refs != 1 {
			t.Errorf("%s: %d references", name, refs)
		}
	}
}
