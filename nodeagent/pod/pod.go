// Package pod answers what a node has to do next for the pods bound to it:
// given what is wanted and what is observed it gives operations with reasons,
// and it tells the Kubernetes status of what is observed. It is pure: no clock,
// no randomness, no I/O; `now` is an input. The node agent calls it.
package pod

import (
	corev1 "k8s.io/api/core/v1"
)

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
