package reconciler

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/reconciler/state"
	"fairlead/schema/wire"
)

// claim is the address of a pod bound to a node as it will be after a report, and as
// it is before.
type claim struct {
	pod         *corev1.Pod
	before, now address
	refusal     string // why the report is not taken, and now is before
}

// address is an IP and whether its pod holds it: one that has ended does not, and
// keeps it only for show.
type address struct {
	ip   string
	held bool
}

func addressOf(ip string, phase corev1.PodPhase) address {
	return address{ip, ip != "" && phase != corev1.PodSucceeded && phase != corev1.PodFailed}
}

// reportedAddress is the address that pod has if its report is taken.
func reportedAddress(pod *corev1.Pod, r *wire.PodReport) address {
	if r.Gone && pod.DeletionTimestamp != nil {
		return address{}
	}
	if r.Gone {
		return addressOf(pod.Status.PodIP, pod.Status.Phase)
	}
	return addressOf(r.Status.PodIP, phaseSaid(pod, &r.Status))
}

// refusedAddresses tells, by pod, why a node may not give pods that are bound to it the
// addresses that it reports: an address must be of the node's range, and no two pods
// hold the same one. The report is judged as a whole, in which pods may have exchanged
// their addresses; of two pods that want the same one it is kept by the pod that has
// it, else given to the one named first in the report.
func refusedAddresses(r state.Reader, in *NodeReport) map[types.UID]string {
	if !addressesMove(r, in) {
		return nil
	}
	claims := claimsOf(r, in)
	byIP := map[string][]*claim{}
	var open []string // addresses that more than one pod may hold
	hold := func(c *claim) {
		if c.now.held {
			byIP[c.now.ip] = append(byIP[c.now.ip], c)
			open = append(open, c.now.ip)
		}
	}
	prefix, err := netip.ParsePrefix(in.PodCIDR)
	for _, c := range claims {
		if c.now.ip != "" && c.now.ip != c.before.ip && (err != nil || !isWithin(prefix, c.now.ip)) {
			c.refuse("%s reports address %s, which is outside its range %s", in.Report.Node, cut(c.now.ip, maxReportedReason), in.PodCIDR)
		}
		hold(c)
	}
	for len(open) > 0 { // ends: a claim is refused once
		ip := open[0]
		open = open[1:]
		owner := ownerOf(byIP[ip])
		for _, c := range byIP[ip] {
			if c != owner && c.refusal == "" && c.now != c.before {
				c.refuse("%s reports address %s, which is that of pod %s/%s", in.Report.Node, ip, owner.pod.Namespace, owner.pod.Name)
				hold(c)
			}
		}
		byIP[ip] = []*claim{owner}
	}
	return refusals(claims)
}

// addressesMove reports whether any pod would get another address by the report, or
// hold one that it does not: of most reports none does.
func addressesMove(r state.Reader, in *NodeReport) bool {
	for i := range in.Report.Pods {
		pod, ok := state.PodByUID(r, in.Report.Pods[i].UID)
		if ok && pod.Spec.NodeName == string(in.Report.Node) && reportedAddress(pod, &in.Report.Pods[i]) != addressOf(pod.Status.PodIP, pod.Status.Phase) {
			return true
		}
	}
	return false
}

// claimsOf are those of the report's pods in its order, then those of the node's other
// pods, which keep what they have.
func claimsOf(r state.Reader, in *NodeReport) (claims []*claim) {
	reported := map[types.UID]bool{}
	for i := range in.Report.Pods {
		said := &in.Report.Pods[i]
		pod, ok := state.PodByUID(r, said.UID)
		if ok && pod.Spec.NodeName == string(in.Report.Node) && !reported[pod.UID] {
			reported[pod.UID] = true
			claims = append(claims, &claim{pod: pod, before: addressOf(pod.Status.PodIP, pod.Status.Phase), now: reportedAddress(pod, said)})
		}
	}
	for pod := range state.By[*corev1.Pod](r, state.PodsByNode, string(in.Report.Node)) {
		if !reported[pod.UID] {
			has := addressOf(pod.Status.PodIP, pod.Status.Phase)
			claims = append(claims, &claim{pod: pod, before: has, now: has})
		}
	}
	return claims
}

// isWithin reports whether ip is an address of the range, spelled as addresses are.
func isWithin(prefix netip.Prefix, ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && addr.String() == ip && prefix.Contains(addr)
}

func (c *claim) refuse(format string, args ...any) {
	c.refusal, c.now = fmt.Sprintf(format, args...), c.before
}

// ownerOf is the one of the claims on an address that stands.
func ownerOf(claims []*claim) *claim {
	for _, c := range claims {
		if c.now == c.before {
			return c
		}
	}
	return claims[0]
}

func refusals(claims []*claim) map[types.UID]string {
	out := map[types.UID]string{}
	for _, c := range claims {
		if c.refusal != "" {
			out[c.pod.UID] = c.refusal
		}
	}
	return out
}
