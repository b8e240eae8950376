package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var serviceRow = Row{
	Kind:       schema.KindService,
	Controller: controllerCell{Do: Controller{"service", serviceTriggers, reconcileService}},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: "the controller of its slices removes them"},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: takenOver},
	StandIn:    standInCell{None: noStandIn},
}

// Refused reports whether a service asks for an address or port that it may not
// have: nodes must program none of it, and its condition says why.
func Refused(svc *corev1.Service) bool {
	cond, ok := allocatedCondition(svc)
	return ok && cond.Status == metav1.ConditionFalse
}

func allocatedCondition(svc *corev1.Service) (metav1.Condition, bool) {
	for _, cond := range svc.Status.Conditions {
		if cond.Type == schema.ConditionAllocated {
			return cond, true
		}
	}
	return metav1.Condition{}, false
}

// serviceTriggers visits a changed service, and those that wait for an address or
// port which a changed one gave back.
func serviceTriggers(r state.Reader, c state.Change) []schema.Key {
	if c.Key.Kind != schema.KindService {
		return nil
	}
	keys := []schema.Key{c.Key}
	old, ok := c.Old.(*corev1.Service)
	if !ok {
		return keys
	}
	claimants := slices.Collect(r.By(state.ServicesByClusterIP, old.Spec.ClusterIP))
	for _, port := range claims(old).ports {
		claimants = slices.AppendSeq(claimants, r.By(state.ServicesByNodePort, port))
	}
	for _, other := range claimants {
		if Refused(other.(*corev1.Service)) {
			keys = append(keys, schema.KeyOf(other))
		}
	}
	return keys
}

// allocation is what a service holds or asks for.
type allocation struct {
	ip    string   // "" for none
	ports []string // "30080/TCP", in the spec's order
}

func claims(svc *corev1.Service) (a allocation) {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return a
	}
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		a.ip = svc.Spec.ClusterIP
	}
	for _, p := range svc.Spec.Ports {
		if p.NodePort != 0 {
			a.ports = append(a.ports, nodePortKey(p.NodePort, p.Protocol))
		}
	}
	return a
}

// nodePortKey is the form of state.ServicesByNodePort.
func nodePortKey(port int32, protocol corev1.Protocol) string {
	return fmt.Sprintf("%d/%s", port, protocol)
}

func (a allocation) String() string {
	return strings.TrimSpace(a.ip + " " + strings.Join(a.ports, " "))
}

// holds reports whether svc was given what its spec names now.
func holds(svc *corev1.Service) bool {
	cond, ok := allocatedCondition(svc)
	return ok && cond.Status == metav1.ConditionTrue && cond.Message == claims(svc).String()
}

// RetryAllocation is how often a service is tried again that found its whole range
// taken: who gives something back does not know it.
const RetryAllocation = time.Minute

// reconcileService gives a service its cluster address and node ports. What the
// manifest names itself is checked and never taken from another service; the one
// that asks in vain is refused as a whole until what it asks for is free.
func reconcileService(c *Context, key schema.Key) (wake time.Time) {
	svc, ok := state.Get[*corev1.Service](c.Tx, key.Namespace, key.Name)
	if !ok || svc.Spec.Type == corev1.ServiceTypeExternalName {
		return wake
	}
	next := state.Edit(svc)
	err := allocate(c, next)
	if err != nil {
		next.Spec = svc.Spec // all or nothing
	}
	setFamilies(&next.Spec)
	refused := setAllocated(c, next, err)
	putChanged(c, svc, next)
	var r refusal
	if !errors.As(err, &r) {
		return wake
	}
	if refused {
		Event(c, next, corev1.EventTypeWarning, r.reason, r.message)
	}
	if r.full {
		wake = c.Now.Add(RetryAllocation)
	}
	return wake
}

// refusal is why a service cannot have what it asks for.
type refusal struct {
	reason, message string
	full            bool // nothing of the range is free
}

func (r refusal) Error() string { return r.message }

// allocate checks what svc names and fills in what it leaves open, in place.
func allocate(c *Context, svc *corev1.Service) error {
	if err := checkAddress(c, svc); err != nil {
		return err
	}
	if err := checkPorts(c, svc); err != nil {
		return err
	}
	if svc.Spec.ClusterIP == "" {
		ip, err := freeAddress(c, svc)
		if err != nil {
			return err
		}
		svc.Spec.ClusterIP = ip
	}
	return allocatePorts(c, svc)
}

func checkAddress(c *Context, svc *corev1.Service) error {
	ip := claims(svc).ip
	if ip == "" || holds(svc) {
		return nil
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil || !assignable(c.Config, addr) {
		return refusal{reason: schema.ReasonClusterIPOutOfRange, message: fmt.Sprintf("cluster address %s is not one of %s, or reserved there", ip, c.Config.ServiceCIDR)}
	}
	if other := holder(c.Tx, svc, state.ServicesByClusterIP, ip); other != nil {
		return refusal{reason: schema.ReasonClusterIPInUse, message: fmt.Sprintf("cluster address %s belongs to service %s/%s", ip, other.Namespace, other.Name)}
	}
	return nil
}

func checkPorts(c *Context, svc *corev1.Service) error {
	if holds(svc) {
		return nil
	}
	seen := map[string]bool{}
	for _, p := range svc.Spec.Ports {
		if p.NodePort == 0 {
			continue
		}
		key := nodePortKey(p.NodePort, p.Protocol)
		if p.NodePort < int32(c.Config.NodePortFirst) || p.NodePort > int32(c.Config.NodePortLast) {
			return refusal{reason: schema.ReasonNodePortOutOfRange, message: fmt.Sprintf("node port %s is outside %d-%d", key, c.Config.NodePortFirst, c.Config.NodePortLast)}
		}
		if seen[key] {
			return refusal{reason: schema.ReasonNodePortInUse, message: fmt.Sprintf("node port %s is used twice in this service", key)}
		}
		seen[key] = true
		if other := holder(c.Tx, svc, state.ServicesByNodePort, key); other != nil {
			return refusal{reason: schema.ReasonNodePortInUse, message: fmt.Sprintf("node port %s belongs to service %s/%s", key, other.Namespace, other.Name)}
		}
	}
	return nil
}

// holder is another service that holds the value, nil if none does. One that
// merely asks for it does not count: the first to be visited wins.
func holder(r state.Reader, svc *corev1.Service, ix state.Index, value string) *corev1.Service {
	for other := range state.By[*corev1.Service](r, ix, value) {
		if schema.KeyOf(other) != schema.KeyOf(svc) && holds(other) {
			return other
		}
	}
	return nil
}

// assignable reports whether a service may have the address: inside the range and
// neither its first nor its last, nor the DNS server's.
func assignable(cfg Config, addr netip.Addr) bool {
	if !cfg.ServiceCIDR.Contains(addr) || addr == cfg.DNS {
		return false
	}
	offset := uint64(asNumber(addr) - asNumber(cfg.ServiceCIDR.Masked().Addr()))
	return offset != 0 && offset != rangeSize(cfg.ServiceCIDR)-1
}

func rangeSize(p netip.Prefix) uint64 { return 1 << (32 - p.Bits()) }

func asNumber(addr netip.Addr) uint32 {
	b := addr.Unmap().As4()
	return binary.BigEndian.Uint32(b[:])
}

func asAddr(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// startOf is where the search for a free number begins, so that a service gets
// the same one again when nothing is in the way.
func startOf(svc *corev1.Service, what string, size uint64) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s/%s", what, svc.Namespace, svc.Name)
	return h.Sum64() % size
}

// freeAddress is the first address from the service's start that nobody names, nor may
// come to have again.
func freeAddress(c *Context, svc *corev1.Service) (string, error) {
	size := rangeSize(c.Config.ServiceCIDR)
	base, start := asNumber(c.Config.ServiceCIDR.Masked().Addr()), startOf(svc, "address", size)
	kept := GivenUp(c.Tx, schema.SourceOf(svc))
	for i := range size {
		addr := asAddr(base + uint32((start+i)%size))
		if assignable(c.Config, addr) && kept[addr.String()] == nil && !taken(c.Tx, state.ServicesByClusterIP, addr.String()) {
			return addr.String(), nil
		}
	}
	return "", refusal{reason: schema.ReasonClusterIPsExhausted, message: fmt.Sprintf("no address of %s is free", c.Config.ServiceCIDR), full: true}
}

func taken(r state.Reader, ix state.Index, value string) bool {
	for range r.By(ix, value) {
		return true
	}
	return false
}

// allocatePorts gives each port of a NodePort service a node port, in place.
func allocatePorts(c *Context, svc *corev1.Service) error {
	if svc.Spec.Type != corev1.ServiceTypeNodePort {
		return nil
	}
	own, kept := claims(svc).ports, GivenUp(c.Tx, schema.SourceOf(svc))
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.NodePort != 0 {
			continue
		}
		port, err := freePort(c, svc, p, func(key string) bool { return kept[key] == nil && !slices.Contains(own, key) })
		if err != nil {
			return err
		}
		p.NodePort = port
		own = append(own, nodePortKey(port, p.Protocol))
	}
	return nil
}

// freePort is the first port from the service's start that may be had and nobody names.
func freePort(c *Context, svc *corev1.Service, p *corev1.ServicePort, mayHave func(key string) bool) (int32, error) {
	first, size := uint64(c.Config.NodePortFirst), uint64(c.Config.NodePortLast)-uint64(c.Config.NodePortFirst)+1
	start := startOf(svc, fmt.Sprintf("%d/%s", p.Port, p.Protocol), size)
	for i := range size {
		port := int32(first + (start+i)%size)
		key := nodePortKey(port, p.Protocol)
		if mayHave(key) && !taken(c.Tx, state.ServicesByNodePort, key) {
			return port, nil
		}
	}
	return 0, refusal{reason: schema.ReasonNodePortsExhausted, message: fmt.Sprintf("no node port of %d-%d is free", c.Config.NodePortFirst, c.Config.NodePortLast), full: true}
}

// setFamilies fills in what follows from the cluster address.
func setFamilies(spec *corev1.ServiceSpec) {
	if spec.ClusterIP == "" {
		return
	}
	spec.ClusterIPs = []string{spec.ClusterIP}
	spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	policy := corev1.IPFamilyPolicySingleStack
	spec.IPFamilyPolicy = &policy
}

// setAllocated writes the condition, in place, and reports whether it is a
// refusal not told yet.
func setAllocated(c *Context, svc *corev1.Service, err error) (refused bool) {
	want := metav1.Condition{
		Type: schema.ConditionAllocated, Status: metav1.ConditionTrue, Reason: schema.ReasonAllocated,
		Message: claims(svc).String(), ObservedGeneration: svc.Generation, LastTransitionTime: c.Stamp(),
	}
	var r refusal
	if errors.As(err, &r) {
		want.Status, want.Reason, want.Message = metav1.ConditionFalse, r.reason, r.message
	}
	i := slices.IndexFunc(svc.Status.Conditions, func(cond metav1.Condition) bool { return cond.Type == schema.ConditionAllocated })
	if i < 0 {
		svc.Status.Conditions = append(svc.Status.Conditions, want)
		return err != nil
	}
	had := svc.Status.Conditions[i]
	if had.Status == want.Status {
		want.LastTransitionTime = had.LastTransitionTime
	}
	svc.Status.Conditions[i] = want
	return err != nil && (had.Status != want.Status || had.Reason != want.Reason || had.Message != want.Message)
}
