package schema

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// fieldsOfProblems are the fields alone, for tests of what is judged; the words
// are tested by the scripts in testdata/validate.
func fieldsOfProblems(problems []FieldProblem) []string {
	var out []string
	for _, p := range problems {
		out = append(out, p.Field)
	}
	return out
}

func TestValidDeployment(t *testing.T) {
	if got := Validate(sampleDeployment()); len(got) > 0 {
		t.Errorf("problems: %+v", got)
	}
}

func TestValidateDeployment(t *testing.T) {
	const pod = "spec.template.spec."
	const container = pod + "containers[0]."
	change := func(f func(*corev1.Container)) func(*appsv1.Deployment) {
		return func(d *appsv1.Deployment) { f(&d.Spec.Template.Spec.Containers[0]) }
	}
	fieldPath := func(path string) func(*appsv1.Deployment) {
		return change(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}}
		})
	}
	tests := []struct {
		name   string
		change func(*appsv1.Deployment)
		want   string
	}{
		{"no name", func(d *appsv1.Deployment) { d.Name = "" }, "metadata.name"},
		{"namespace", func(d *appsv1.Deployment) { d.Namespace = "a.b" }, "metadata.namespace"},
		{"label value", func(d *appsv1.Deployment) { d.Labels["x"] = "not valid" }, "metadata.labels[x]"},
		{"label key", func(d *appsv1.Deployment) { d.Labels["a/b/c"] = "v" }, "metadata.labels[a/b/c]"},
		{"replicas", func(d *appsv1.Deployment) { *d.Spec.Replicas = -1 }, "spec.replicas"},
		{"no selector", func(d *appsv1.Deployment) { d.Spec.Selector = nil }, "spec.selector"},
		{"selector and template", func(d *appsv1.Deployment) { d.Spec.Template.Labels["app"] = "web" }, "spec.selector.matchLabels[app]"},
		{"selector expression", func(d *appsv1.Deployment) {
			d.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpDoesNotExist}}
		}, "spec.selector.matchExpressions"},
		{"selector operator", func(d *appsv1.Deployment) {
			d.Spec.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Is"}}
		}, "spec.selector.matchExpressions[0].operator"},
		{"deadline", func(d *appsv1.Deployment) { d.Spec.MinReadySeconds = 600 }, "spec.progressDeadlineSeconds"},
		{"restart policy", func(d *appsv1.Deployment) { d.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever }, pod + "restartPolicy"},
		{"over 100%", func(d *appsv1.Deployment) { *d.Spec.Strategy.RollingUpdate.MaxUnavailable = intstr.FromString("120%") }, "spec.strategy.rollingUpdate.maxUnavailable"},
		{"no containers", func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers = nil }, pod + "containers"},
		{"image", change(func(c *corev1.Container) { c.Image = "" }), container + "image"},
		{"port range", change(func(c *corev1.Container) { c.Ports[0].ContainerPort = 0 }), container + "ports[0].containerPort"},
		{"requests over limits", change(func(c *corev1.Container) {
			c.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("499m")}
		}), container + "resources.requests[cpu]"},
		{"fieldRef", change(func(c *corev1.Container) {
			c.Env[0].ValueFrom = &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "spec.hostname"}}
			c.Env[0].Value = ""
		}), container + "env[0].valueFrom.fieldRef.fieldPath"},
		{"fieldRef without its end", fieldPath("metadata.labels['app"), container + "env[0].valueFrom.fieldRef.fieldPath"},
		{"fieldRef without a quote", fieldPath("metadata.labels['app]"), container + "env[0].valueFrom.fieldRef.fieldPath"},
		{"fieldRef to no key", fieldPath("metadata.annotations['']"), container + "env[0].valueFrom.fieldRef.fieldPath"},
		{"fieldRef to an impossible key", fieldPath("metadata.labels['a/b/c']"), container + "env[0].valueFrom.fieldRef.fieldPath"},
		{"fieldRef to two keys", fieldPath("metadata.labels['a']['b']"), container + "env[0].valueFrom.fieldRef.fieldPath"},
		{"a path of a Secret", func(d *appsv1.Deployment) {
			spec := &d.Spec.Template.Spec
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "logs", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
			c := &spec.Containers[0]
			key := &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "key"}, Key: "token"}
			c.Env = []corev1.EnvVar{{Name: "T", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: key}}, {Name: "URL", Value: "a-$(T)"}, {Name: "FURTHER", Value: "$(URL)"}}
			c.VolumeMounts = []corev1.VolumeMount{{Name: "logs", MountPath: "/logs", SubPathExpr: "logs/$(FURTHER)"}}
		}, container + "volumeMounts[0].subPathExpr"},
		{"value and valueFrom", change(func(c *corev1.Container) {
			c.Env[0].ValueFrom = &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.labels['app']"}}
		}), container + "env[0].valueFrom"},
		{"a NUL in a value", change(func(c *corev1.Container) { c.Env[0].Value = "a\x00" }), container + "env[0].value"},
		{"a NUL in an argument", change(func(c *corev1.Container) { c.Args = []string{"a", "\x00"} }), container + "args[1]"},
		{"a NUL in a command", change(func(c *corev1.Container) { c.Command = []string{"\x00"} }), container + "command[0]"},
		{"a NUL in a probe's command", change(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"x", "\x00"}}}}
			defaultProbe(c.LivenessProbe)
		}), container + "livenessProbe.exec.command[1]"},
		{"a relative working directory", change(func(c *corev1.Container) { c.WorkingDir = "app" }), container + "workingDir"},
		{"a NUL in a working directory", change(func(c *corev1.Container) { c.WorkingDir = "/a\x00" }), container + "workingDir"},
		{"a relative termination message", change(func(c *corev1.Container) { c.TerminationMessagePath = "log" }), container + "terminationMessagePath"},
		{"a termination message in the root's place", change(func(c *corev1.Container) { c.TerminationMessagePath = "/." }), container + "terminationMessagePath"},
		{"a termination message policy", change(func(c *corev1.Container) { c.TerminationMessagePolicy = "Logs" }), container + "terminationMessagePolicy"},
		{"a line break in a probe's header", change(func(c *corev1.Container) {
			headers := []corev1.HTTPHeader{{Name: "X-A", Value: "a\tb"}, {Name: "X-B", Value: "b\n"}}
			c.ReadinessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80), HTTPHeaders: headers}}}
			defaultProbe(c.ReadinessProbe)
		}), container + "readinessProbe.httpGet.httpHeaders[1].value"},
		{"the root as a volume", func(d *appsv1.Deployment) {
			spec := &d.Spec.Template.Spec
			spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "all", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
			spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "all", MountPath: "//."})
		}, container + "volumeMounts[0].mountPath"},
		{"a file with a name of the volume's own", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "c"}, Items: []corev1.KeyToPath{{Key: "a", Path: "a/..b"}, {Key: "a", Path: "..b"}},
			}}}}
			d.Spec.Template.Spec.Containers[0].VolumeMounts = nil
		}, pod + "volumes[0].configMap.items[1].path"},
		{"probe port", change(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("htpp")}}}
			defaultProbe(c.LivenessProbe)
		}), container + "livenessProbe.tcpSocket.port"},
		{"probe threshold", change(func(c *corev1.Container) {
			c.LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}, SuccessThreshold: 2}
			defaultProbe(c.LivenessProbe)
		}), container + "livenessProbe.successThreshold"},
		{"host port twice", func(d *appsv1.Deployment) {
			for i := range d.Spec.Template.Spec.Containers {
				d.Spec.Template.Spec.Containers[i].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080, Protocol: corev1.ProtocolTCP}}
			}
		}, pod + "containers[1].ports[0].hostPort"},
		{"mount without volume", change(func(c *corev1.Container) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "three", MountPath: "/x"}}
		}), container + "volumeMounts[0].name"},
		{"mount twice", change(func(c *corev1.Container) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "one", MountPath: "/x"}, {Name: "two", MountPath: "/x/"}}
		}), container + "volumeMounts[1].mountPath"},
		{"subPath", change(func(c *corev1.Container) {
			c.VolumeMounts = []corev1.VolumeMount{{Name: "one", MountPath: "/x", SubPath: "../y"}}
		}), container + "volumeMounts[0].subPath"},
		{"two sources", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Volumes[0].HostPath = &corev1.HostPathVolumeSource{Path: "/x"}
		}, pod + "volumes[0]"},
		{"size limit on disk", func(d *appsv1.Deployment) {
			limit := resource.MustParse("1Gi")
			d.Spec.Template.Spec.Volumes[0].EmptyDir.SizeLimit = &limit
		}, pod + "volumes[0].emptyDir.sizeLimit"},
		{"host path", func(d *appsv1.Deployment) {
			unset := corev1.HostPathUnset
			d.Spec.Template.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/x/../y", Type: &unset}}
		}, pod + "volumes[0].hostPath.path"},
		{"toleration", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Effect: corev1.TaintEffectNoSchedule}}
		}, pod + "tolerations[0].operator"},
		{"affinity", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "cpus", Operator: corev1.NodeSelectorOpGt, Values: []string{"many"}}}}},
			}}}
		}, pod + "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]"},
		{"dns", func(d *appsv1.Deployment) { d.Spec.Template.Spec.DNSPolicy = corev1.DNSNone }, pod + "dnsPolicy"},
		{"init probe", func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "localhost/i:v1", ReadinessProbe: &corev1.Probe{}}}
			Default(d)
		}, pod + "initContainers[0]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := sampleDeployment()
			test.change(d)
			if diff := cmp.Diff([]string{test.want}, fieldsOfProblems(Validate(d))); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateService(t *testing.T) {
	tests := []struct {
		name   string
		change func(*corev1.ServiceSpec)
		want   []string
	}{
		{"valid", func(*corev1.ServiceSpec) {}, nil},
		{"headless without ports", func(s *corev1.ServiceSpec) { s.Ports, s.ClusterIP = nil, "None" }, nil},
		{"no ports", func(s *corev1.ServiceSpec) { s.Ports = nil }, []string{"spec.ports"}},
		{"headless NodePort", func(s *corev1.ServiceSpec) { s.Type, s.ClusterIP = corev1.ServiceTypeNodePort, "None" }, []string{"spec.clusterIP"}},
		{"address", func(s *corev1.ServiceSpec) { s.ClusterIP = "fd00::1" }, []string{"spec.clusterIP"}},
		{"nodePort of a ClusterIP", func(s *corev1.ServiceSpec) { s.Ports[0].NodePort = 30080 }, []string{"spec.ports[0].nodePort"}},
		{"names", func(s *corev1.ServiceSpec) { s.Ports = append(s.Ports, s.Ports[0]) }, []string{"spec.ports[0].name", "spec.ports[1].name", "spec.ports[1].port"}},
		{"target", func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromString("HTTP port") }, []string{"spec.ports[0].targetPort"}},
		{"policy", func(s *corev1.ServiceSpec) { s.ExternalTrafficPolicy = "Local" }, []string{"spec.externalTrafficPolicy"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}}
			s.Spec.Ports = []corev1.ServicePort{{Port: 80}}
			Default(s)
			test.change(&s.Spec)
			Default(s)
			if test.name == "policy" {
				s.Spec.Type = corev1.ServiceTypeClusterIP
			}
			if diff := cmp.Diff(test.want, fieldsOfProblems(Validate(s))); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateOthers(t *testing.T) {
	tests := []struct {
		name string
		obj  Object
		want []string
	}{
		{"namespace in a namespace", &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}}, []string{"metadata.namespace"}},
		{"config keys", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}, Data: map[string]string{"a b": "", "c": ""}, BinaryData: map[string][]byte{"c": nil}},
			[]string{"binaryData[c]", "data[a b]"}},
		{"config size", &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}, Data: map[string]string{"a": strings.Repeat("x", 1<<20+1)}}, []string{"data"}},
		{"tls keys", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}, Type: corev1.SecretTypeTLS}, []string{"data", "data"}},
		{"source", &Source{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: SourceSpec{PruneLimit: "half", Path: "/etc", OnFailure: "pray", Exclude: []string{"[a"}}},
			[]string{"spec", "spec.exclude[0]", "spec.onFailure", "spec.path", "spec.pruneLimit"}},
		{"good source", &Source{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: SourceSpec{URL: "git@example.com:team/app.git"}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			Default(test.obj)
			if diff := cmp.Diff(test.want, fieldsOfProblems(Validate(test.obj))); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateUpdate(t *testing.T) {
	yes := true
	deployment := sampleDeployment()
	otherSelector := sampleDeployment()
	otherSelector.Spec.Selector.MatchLabels["tier"] = "front"
	pod := func(change func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{Spec: *deployment.Spec.Template.Spec.DeepCopy()}
		change(p)
		return p
	}
	service := func(ip string) *corev1.Service { return &corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: ip}} }
	tests := []struct {
		name     string
		old, new Object
		want     []string
	}{
		{"the same", deployment, sampleDeployment(), nil},
		{"selector", deployment, otherSelector, []string{"spec.selector.matchLabels[tier]"}},
		{"address given", service("10.96.0.7"), service(""), nil},
		{"address taken", service(""), service("10.96.0.7"), nil},
		{"address changed", service("10.96.0.7"), service("10.96.0.8"), []string{"spec.clusterIP"}},
		{"no more headless", service("None"), service(""), []string{"spec.clusterIP"}},
		{"pod image and toleration", pod(func(p *corev1.Pod) { p.Spec.NodeName = "n1" }), pod(func(p *corev1.Pod) {
			p.Spec.Containers[0].Image = "localhost/api:v2"
			p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		}), nil},
		{"pod environment", pod(func(*corev1.Pod) {}), pod(func(p *corev1.Pod) { p.Spec.Containers[0].Env[0].Value = "2" }), []string{"spec.containers[name=api].env[name=A].value"}},
		{"mutable data", &corev1.ConfigMap{Data: map[string]string{"a": "1"}}, &corev1.ConfigMap{Data: map[string]string{"a": "2"}, Immutable: &yes}, nil},
		{"immutable data", &corev1.ConfigMap{Data: map[string]string{"a": "1"}, Immutable: &yes}, &corev1.ConfigMap{Data: map[string]string{"a": "2"}}, []string{"data[a]", "immutable"}},
		{"secret type", &corev1.Secret{Type: "a"}, &corev1.Secret{Type: "b"}, []string{"type"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, fieldsOfProblems(ValidateUpdate(test.old, test.new))); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	fields := []string{"containers", "initContainers", "replicas", "restartPolicy", "hostIP"}
	tests := []struct{ in, want string }{
		{"replcas", "replicas"}, {"replicsa", "replicas"}, {"Containers", "containers"}, {"restartpolicy", "restartPolicy"}, {"xyz", ""}, {"", ""},
	}
	for _, test := range tests {
		if got := Nearest(test.in, fields); got != test.want {
			t.Errorf("Nearest(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// Kubernetes' kinds of volumes name types of Secret that hold what they like; what is
// nearly one of the types with a form is misspelt.
func TestSecretTypesOfVolumesAreTaken(t *testing.T) {
	for name, wrong := range map[string]bool{
		"kubernetes.io/rbd": false, "kubernetes.io/iscsi-chap": false, "kubernetes.io/glusterfs": false, "kubernetes.io/cephfs": false, "kubernetes.io/scaleio": false,
		"kubernetes.io/azure-file": false, "kubernetes.io/certificate": false, "example.org/tsl": false,
		"kubernetes.io/tsl": true, "kubernetes.io/TLS": true, "kubernetes.io/dockerconfigjsn": true, "kubernetes.io/basicauth": true, "kubernetes.io/ssh-auht": true, "kubernetes.io/opaque": true,
	} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}, Type: corev1.SecretType(name)}
		if got := Validate(s); (len(got) > 0) != wrong {
			t.Errorf("%s: %v", name, got)
		}
	}
}
