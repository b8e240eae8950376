package schema

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// securedPod is a pod that the strictest level allows.
func securedPod() *corev1.Pod {
	context := func() *corev1.SecurityContext {
		return &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), RunAsNonRoot: new(true),
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
	}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Annotations: map[string]string{}}, Spec: corev1.PodSpec{
		SecurityContext:     &corev1.PodSecurityContext{},
		InitContainers:      []corev1.Container{{Name: "i", SecurityContext: context()}},
		Containers:          []corev1.Container{{Name: "c", SecurityContext: context(), Ports: []corev1.ContainerPort{{ContainerPort: 80, HostIP: "127.0.0.1"}}}, {Name: "d", SecurityContext: context()}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", SecurityContext: context()}}},
		Volumes: []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}}, {VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{}}}, {VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}},
		},
	}}
}

// Every control refuses what it is for, from its level on and in every kind of
// container, and names itself.
func TestPodSecurity(t *testing.T) {
	type pod = corev1.Pod
	in := func(change func(*corev1.SecurityContext)) func(*pod) {
		return func(p *pod) { change(p.Spec.Containers[0].SecurityContext) }
	}
	onPod := func(change func(*corev1.PodSecurityContext)) func(*pod) {
		return func(p *pod) { change(p.Spec.SecurityContext) }
	}
	unmasked := corev1.UnmaskedProcMount
	for _, test := range []struct {
		rule   string
		level  SecurityLevel // from which on it is refused, "" never
		change func(*pod)
		field  string
	}{
		{"", "", func(*pod) {}, ""},
		{"HostProcess", BaselineLevel, onPod(func(s *corev1.PodSecurityContext) {
			s.WindowsOptions = &corev1.WindowsSecurityContextOptions{HostProcess: new(true)}
		}), "spec.securityContext.windowsOptions.hostProcess"},
		{"HostProcess", BaselineLevel, in(func(s *corev1.SecurityContext) {
			s.WindowsOptions = &corev1.WindowsSecurityContextOptions{HostProcess: new(true)}
		}), "spec.containers[0].securityContext.windowsOptions.hostProcess"},
		{"Host Namespaces", BaselineLevel, func(p *pod) { p.Spec.HostNetwork = true }, "spec.hostNetwork"},
		{"Host Namespaces", BaselineLevel, func(p *pod) { p.Spec.HostPID = true }, "spec.hostPID"},
		{"Host Namespaces", BaselineLevel, func(p *pod) { p.Spec.HostIPC = true }, "spec.hostIPC"},
		{"Privileged Containers", BaselineLevel, in(func(s *corev1.SecurityContext) { s.Privileged = new(true) }), "spec.containers[0].securityContext.privileged"},
		{"Privileged Containers", BaselineLevel, func(p *pod) { p.Spec.InitContainers[0].SecurityContext.Privileged = new(true) }, "spec.initContainers[0].securityContext.privileged"},
		{"Privileged Containers", BaselineLevel, func(p *pod) { p.Spec.EphemeralContainers[0].SecurityContext.Privileged = new(true) }, "spec.ephemeralContainers[0].securityContext.privileged"},
		{"Capabilities", BaselineLevel, in(func(s *corev1.SecurityContext) {
			s.Capabilities.Add = []corev1.Capability{"NET_BIND_SERVICE", "SYS_ADMIN"}
		}), "spec.containers[0].securityContext.capabilities.add[1]"},
		{"Capabilities", BaselineLevel, in(func(s *corev1.SecurityContext) { s.Capabilities.Add = []corev1.Capability{"NET_RAW"} }), "spec.containers[0].securityContext.capabilities.add[0]"},
		{"Capabilities", BaselineLevel, in(func(s *corev1.SecurityContext) { s.Capabilities.Add = []corev1.Capability{"CAP_CHOWN"} }), "spec.containers[0].securityContext.capabilities.add[0]"},
		{"Capabilities", RestrictedLevel, in(func(s *corev1.SecurityContext) { s.Capabilities.Add = []corev1.Capability{"CHOWN"} }), "spec.containers[0].securityContext.capabilities.add[0]"},
		{"Capabilities", RestrictedLevel, in(func(s *corev1.SecurityContext) { s.Capabilities = nil }), "spec.containers[0].securityContext.capabilities.drop"},
		{"HostPath Volumes", BaselineLevel, func(p *pod) {
			p.Spec.Volumes[1].EmptyDir, p.Spec.Volumes[1].HostPath = nil, &corev1.HostPathVolumeSource{}
		}, "spec.volumes[1].hostPath"},
		{"Host Ports", BaselineLevel, func(p *pod) { p.Spec.Containers[0].Ports[0].HostPort = 1 }, "spec.containers[0].ports[0].hostPort"},
		{"Host Probes / Lifecycle Hooks", BaselineLevel, func(p *pod) {
			p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "169.254.169.254"}}}
		}, "spec.containers[0].livenessProbe.httpGet.host"},
		{"Host Probes / Lifecycle Hooks", BaselineLevel, func(p *pod) {
			p.Spec.Containers[0].StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Host: "127.0.0.1"}}}
		}, "spec.containers[0].startupProbe.tcpSocket.host"},
		{"Host Probes / Lifecycle Hooks", BaselineLevel, func(p *pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Host: "x"}}}
		}, "spec.containers[0].lifecycle.preStop.httpGet.host"},
		{"AppArmor", BaselineLevel, onPod(func(s *corev1.PodSecurityContext) { s.AppArmorProfile = &corev1.AppArmorProfile{Type: "Unconfined"} }), "spec.securityContext.appArmorProfile.type"},
		{"AppArmor", BaselineLevel, in(func(s *corev1.SecurityContext) { s.AppArmorProfile = &corev1.AppArmorProfile{Type: "Unconfined"} }), "spec.containers[0].securityContext.appArmorProfile.type"},
		{"AppArmor", "", in(func(s *corev1.SecurityContext) { s.AppArmorProfile = &corev1.AppArmorProfile{Type: "Localhost"} }), ""},
		{"AppArmor", BaselineLevel, func(p *pod) { p.Annotations["container.apparmor.security.beta.kubernetes.io/c"] = "unconfined" }, "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]"},
		{"SELinux", BaselineLevel, onPod(func(s *corev1.PodSecurityContext) { s.SELinuxOptions = &corev1.SELinuxOptions{Type: "spc_t"} }), "spec.securityContext.seLinuxOptions.type"},
		{"SELinux", BaselineLevel, in(func(s *corev1.SecurityContext) { s.SELinuxOptions = &corev1.SELinuxOptions{User: "u"} }), "spec.containers[0].securityContext.seLinuxOptions.user"},
		{"SELinux", BaselineLevel, in(func(s *corev1.SecurityContext) { s.SELinuxOptions = &corev1.SELinuxOptions{Role: "r"} }), "spec.containers[0].securityContext.seLinuxOptions.role"},
		{"SELinux", "", in(func(s *corev1.SecurityContext) {
			s.SELinuxOptions = &corev1.SELinuxOptions{Type: "container_t", Level: "s0"}
		}), ""},
		{"/proc Mount Type", BaselineLevel, in(func(s *corev1.SecurityContext) { s.ProcMount = &unmasked }), "spec.containers[0].securityContext.procMount"},
		{"Seccomp", BaselineLevel, onPod(func(s *corev1.PodSecurityContext) { s.SeccompProfile = &corev1.SeccompProfile{Type: "Unconfined"} }), "spec.securityContext.seccompProfile.type"},
		{"Seccomp", BaselineLevel, in(func(s *corev1.SecurityContext) { s.SeccompProfile.Type = "Unconfined" }), "spec.containers[0].securityContext.seccompProfile.type"},
		{"Seccomp", BaselineLevel, in(func(s *corev1.SecurityContext) { s.SeccompProfile.Type = "" }), "spec.containers[0].securityContext.seccompProfile.type"},
		{"Seccomp", RestrictedLevel, in(func(s *corev1.SecurityContext) { s.SeccompProfile = nil }), "spec.containers[0].securityContext.seccompProfile"},
		{"Seccomp", "", func(p *pod) {
			p.Spec.Containers[0].SecurityContext.SeccompProfile, p.Spec.SecurityContext.SeccompProfile = nil, &corev1.SeccompProfile{Type: "Localhost"}
		}, ""},
		{"Sysctls", BaselineLevel, onPod(func(s *corev1.PodSecurityContext) { s.Sysctls = []corev1.Sysctl{{Name: "kernel.msgmax"}} }), "spec.securityContext.sysctls[0].name"},
		{"Sysctls", "", onPod(func(s *corev1.PodSecurityContext) { s.Sysctls = []corev1.Sysctl{{Name: "net.ipv4.ping_group_range"}} }), ""},
		{"Volume Types", RestrictedLevel, func(p *pod) {
			p.Spec.Volumes[1] = corev1.Volume{VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}
		}, "spec.volumes[1]"},
		{"Volume Types", RestrictedLevel, func(p *pod) { p.Spec.Volumes[1] = corev1.Volume{} }, "spec.volumes[1]"},
		{"Privilege Escalation", RestrictedLevel, in(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = nil }), "spec.containers[0].securityContext.allowPrivilegeEscalation"},
		{"Privilege Escalation", RestrictedLevel, in(func(s *corev1.SecurityContext) { s.AllowPrivilegeEscalation = new(true) }), "spec.containers[0].securityContext.allowPrivilegeEscalation"},
		{"Running as Non-root", RestrictedLevel, in(func(s *corev1.SecurityContext) { s.RunAsNonRoot = nil }), "spec.containers[0].securityContext.runAsNonRoot"},
		{"Running as Non-root", RestrictedLevel, onPod(func(s *corev1.PodSecurityContext) { s.RunAsNonRoot = new(false) }), "spec.securityContext.runAsNonRoot"},
		{"Running as Non-root", "", func(p *pod) {
			p.Spec.Containers[0].SecurityContext.RunAsNonRoot, p.Spec.SecurityContext.RunAsNonRoot = nil, new(true)
		}, ""},
		{"Running as Non-root user", RestrictedLevel, in(func(s *corev1.SecurityContext) { s.RunAsUser = new(int64(0)) }), "spec.containers[0].securityContext.runAsUser"},
		{"Running as Non-root user", RestrictedLevel, onPod(func(s *corev1.PodSecurityContext) { s.RunAsUser = new(int64(0)) }), "spec.securityContext.runAsUser"},
	} {
		for i, level := range []SecurityLevel{PrivilegedLevel, BaselineLevel, RestrictedLevel, "unheard-of"} {
			p := securedPod()
			test.change(p)
			template, _ := PodTemplateOf(p)
			got := JudgePodSecurity(template, level)
			refused := test.level != "" && i >= test.level.rank()
			switch {
			case !refused && len(got) > 0:
				t.Errorf("%s of %s at %s: %v", test.rule, test.field, level, got)
			case refused && (len(got) != 1 || got[0].Field != test.field || !strings.Contains(got[0].Message, ": "+test.rule+")") || got[0].Hint == ""):
				t.Errorf("%s of %s at %s: got %v", test.rule, test.field, level, got)
			}
		}
	}
}

// A pod that says nothing is refused whole by restricted, and by nothing else.
func TestPodSecurityOfAPodThatSaysNothing(t *testing.T) {
	template, _ := PodTemplateOf(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}})
	if got := JudgePodSecurity(template, BaselineLevel); len(got) > 0 {
		t.Errorf("baseline: %v", got)
	}
	if got := JudgePodSecurity(template, RestrictedLevel); len(got) != 4 {
		t.Errorf("restricted: %v", got)
	}
}

// The fields that the controls look at or that are harmless to the node. A field that
// Kubernetes adds is in neither list: whoever takes it in decides.
var securityFields = map[reflect.Type]struct{ judged, harmless []string }{
	reflect.TypeFor[corev1.SecurityContext](): {
		[]string{"Capabilities", "Privileged", "SELinuxOptions", "WindowsOptions", "RunAsUser", "RunAsNonRoot", "AllowPrivilegeEscalation", "ProcMount", "SeccompProfile", "AppArmorProfile"},
		[]string{"RunAsGroup", "ReadOnlyRootFilesystem"},
	},
	reflect.TypeFor[corev1.PodSecurityContext](): {
		[]string{"SELinuxOptions", "WindowsOptions", "RunAsUser", "RunAsNonRoot", "Sysctls", "SeccompProfile", "AppArmorProfile"},
		[]string{"RunAsGroup", "SupplementalGroups", "SupplementalGroupsPolicy", "FSGroup", "FSGroupChangePolicy", "SELinuxChangePolicy"},
	},
}

func TestPodSecurityKnowsEveryField(t *testing.T) {
	for of, known := range securityFields {
		for i := range of.NumField() {
			name := of.Field(i).Name
			if !slices.Contains(known.judged, name) && !slices.Contains(known.harmless, name) {
				t.Errorf("%s.%s is neither judged nor known to be harmless", of.Name(), name)
			}
		}
	}
}
