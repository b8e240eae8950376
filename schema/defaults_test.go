package schema

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestNormalizeImage(t *testing.T) {
	tests := []struct{ in, want string }{
		{"nginx", "docker.io/library/nginx:latest"},
		{"nginx:1.27", "docker.io/library/nginx:1.27"},
		{"team/app:v1", "docker.io/team/app:v1"},
		{"localhost/app:v1", "localhost/app:v1"},
		{"localhost/app", "localhost/app:latest"},
		{"localhost:5000/app:v1", "localhost:5000/app:v1"},
		{"registry.example/team/app:v1", "registry.example/team/app:v1"},
		{"app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "docker.io/library/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"", ""},
		{"Nginx", ""},
		{"nginx:1.0:2", ""},
		{"nginx latest", ""},
	}
	for _, test := range tests {
		got, err := NormalizeImage(test.in)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("NormalizeImage(%q) = %q, %v, want %q", test.in, got, err, test.want)
		}
		if again, _ := NormalizeImage(got); got != "" && again != got {
			t.Errorf("NormalizeImage(%q) = %q, not itself", got, again)
		}
	}
}

func TestPullPolicyFollowsTag(t *testing.T) {
	tests := []struct {
		image string
		want  corev1.PullPolicy
	}{
		{"nginx", corev1.PullAlways},
		{"nginx:latest", corev1.PullAlways},
		{"nginx:1.27", corev1.PullIfNotPresent},
		{"localhost/app:v1", corev1.PullIfNotPresent},
		{"app:latest@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", corev1.PullIfNotPresent},
	}
	for _, test := range tests {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a", Image: test.image}}}}
		Default(pod)
		if got := pod.Spec.Containers[0].ImagePullPolicy; got != test.want {
			t.Errorf("%s: got %s, want %s", test.image, got, test.want)
		}
	}
}

func TestDefaultDeployment(t *testing.T) {
	d := &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "a", Image: "localhost/a:v1",
			Ports:          []corev1.ContainerPort{{ContainerPort: 80}},
			Resources:      corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("1")}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}},
			Env:            []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
		}},
		Volumes: []corev1.Volume{{Name: "v"}, {Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}}},
	}}}}
	Default(d)
	spec := d.Spec.Template.Spec
	c := spec.Containers[0]
	got := []any{
		*d.Spec.Replicas, *d.Spec.RevisionHistoryLimit, *d.Spec.ProgressDeadlineSeconds,
		d.Spec.Strategy.Type, d.Spec.Strategy.RollingUpdate.MaxSurge.String(), d.Spec.Strategy.RollingUpdate.MaxUnavailable.String(),
		spec.RestartPolicy, spec.DNSPolicy, spec.SchedulerName, *spec.TerminationGracePeriodSeconds, *spec.EnableServiceLinks,
		c.Ports[0].Protocol, c.Resources.Requests.Cpu().String(), c.ReadinessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Scheme,
		c.ReadinessProbe.PeriodSeconds, c.ReadinessProbe.TimeoutSeconds, c.ReadinessProbe.SuccessThreshold, c.ReadinessProbe.FailureThreshold,
		c.Env[0].ValueFrom.FieldRef.APIVersion, spec.Volumes[0].EmptyDir != nil, *spec.Volumes[1].ConfigMap.DefaultMode,
	}
	want := []any{
		int32(1), int32(10), int32(600),
		appsv1.RollingUpdateDeploymentStrategyType, "25%", "25%",
		corev1.RestartPolicyAlways, corev1.DNSClusterFirst, "default-scheduler", int64(30), true,
		corev1.ProtocolTCP, "1", "/", corev1.URISchemeHTTP,
		int32(10), int32(1), int32(1), int32(3),
		"v1", true, int32(0o644),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	again := d.DeepCopy()
	Default(again)
	if diff := cmp.Diff(d, again); diff != "" {
		t.Errorf("defaulting twice (-once +twice):\n%s", diff)
	}
}

func TestDefaultServiceAndSecret(t *testing.T) {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Ports: []corev1.ServicePort{{Port: 80}, {Port: 81, TargetPort: intstr.FromString("admin")}}}}
	Default(s)
	if got := s.Spec.Ports[0]; got.Protocol != corev1.ProtocolTCP || got.TargetPort != intstr.FromInt32(80) {
		t.Errorf("port: %+v", got)
	}
	if got := s.Spec.Ports[1].TargetPort; got != intstr.FromString("admin") {
		t.Errorf("named target port: %v", got)
	}
	if s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyCluster || s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
		t.Errorf("service: %+v", s.Spec)
	}
	secret := &corev1.Secret{Data: map[string][]byte{"a": []byte("old"), "b": []byte("kept")}, StringData: map[string]string{"a": "new"}}
	Default(secret)
	if string(secret.Data["a"]) != "new" || string(secret.Data["b"]) != "kept" || secret.StringData != nil || secret.Type != corev1.SecretTypeOpaque {
		t.Errorf("secret: %+v", secret)
	}
}

func TestDefaultSourceSpec(t *testing.T) {
	got := DefaultSourceSpec(SourceSpec{Embedded: true, Branch: "prod"})
	want := SourceSpec{
		Embedded: true, Branch: "prod", Path: ".", Namespace: "default", Unsupported: "error", MissingReferences: "error", OnFailure: "rollback", PruneLimit: "50%", PodSecurity: BaselineLevel,
		Interval: &metav1.Duration{Duration: 30 * time.Second}, ProgressDeadline: &metav1.Duration{Duration: 10 * time.Minute}, HealthyFor: &metav1.Duration{Duration: time.Minute},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
