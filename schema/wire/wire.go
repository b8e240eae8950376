// Package wire is what crosses between master and agent, and what the store
// keeps: versioned messages and nothing else. A leaf: it imports schema only,
// so both sides and the store can share it.
package wire

import (
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
)

// Work is everything one node needs to do its job, always a whole value: the
// zero Work means "run nothing". The master makes one per node from a snapshot;
// the agent keeps the last on disk and runs from it when the master is away.
// Maps are keyed so that a change of one item is a change of one key (frame.go).
type Work struct {
	Node       schema.NodeName              `json:"node"`
	Cluster    ClusterInfo                  `json:"cluster"`
	PodCIDRs   schema.List[string]          `json:"podCIDR"`              // this node's ranges: one, IPv4
	Peers      map[schema.NodeName]Peer     `json:"peers"`                // the other nodes
	Pods       map[types.UID]PodWork        `json:"pods"`                 // pods bound to this node
	ConfigMaps map[string]map[string][]byte `json:"configMaps"`           // "namespace/name" -> key -> bytes, those the pods reference
	BinaryKeys map[string][]string          `json:"binaryKeys,omitempty"` // "namespace/name" -> the keys of a ConfigMap that are binaryData, sorted; nil if there are none
	Secrets    map[string]map[string][]byte `json:"secrets"`              // like ConfigMaps, values in the clear
	Services   map[string]Service           `json:"services"`             // "namespace/name", all of the cluster
}

// ClusterInfo is the configuration every node shares. Each of its lists of addresses
// has one for each family; IPv4 is the only one so far.
type ClusterInfo struct {
	ID           string              `json:"id"`
	PodCIDRs     schema.List[string] `json:"podCIDR"`
	ServiceCIDRs schema.List[string] `json:"serviceCIDR"`
	DNS          schema.List[string] `json:"dns"`    // cluster DNS addresses
	Domain       string              `json:"domain"` // cluster.local
}

// Peer is another node: traffic for a pod range goes by way of the node's address of
// the same family. Both are lists of one, IPv4.
type Peer struct {
	NodeIPs  schema.List[string] `json:"nodeIP"`
	PodCIDRs schema.List[string] `json:"podCIDR"`
}

// PodWork is one pod bound to the node. Pod.DeletionTimestamp set means
// "terminate within Pod.DeletionGracePeriodSeconds, then report it gone".
type PodWork struct {
	Pod      *corev1.Pod         `json:"pod"`
	Epoch    int64               `json:"epoch"`    // of the committed binding
	Revision schema.RevisionName `json:"revision"` // Revision name, for labels
	// Drained is set on a terminating pod once its endpoints are out of every
	// table that must be waited for: SIGTERM may go out.
	Drained bool `json:"drained,omitempty"`
}

// Service is one service as nodes program and resolve it.
type Service struct {
	ClusterIPs schema.List[string] `json:"clusterIP,omitempty"` // one, IPv4; empty for headless
	Headless   bool                `json:"headless,omitempty"`
	Ports      []ServicePort       `json:"ports"`
	// Endpoints have one address each, of any family, and are sorted by it; ready ones (or, where
	// publishNotReadyAddresses asks for it, all) and no others.
	Endpoints []Endpoint `json:"endpoints,omitempty"`
}

// ServicePort is one port of a service.
type ServicePort struct {
	Name     string          `json:"name,omitempty"`
	Protocol corev1.Protocol `json:"protocol"`
	Port     uint16          `json:"port"`
	NodePort uint16          `json:"nodePort,omitempty"`
	// ExternalLocal: nodePort traffic goes to endpoints of the node it arrived
	// on only, without masquerade (externalTrafficPolicy: Local).
	ExternalLocal bool `json:"externalLocal,omitempty"`
}

// Endpoint is one backend of a service. Ports is parallel to Service.Ports;
// zero means that this endpoint does not serve that port.
type Endpoint struct {
	IP       string          `json:"ip"`
	Ports    []uint16        `json:"ports"`
	Node     schema.NodeName `json:"node"`
	Pod      string          `json:"pod"`                // pod name
	Hostname string          `json:"hostname,omitempty"` // pod.spec.hostname when subdomain matches
}

// Report is what an agent says of itself, on change and every ReportInterval.
type Report struct {
	Node           schema.NodeName         `json:"node"`
	BootID         string                  `json:"bootID"`
	AppliedVersion uint64                  `json:"appliedVersion"` // Work version whose service table is programmed: the acknowledgement draining waits for
	Info           corev1.NodeSystemInfo   `json:"info"`
	NodeIPs        schema.List[string]     `json:"nodeIP"`
	Capacity       corev1.ResourceList     `json:"capacity"`
	Allocatable    corev1.ResourceList     `json:"allocatable"`
	Labels         map[string]string       `json:"labels,omitempty"`
	Taints         []corev1.Taint          `json:"taints,omitempty"`
	Pods           []PodReport             `json:"pods"` // every pod of ours on the node, sorted by UID
	Images         []corev1.ContainerImage `json:"images,omitempty"`
	Problem        *NodeProblem            `json:"trouble,omitempty"` // why the node cannot work, nil when it can
	Events         []Event                 `json:"events,omitempty"`  // new since the last report that was answered
}

// NodeProblem is what keeps a node from its work, in the words of its condition Ready:
// a reason of package schema, and the cause in all words.
type NodeProblem struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// ReportInterval is how often an agent reports when nothing changes.
const ReportInterval = 2 * time.Second

// PodReport is one pod as the agent sees it.
type PodReport struct {
	UID       types.UID        `json:"uid"`
	Namespace string           `json:"namespace"`
	Name      string           `json:"name"`
	Epoch     int64            `json:"epoch"`
	Gone      bool             `json:"gone,omitempty"` // terminated and cleaned up; repeated until the pod leaves Work
	Status    corev1.PodStatus `json:"status"`
	// Logs are the last lines of containers that failed, as schema.LogTail has them;
	// of each once while they stay the same.
	Logs []LogTail `json:"logs,omitempty"`
}

// LogTail are the last lines that a container wrote in its newest run.
type LogTail struct {
	Container string   `json:"container"`
	Lines     []string `json:"lines"`
}

// Event is something a node wants told, as Kubernetes' events are.
type Event struct {
	Pod       types.UID   `json:"pod"`
	Namespace string      `json:"namespace"`
	Name      string      `json:"name"`
	Type      string      `json:"type"`   // Normal or Warning
	Reason    string      `json:"reason"` // Pulled, Unhealthy, BackOff, ...
	Message   string      `json:"message"`
	Container string      `json:"container,omitempty"`
	At        metav1.Time `json:"at"`
	Count     int32       `json:"count"`
}

// JoinRequest asks for a node certificate.
type JoinRequest struct {
	Token string          `json:"token"`
	Node  schema.NodeName `json:"node"`
	CSR   []byte          `json:"csr"` // PEM, CN "node:<name>"
	// NodeIPs are the addresses that the node asks for. The registry keeps them.
	NodeIPs schema.List[string] `json:"nodeIP,omitempty"`
}

// JoinResponse carries it.
type JoinResponse struct {
	Certificate []byte `json:"certificate"` // PEM
	CA          []byte `json:"ca"`          // PEM
}

// RenewRequest asks for a fresh certificate for the node that asks, over the
// connection its present one authenticates. The answer is a JoinResponse.
type RenewRequest struct {
	CSR []byte `json:"csr"` // PEM, CN "node:<name>", the node's present key
}

// LogRequest asks a node for a container's log. It travels in the work stream;
// the agent answers by POST to /agent/v1/logs/{ID}, the body being the log.
type LogRequest struct {
	ID        string               `json:"id"`
	Pod       types.UID            `json:"pod"`
	Container string               `json:"container"`
	Options   corev1.PodLogOptions `json:"options"`
}

// HeaderLogError on the agent's answer to a LogRequest tells why there is no log
// (no such container, nothing previous); the body is then empty.
const HeaderLogError = "Fairlead-Log-Error"

// HeaderLogBusy beside HeaderLogError says that the node answers as many logs as
// it may: the reader is to try again.
const HeaderLogBusy = "Fairlead-Log-Busy"

// ErrLogsBusy is wrapped by an agent's reason for not answering a LogRequest now.
var ErrLogsBusy = errors.New("the node answers as many logs as it may")

// Record is one object as the store keeps it, key /fairlead/v1/o/<kind>/<namespace>/<name>.
type Record struct {
	Key             schema.Key `json:"key"`
	ResourceVersion uint64     `json:"resourceVersion"`
	Object          []byte     `json:"object"` // EncodeObject's; origin in its annotations
}

// Paths of the agents' door.
const (
	PathJoin   = "/agent/v1/join"   // POST JoinRequest
	PathRenew  = "/agent/v1/renew"  // POST RenewRequest
	PathWork   = "/agent/v1/work"   // GET, ?since=V; a stream of Frame, one JSON value a line
	PathReport = "/agent/v1/report" // POST Report
	PathLogs   = "/agent/v1/logs/"  // POST, + LogRequest.ID
	PathKept   = "/agent/v1/kept"   // POST Kept
)
