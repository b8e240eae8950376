package schema

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

func sampleDeployment() *appsv1.Deployment {
	d := &appsv1.Deployment{}
	d.Name, d.Namespace = "api", "shop"
	d.Labels = map[string]string{"app": "api"}
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "api"}}
	d.Spec.Template.Labels = map[string]string{"app": "api"}
	d.Spec.Template.Spec = corev1.PodSpec{
		Containers: []corev1.Container{
			{
				Name: "api", Image: "localhost/api:v1",
				Env:       []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)"}},
				Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: 80}, {ContainerPort: 53, Protocol: corev1.ProtocolUDP}},
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("500m")}},
			},
			{Name: "side", Image: "localhost/side:v1"},
		},
		Volumes: []corev1.Volume{{Name: "one"}, {Name: "two"}},
	}
	Default(d)
	return d
}

func TestDiff(t *testing.T) {
	tests := []struct {
		name   string
		change func(*appsv1.Deployment)
		want   []FieldChange
	}{
		{"nothing", func(*appsv1.Deployment) {}, nil},
		{"image", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "localhost/api:v2" },
			[]FieldChange{{"spec.template.spec.containers[name=api].image", "localhost/api:v1", "localhost/api:v2"}}},
		{"the same quantity", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("0.5")
		}, nil},
		{"another quantity", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("1")
		}, []FieldChange{{"spec.template.spec.containers[name=api].resources.requests[cpu]", "500m", "1"}}},
		{"an added label", func(d *appsv1.Deployment) { d.Labels["tier"] = "front" },
			[]FieldChange{{"metadata.labels[tier]", "", "front"}}},
		{"an emptied label", func(d *appsv1.Deployment) { d.Labels["app"] = "" },
			[]FieldChange{{"metadata.labels[app]", "api", `""`}}},
		{"what the cluster writes", func(d *appsv1.Deployment) {
			d.UID, d.ResourceVersion, d.Generation, d.CreationTimestamp = "u", "7", 3, metav1.Now()
			d.Status.Replicas = 2
			SetOrigin(d, Origin{Source: "main", Path: "a.yaml", Line: 3, Commit: "abc"})
		}, nil},
		{"the order of volumes and ports", func(d *appsv1.Deployment) {
			slices.Reverse(d.Spec.Template.Spec.Volumes)
			slices.Reverse(d.Spec.Template.Spec.Containers[0].Ports)
		}, nil},
		{"the order of the environment", func(d *appsv1.Deployment) { slices.Reverse(d.Spec.Template.Spec.Containers[0].Env) },
			[]FieldChange{{"spec.template.spec.containers[name=api].env", "order name=A, name=B", "order name=B, name=A"}}},
		{"a nameless port", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Ports[1].HostPort = 53 },
			[]FieldChange{{"spec.template.spec.containers[name=api].ports[containerPort=53/UDP].hostPort", "0", "53"}}},
		{"a container gone", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers = d.Spec.Template.Spec.Containers[:1]
		}, []FieldChange{{"spec.template.spec.containers[name=side]", `{"name":"side","image":"localhost/side:v1","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}`, ""}}},
		{"arguments", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Args = []string{"-v"} },
			[]FieldChange{{"spec.template.spec.containers[name=api].args", "", `["-v"]`}}},
		{"a count and a percentage", func(d *appsv1.Deployment) {
			*d.Spec.Replicas = 3
			*d.Spec.Strategy.RollingUpdate.MaxSurge = intstr.FromInt32(1)
		}, []FieldChange{{"spec.replicas", "1", "3"}, {"spec.strategy.rollingUpdate.maxSurge", "25%", "1"}}},
		{"an empty security context", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.SecurityContext = &corev1.PodSecurityContext{}
			d.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		}, nil},
		{"an empty volume source is a choice", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x"}}
		}, []FieldChange{{"spec.template.spec.volumes[name=one].emptyDir", "{}", ""}, {"spec.template.spec.volumes[name=one].hostPath", "", `{"path":"/x"}`}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := sampleDeployment(), sampleDeployment()
			test.change(b)
			if diff := cmp.Diff(test.want, Diff(a, b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got, want := Equal(a, b), len(test.want) == 0; got != want {
				t.Errorf("Equal is %t, want %t", got, want)
			}
		})
	}
}

func TestDiffNeverShowsSecrets(t *testing.T) {
	secret := func(values map[string]string) *corev1.Secret {
		s := &corev1.Secret{StringData: values}
		s.Name = "s"
		Default(s)
		return s
	}
	a := secret(map[string]string{"changed": "hunter1", "removed": "hunter2", "same": "hunter3"})
	b := secret(map[string]string{"changed": "hunter4", "added": "hunter5", "same": "hunter3"})
	want := []FieldChange{
		{"data[added]", "", "(added)"},
		{"data[changed]", "(changed)", "(changed)"},
		{"data[removed]", "(removed)", ""},
	}
	if diff := cmp.Diff(want, Diff(a, b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]FieldChange{{Path: "data[removed]", From: "(removed)"}}, Diff(secret(map[string]string{"removed": "hunter2"}), secret(nil))); diff != "" {
		t.Errorf("the last key (-want +got):\n%s", diff)
	}
}

// Diff is empty exactly when Equal says so, tells the same paths both ways
// round, and its paths are distinct.
func TestDiffProperties(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		a, b := drawDeployment(t), drawDeployment(t)
		forth, back := Diff(a, b), Diff(b, a)
		if Equal(a, b) != (len(forth) == 0) {
			t.Fatalf("Equal is %t, Diff is %v", Equal(a, b), forth)
		}
		if len(forth) != len(back) {
			t.Fatalf("%v one way, %v the other", forth, back)
		}
		for i := range forth {
			if forth[i].Path != back[i].Path || forth[i].From != back[i].To || forth[i].To != back[i].From {
				t.Fatalf("%+v one way, %+v the other", forth[i], back[i])
			}
			if i > 0 && forth[i].Path == forth[i-1].Path {
				t.Fatalf("%s twice", forth[i].Path)
			}
			if forth[i].From == forth[i].To {
				t.Fatalf("no difference in %+v", forth[i])
			}
		}
		again := a.DeepCopy()
		again.UID, again.Status.Replicas = "other", 9
		if changes := Diff(a, again); len(changes) > 0 {
			t.Fatalf("a copy differs: %v", changes)
		}
		if !Equal(shuffled(t, a), a) {
			t.Fatalf("order of sets shows: %v", Diff(shuffled(t, a), a))
		}
	})
}

func drawDeployment(t *rapid.T) *appsv1.Deployment {
	name := rapid.SampledFrom([]string{"a", "b", "c"})
	word := rapid.SampledFrom([]string{"", "x", "y"})
	quantity := rapid.SampledFrom([]string{"500m", "0.5", "1", "1000m", "1Gi", "1024Mi", "1073741824"})
	d := &appsv1.Deployment{}
	d.Name = "d"
	d.Annotations = rapid.MapOfN(name, word, 0, 2).Draw(t, "annotations")
	d.Spec.Template.Labels = rapid.MapOfN(name, word, 0, 2).Draw(t, "labels")
	d.Spec.Template.Spec.NodeSelector = rapid.MapOfN(name, word, 0, 2).Draw(t, "nodeSelector")
	for i, n := range rapid.SliceOfNDistinct(name, 1, 3, rapid.ID[string]).Draw(t, "containers") {
		c := corev1.Container{Name: n, Image: "localhost/" + n}
		for _, e := range rapid.SliceOfN(name, 0, 3).Draw(t, fmt.Sprint("env", i)) { // names may repeat
			c.Env = append(c.Env, corev1.EnvVar{Name: strings.ToUpper(e), Value: word.Draw(t, "value")})
		}
		for _, p := range rapid.SliceOfN(rapid.Int32Range(1, 3), 0, 3).Draw(t, fmt.Sprint("ports", i)) {
			c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: p, Name: word.Draw(t, "port")})
		}
		c.Args = rapid.SliceOfN(word, 0, 2).Draw(t, fmt.Sprint("args", i))
		c.Resources.Requests = corev1.ResourceList{"memory": resource.MustParse(quantity.Draw(t, "memory"))}
		d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, c)
	}
	for _, n := range rapid.SliceOfNDistinct(name, 0, 3, rapid.ID[string]).Draw(t, "volumes") {
		d.Spec.Template.Spec.Volumes = append(d.Spec.Template.Spec.Volumes, corev1.Volume{Name: n})
	}
	Default(d)
	return d
}

func shuffled(t *rapid.T, d *appsv1.Deployment) *appsv1.Deployment {
	out := d.DeepCopy()
	out.Spec.Template.Spec.Volumes = rapid.Permutation(out.Spec.Template.Spec.Volumes).Draw(t, "order")
	return out
}
