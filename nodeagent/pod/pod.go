// Package pod answers what a node has to do next for the pods bound to it:
// given what is wanted and what is observed it gives operations with reasons,
// and it tells the Kubernetes status of what is observed. It is pure: no clock,
// no randomness, no I/O; `now` is an input. The node agent calls it.
package pod

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
)

// SandboxConfig is what a pod's sandbox is made from.
type SandboxConfig struct {
	UID      types.UID
	IP       netip.Addr
	Hostname string
	Sysctls  []Sysctl // beside those that every sandbox has
}

// Sysctl is a parameter of the pod's namespaces.
type Sysctl struct {
	Path  string // below /proc/sys
	Value string
}

// SandboxOf is the sandbox that a pod with this address asks for, in a cluster of this
// domain and on a node that allows so much beside the safe parameters; an UnusableError
// where that is not enough.
func SandboxOf(p *corev1.Pod, ip netip.Addr, domain string, unsafe []string) (SandboxConfig, error) {
	host, err := SandboxHostname(p, domain)
	c := SandboxConfig{UID: p.UID, IP: ip, Hostname: host}
	if err != nil || p.Spec.SecurityContext == nil {
		return c, err
	}
	for _, s := range p.Spec.SecurityContext.Sysctls {
		if !schema.SysctlAllowed(s.Name, unsafe) {
			return c, UnusableError(fmt.Sprintf("sysctl %s is not one that every pod may set, and the node does not allow it: set another, or name it in allowedUnsafeSysctls of the node's agent.yaml", s.Name))
		}
		c.Sysctls = append(c.Sysctls, Sysctl{Path: schema.SysctlPath(s.Name), Value: s.Value})
	}
	return c, nil
}

// Sandbox is what the containers of one pod share, as paths that they join or
// bind. The zero Sandbox means "not made".
type Sandbox struct {
	Net string `json:"net"` // bind-mounted network namespace
	IPC string `json:"ipc"` // bind-mounted IPC namespace
	UTS string `json:"uts"` // bind-mounted UTS namespace, hostname set
	Shm string `json:"shm"` // tmpfs bound to /dev/shm
}

// HostPort is one port of the node that leads to a pod of the same node.
type HostPort struct {
	HostIP   string          `json:"hostIP,omitempty"` // empty means every address of the node
	HostPort uint16          `json:"hostPort"`
	Protocol corev1.Protocol `json:"protocol"`
	PodIP    string          `json:"podIP"`
	PodPort  uint16          `json:"podPort"`
}
