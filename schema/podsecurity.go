package schema

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// SecurityLevel is one of Kubernetes' Pod Security Standards
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
type SecurityLevel string

// The levels, each stricter than the one before.
const (
	PrivilegedLevel SecurityLevel = "privileged"
	BaselineLevel   SecurityLevel = "baseline"
	RestrictedLevel SecurityLevel = "restricted"
)

var securityLevels = []SecurityLevel{PrivilegedLevel, BaselineLevel, RestrictedLevel}

// rank orders the levels by strictness; an unknown one is as strict as any.
func (l SecurityLevel) rank() int {
	if i := slices.Index(securityLevels, l); i >= 0 {
		return i
	}
	return len(securityLevels) - 1
}

// Exceeds reports whether the level allows what other does not.
func (l SecurityLevel) Exceeds(other SecurityLevel) bool { return l.rank() < other.rank() }

// JudgePodSecurity tells what a pod asks for beyond a level. It judges every field of
// Kubernetes' pods, those that are not acted on here too.
func JudgePodSecurity(t PodTemplate, level SecurityLevel) []FieldProblem {
	var out problems
	for _, rule := range securityRules {
		if level.Exceeds(rule.level) || rule.unlessRestricted && !level.Exceeds(RestrictedLevel) {
			continue
		}
		v := violations{rule: rule}
		rule.judge(&v, t)
		out = append(out, v.found...)
	}
	out.sort()
	return out
}

// securityRule is one control of the standards.
type securityRule struct {
	name  string        // as the standards name it
	level SecurityLevel // that demands it, with the stricter ones
	// unlessRestricted is for a rule that a stricter one of restricted contains.
	unlessRestricted bool
	instead          string
	judge            func(v *violations, t PodTemplate)
}

// violations collects what one rule finds.
type violations struct {
	rule  securityRule
	found []FieldProblem
}

func (v *violations) add(field, format string, args ...any) {
	v.found = append(v.found, FieldProblem{
		Field: field, Hint: v.rule.instead,
		Message: fmt.Sprintf(format, args...) + fmt.Sprintf(" (%s: %s)", v.rule.level, v.rule.name),
	})
}

// securityRules are the controls of baseline, then those of restricted. Those of
// Windows are left out: no pod runs there.
var securityRules = []securityRule{
	{"HostProcess", BaselineLevel, false, "leave it out", hostProcess},
	{"Host Namespaces", BaselineLevel, false, "leave it out", hostNamespaces},
	{"Privileged Containers", BaselineLevel, false, "leave it out, or add the capabilities that are needed", privilegedContainers},
	{"Capabilities", BaselineLevel, true, "one of " + strings.Join(baselineCapabilities, ", "), baselineCapabilityRule},
	{"HostPath Volumes", BaselineLevel, false, "use an emptyDir, a configMap or a secret", hostPathVolumes},
	{"Host Ports", BaselineLevel, false, "leave it out, and use a Service of type NodePort", hostPortRule},
	{"Host Probes / Lifecycle Hooks", BaselineLevel, false, "leave it out: the pod itself is asked", probeHosts},
	{"AppArmor", BaselineLevel, false, "RuntimeDefault or Localhost", appArmor},
	{"SELinux", BaselineLevel, false, "leave it out", seLinux},
	{"/proc Mount Type", BaselineLevel, false, "Default, or leave it out", procMount},
	{"Seccomp", BaselineLevel, true, "RuntimeDefault or Localhost", baselineSeccomp},
	{"Sysctls", BaselineLevel, false, "one of " + strings.Join(SafeSysctls, ", "), sysctls},
	{"Volume Types", RestrictedLevel, false, "use a configMap, csi, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected or secret", volumeTypes},
	{"Privilege Escalation", RestrictedLevel, false, "write securityContext.allowPrivilegeEscalation: false", privilegeEscalation},
	{"Running as Non-root", RestrictedLevel, false, "write securityContext.runAsNonRoot: true, for the pod or each container", nonRoot},
	{"Running as Non-root user", RestrictedLevel, false, "another number, or leave it out", nonRootUser},
	{"Seccomp", RestrictedLevel, false, "write securityContext.seccompProfile: {type: RuntimeDefault}, for the pod or each container", restrictedSeccomp},
	{"Capabilities", RestrictedLevel, false, "write securityContext.capabilities: {drop: [ALL]}, and add NET_BIND_SERVICE at most", restrictedCapabilities},
}

var baselineCapabilities = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// securedContainer is any of a pod's containers, with what the rules look at.
type securedContainer struct {
	field   string
	name    string
	context *corev1.SecurityContext // never nil
	common  *corev1.EphemeralContainerCommon
}

// each yields every container of the pod: init, ephemeral and others.
func (t PodTemplate) each(do func(c securedContainer)) {
	visit := func(list string, i int, c *corev1.EphemeralContainerCommon) {
		context := c.SecurityContext
		if context == nil {
			context = &corev1.SecurityContext{}
		}
		do(securedContainer{fmt.Sprintf("%s.%s[%d]", t.SpecField, list, i), c.Name, context, c})
	}
	for i := range t.Spec.InitContainers {
		visit("initContainers", i, (*corev1.EphemeralContainerCommon)(&t.Spec.InitContainers[i]))
	}
	for i := range t.Spec.Containers {
		visit("containers", i, (*corev1.EphemeralContainerCommon)(&t.Spec.Containers[i]))
	}
	for i := range t.Spec.EphemeralContainers {
		visit("ephemeralContainers", i, &t.Spec.EphemeralContainers[i].EphemeralContainerCommon)
	}
}

// context is the pod's own security context, never nil.
func (t PodTemplate) context() *corev1.PodSecurityContext {
	if t.Spec.SecurityContext == nil {
		return &corev1.PodSecurityContext{}
	}
	return t.Spec.SecurityContext
}

func hostProcess(v *violations, t PodTemplate) {
	if w := t.context().WindowsOptions; w != nil && isTrue(w.HostProcess) {
		v.add(t.SpecField+".securityContext.windowsOptions.hostProcess", "must not be true")
	}
	t.each(func(c securedContainer) {
		if w := c.context.WindowsOptions; w != nil && isTrue(w.HostProcess) {
			v.add(c.field+".securityContext.windowsOptions.hostProcess", "must not be true")
		}
	})
}

func hostNamespaces(v *violations, t PodTemplate) {
	for _, f := range []struct {
		name string
		set  bool
	}{{"hostNetwork", t.Spec.HostNetwork}, {"hostPID", t.Spec.HostPID}, {"hostIPC", t.Spec.HostIPC}} {
		if f.set {
			v.add(t.SpecField+"."+f.name, "must not be true")
		}
	}
}

func privilegedContainers(v *violations, t PodTemplate) {
	t.each(func(c securedContainer) {
		if isTrue(c.context.Privileged) {
			v.add(c.field+".securityContext.privileged", "must not be true")
		}
	})
}

func baselineCapabilityRule(v *violations, t PodTemplate) {
	addedCapabilities(v, t, baselineCapabilities)
}

func addedCapabilities(v *violations, t PodTemplate, allowed []string) {
	t.each(func(c securedContainer) {
		if c.context.Capabilities == nil {
			return
		}
		for i, capability := range c.context.Capabilities.Add {
			if !slices.Contains(allowed, string(capability)) {
				v.add(fmt.Sprintf("%s.securityContext.capabilities.add[%d]", c.field, i), "capability %q must not be added", string(capability))
			}
		}
	})
}

func restrictedCapabilities(v *violations, t PodTemplate) {
	t.each(func(c securedContainer) {
		if c.context.Capabilities == nil || !slices.Contains(c.context.Capabilities.Drop, "ALL") {
			v.add(c.field+".securityContext.capabilities.drop", "must hold ALL")
		}
	})
	addedCapabilities(v, t, []string{"NET_BIND_SERVICE"})
}

func hostPathVolumes(v *violations, t PodTemplate) {
	for i := range t.Spec.Volumes {
		if t.Spec.Volumes[i].HostPath != nil {
			v.add(fmt.Sprintf("%s.volumes[%d].hostPath", t.SpecField, i), "a directory of the node must not be mounted")
		}
	}
}

func hostPortRule(v *violations, t PodTemplate) {
	t.each(func(c securedContainer) {
		for i := range c.common.Ports {
			if c.common.Ports[i].HostPort != 0 {
				v.add(fmt.Sprintf("%s.ports[%d].hostPort", c.field, i), "a port of the node must not be taken")
			}
		}
	})
}

func probeHosts(v *violations, t PodTemplate) {
	handler := func(field string, get *corev1.HTTPGetAction, dial *corev1.TCPSocketAction) {
		if get != nil && get.Host != "" {
			v.add(field+".httpGet.host", "must not be set")
		}
		if dial != nil && dial.Host != "" {
			v.add(field+".tcpSocket.host", "must not be set")
		}
	}
	t.each(func(c securedContainer) {
		for name, p := range map[string]*corev1.Probe{"livenessProbe": c.common.LivenessProbe, "readinessProbe": c.common.ReadinessProbe, "startupProbe": c.common.StartupProbe} {
			if p != nil {
				handler(c.field+"."+name, p.HTTPGet, p.TCPSocket)
			}
		}
		if l := c.common.Lifecycle; l != nil {
			for name, h := range map[string]*corev1.LifecycleHandler{"postStart": l.PostStart, "preStop": l.PreStop} {
				if h != nil {
					handler(c.field+".lifecycle."+name, h.HTTPGet, h.TCPSocket)
				}
			}
		}
	})
}

func appArmor(v *violations, t PodTemplate) {
	profile := func(field string, p *corev1.AppArmorProfile) {
		if p != nil && p.Type != corev1.AppArmorProfileTypeRuntimeDefault && p.Type != corev1.AppArmorProfileTypeLocalhost {
			v.add(field+".securityContext.appArmorProfile.type", "%q is not allowed", string(p.Type))
		}
	}
	profile(t.SpecField, t.context().AppArmorProfile)
	t.each(func(c securedContainer) { profile(c.field, c.context.AppArmorProfile) })
	for _, key := range sortedKeys(t.Meta.Annotations) {
		value := t.Meta.Annotations[key]
		if !strings.HasPrefix(key, corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix) {
			continue
		}
		if value != "" && value != "runtime/default" && !strings.HasPrefix(value, "localhost/") {
			v.add(t.MetaField+".annotations["+key+"]", "%q is not allowed", value)
		}
	}
}

func seLinux(v *violations, t PodTemplate) {
	options := func(field string, o *corev1.SELinuxOptions) {
		if o == nil {
			return
		}
		field += ".securityContext.seLinuxOptions"
		if !slices.Contains([]string{"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}, o.Type) {
			v.add(field+".type", "%q is not allowed", o.Type)
		}
		if o.User != "" {
			v.add(field+".user", "must not be set")
		}
		if o.Role != "" {
			v.add(field+".role", "must not be set")
		}
	}
	options(t.SpecField, t.context().SELinuxOptions)
	t.each(func(c securedContainer) { options(c.field, c.context.SELinuxOptions) })
}

func procMount(v *violations, t PodTemplate) {
	t.each(func(c securedContainer) {
		if m := c.context.ProcMount; m != nil && *m != corev1.DefaultProcMount {
			v.add(c.field+".securityContext.procMount", "%q is not allowed", string(*m))
		}
	})
}

func isConfined(p *corev1.SeccompProfile) bool {
	return p != nil && (p.Type == corev1.SeccompProfileTypeRuntimeDefault || p.Type == corev1.SeccompProfileTypeLocalhost)
}

// unconfined reports seccomp profiles that are there and confine nothing.
func unconfined(v *violations, field string, p *corev1.SeccompProfile) {
	if p != nil && !isConfined(p) {
		v.add(field+".securityContext.seccompProfile.type", "%q is not allowed", string(p.Type))
	}
}

func baselineSeccomp(v *violations, t PodTemplate) {
	unconfined(v, t.SpecField, t.context().SeccompProfile)
	t.each(func(c securedContainer) { unconfined(v, c.field, c.context.SeccompProfile) })
}

func restrictedSeccomp(v *violations, t PodTemplate) {
	baselineSeccomp(v, t)
	t.each(func(c securedContainer) {
		if c.context.SeccompProfile == nil && t.context().SeccompProfile == nil {
			v.add(c.field+".securityContext.seccompProfile", "must be set, here or for the pod")
		}
	})
}

func sysctls(v *violations, t PodTemplate) {
	for i, s := range t.context().Sysctls {
		if !slices.Contains(SafeSysctls, s.Name) {
			v.add(fmt.Sprintf("%s.securityContext.sysctls[%d].name", t.SpecField, i), "%q is not allowed", s.Name)
		}
	}
}

func volumeTypes(v *violations, t PodTemplate) {
	for i := range t.Spec.Volumes {
		s := &t.Spec.Volumes[i].VolumeSource
		known := s.ConfigMap != nil || s.CSI != nil || s.DownwardAPI != nil || s.EmptyDir != nil || s.Ephemeral != nil || s.PersistentVolumeClaim != nil || s.Projected != nil || s.Secret != nil
		if !known && s.HostPath == nil { // HostPath Volumes tells of those
			v.add(fmt.Sprintf("%s.volumes[%d]", t.SpecField, i), "is of a type that is not allowed")
		}
	}
}

func privilegeEscalation(v *violations, t PodTemplate) {
	t.each(func(c securedContainer) {
		if a := c.context.AllowPrivilegeEscalation; a == nil || *a {
			v.add(c.field+".securityContext.allowPrivilegeEscalation", "must be false")
		}
	})
}

func nonRoot(v *violations, t PodTemplate) {
	pod := t.context().RunAsNonRoot
	if pod != nil && !*pod {
		v.add(t.SpecField+".securityContext.runAsNonRoot", "must not be false")
	}
	t.each(func(c securedContainer) {
		switch own := c.context.RunAsNonRoot; {
		case own != nil && !*own:
			v.add(c.field+".securityContext.runAsNonRoot", "must not be false")
		case own == nil && pod == nil:
			v.add(c.field+".securityContext.runAsNonRoot", "must be true, here or for the pod")
		}
	})
}

func nonRootUser(v *violations, t PodTemplate) {
	user := func(field string, id *int64) {
		if id != nil && *id == 0 {
			v.add(field+".securityContext.runAsUser", "must not be 0")
		}
	}
	user(t.SpecField, t.context().RunAsUser)
	t.each(func(c securedContainer) { user(c.field, c.context.RunAsUser) })
}
