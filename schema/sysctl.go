package schema

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// SafeSysctls are the kernel's parameters that any pod may set: they are the pod's alone,
// and none takes anything from another pod or the node
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
var SafeSysctls = []string{
	"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
	"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}

// ownSysctls begin the names of those that each network or IPC namespace has of its own
// (sysctl(5), ipc_namespaces(7)). The rest is the whole machine's.
var ownSysctls = []string{"net.", "kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."}

// sysctlForm is what Kubernetes takes as a name, with dots or slashes.
var sysctlForm = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])+([a-z0-9][-_a-z0-9]*)?[a-z0-9]$`)

// maxSysctlName is Kubernetes' own bound.
const maxSysctlName = 253

// SysctlName is a parameter's name with dots between its parts. As in sysctl(8) the first
// separator tells which one a name is written with; the other then stands for itself, the
// dot of a link's name for one: net/ipv4/conf/eth0.1/forwarding is
// net.ipv4.conf.eth0/1.forwarding.
func SysctlName(name string) string {
	if i := strings.IndexAny(name, "./"); i < 0 || name[i] == '.' {
		return name
	}
	return swapSeparators(name)
}

// SysctlPath is where a parameter is below /proc/sys.
func SysctlPath(name string) string { return swapSeparators(SysctlName(name)) }

func swapSeparators(name string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, name)
}

// SysctlAllowed reports whether a node that allows such parameters beside the safe ones
// lets a pod set this one. A pattern is a name, or what names begin with and a *.
func SysctlAllowed(name string, patterns []string) bool {
	name = SysctlName(name)
	return slices.Contains(SafeSysctls, name) || slices.ContainsFunc(patterns, func(p string) bool {
		prefix, open := strings.CutSuffix(SysctlName(p), "*")
		return p != "*" && ownSysctl(name) && (name == prefix || open && strings.HasPrefix(name, prefix))
	})
}

func ownSysctl(name string) bool {
	return slices.ContainsFunc(ownSysctls, func(o string) bool { return strings.HasPrefix(name, o) })
}

func (p *problems) sysctls(at string, all []corev1.Sysctl) {
	seen := map[string]bool{}
	for i, s := range all {
		field := fmt.Sprintf("%s[%d]", at, i)
		name := SysctlName(s.Name)
		switch {
		case s.Name == "":
			p.add(field+".name", "is missing")
		case len(s.Name) > maxSysctlName || !sysctlForm.MatchString(s.Name):
			p.add(field+".name", "%q is not the name of a kernel parameter, as sysctl -a lists them", s.Name)
		case !ownSysctl(name):
			p.hint(field+".name", nearestHint(name, SafeSysctls), "%s belongs to the whole node: no pod has one of its own", s.Name)
		case seen[name]:
			p.add(field+".name", "%s is set twice", s.Name)
		}
		if s.Value == "" {
			p.add(field+".value", "is missing")
		}
		seen[name] = true
	}
}
