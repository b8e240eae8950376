package schema

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Capabilities are those that Linux has (capabilities(7)), without the CAP_ before them.
var Capabilities = []string{
	"AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH",
	"FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
	"SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
}

// AllCapabilities stands for all of them.
const AllCapabilities = "ALL"

// CapabilityName is a capability as the table has it: container runtimes take it in any
// case, and with CAP_ before it.
func CapabilityName(c corev1.Capability) string {
	return strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
}

// podContext judges the security context of a pod, which may be nil.
func (p *problems) podContext(at string, s *corev1.PodSecurityContext) {
	if s == nil {
		return
	}
	p.id(at+".runAsUser", s.RunAsUser)
	p.id(at+".runAsGroup", s.RunAsGroup)
	p.id(at+".fsGroup", s.FSGroup)
	for i := range s.SupplementalGroups {
		p.id(fmt.Sprintf("%s.supplementalGroups[%d]", at, i), &s.SupplementalGroups[i])
	}
	p.seccomp(at+".seccompProfile", s.SeccompProfile)
	p.sysctls(at+".sysctls", s.Sysctls)
}

// containerContext judges the security context of a container, which may be nil. pod is
// its pod's, which may be nil too.
func (p *problems) containerContext(at string, s *corev1.SecurityContext, pod *corev1.PodSecurityContext) {
	if s == nil {
		s = &corev1.SecurityContext{}
	}
	p.id(at+".runAsUser", s.RunAsUser)
	p.id(at+".runAsGroup", s.RunAsGroup)
	p.seccomp(at+".seccompProfile", s.SeccompProfile)
	if c := s.Capabilities; c != nil {
		p.capabilities(at+".capabilities.add", c.Add)
		p.capabilities(at+".capabilities.drop", c.Drop)
	}
	p.escalation(at, s)
	p.rootlessness(at, s, pod)
}

// escalation refuses what keeps a process from gaining rights and gives it all of them.
func (p *problems) escalation(at string, s *corev1.SecurityContext) {
	if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation {
		return
	}
	field := at + ".allowPrivilegeEscalation"
	switch {
	case isTrue(s.Privileged):
		p.add(field, "must not be false for a container that is privileged")
	case s.Capabilities != nil && slices.Contains(s.Capabilities.Add, "CAP_SYS_ADMIN"): // Kubernetes looks for this spelling alone
		p.add(field, "must not be false for a container that has the capability CAP_SYS_ADMIN")
	}
}

// rootlessness refuses a container that runs as root and must not: its node would never
// start it.
func (p *problems) rootlessness(at string, s *corev1.SecurityContext, pod *corev1.PodSecurityContext) {
	if user, _, nonRoot := RunsAs(pod, s); nonRoot && user != nil && *user == 0 {
		field := at + ".runAsUser"
		if s.RunAsUser == nil {
			field = at + ".runAsNonRoot"
		}
		p.hint(field, "another user, or leave runAsNonRoot out", "the container would run as user 0, and runAsNonRoot is true")
	}
}

// RunsAs is whom a container runs as: what it says itself comes before what its pod
// says. Either context may be nil; nil numbers are the image's.
func RunsAs(pod *corev1.PodSecurityContext, own *corev1.SecurityContext) (user, group *int64, nonRoot bool) {
	if pod != nil {
		user, group, nonRoot = pod.RunAsUser, pod.RunAsGroup, isTrue(pod.RunAsNonRoot)
	}
	if own == nil {
		return user, group, nonRoot
	}
	if own.RunAsUser != nil {
		user = own.RunAsUser
	}
	if own.RunAsGroup != nil {
		group = own.RunAsGroup
	}
	if own.RunAsNonRoot != nil {
		nonRoot = *own.RunAsNonRoot
	}
	return user, group, nonRoot
}

// id judges the number of a user or group.
func (p *problems) id(field string, id *int64) {
	if id != nil {
		within(p, field, "", *id, 0, maxInt32)
	}
}

func (p *problems) capabilities(field string, all []corev1.Capability) {
	for i, c := range all {
		name := CapabilityName(c)
		if name != AllCapabilities && !slices.Contains(Capabilities, name) {
			p.hint(fmt.Sprintf("%s[%d]", field, i), nearestHint(name, Capabilities), "%q is not a capability of Linux", string(c))
		}
	}
}

func (p *problems) seccomp(at string, s *corev1.SeccompProfile) {
	if s == nil {
		return
	}
	oneOf(p, at, ".type", s.Type, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined, corev1.SeccompProfileTypeLocalhost)
	isLocal := s.Type == corev1.SeccompProfileTypeLocalhost
	switch name := s.LocalhostProfile; {
	case isLocal && (name == nil || *name == ""):
		p.add(at+".localhostProfile", "must name a file with a profile of type Localhost")
	case !isLocal && name != nil:
		p.add(at+".localhostProfile", "must be left out unless type is Localhost")
	case isLocal && (path.IsAbs(*name) || path.Clean(*name) == "." || strings.ContainsRune(*name, 0) || slices.Contains(strings.Split(*name, "/"), "..")):
		p.add(at+".localhostProfile", "%q must be the relative path of a file, without \"..\"", *name)
	}
}
