package nodeagent

import (
	"fmt"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// addressRest is how long a released address stays unused, so that no packet
// and no DNS answer meant for its last pod reaches the next one.
const addressRest = 60 * time.Second

// addresses gives pods their addresses from the node's range. Times are wall
// clock of this one host, so that the rest holds over a restart.
type addresses struct {
	Given   map[types.UID]netip.Addr `json:"given"`
	Resting map[netip.Addr]time.Time `json:"resting"` // when it was given back
	Next    netip.Addr               `json:"next"`    // where the search goes on: oldest addresses first

	dirty bool
}

func newAddresses() *addresses {
	return &addresses{Given: map[types.UID]netip.Addr{}, Resting: map[netip.Addr]time.Time{}}
}

// give returns the pod's address, choosing one if it has none. The first and
// the last address of the range are never given.
func (a *addresses) give(uid types.UID, cidr netip.Prefix, now time.Time) (netip.Addr, error) {
	if ip, ok := a.Given[uid]; ok {
		return ip, nil
	}
	taken := make(map[netip.Addr]bool, len(a.Given))
	for _, ip := range a.Given {
		taken[ip] = true
	}
	for ip, at := range a.Resting {
		switch {
		case now.Before(at): // the clock was set back: it rests anew
			a.Resting[ip], taken[ip] = now, true
		case now.Sub(at) < addressRest:
			taken[ip] = true
		default:
			delete(a.Resting, ip)
		}
	}
	cidr = cidr.Masked()
	first := cidr.Addr().Next()
	ip := a.Next
	if !cidr.Contains(ip) {
		ip = first
	}
	for range 1 << (cidr.Addr().BitLen() - cidr.Bits()) {
		next := ip.Next()
		if !next.IsValid() || !cidr.Contains(next) {
			ip = first // ip is the broadcast address
			continue
		}
		if ip != cidr.Addr() && !taken[ip] {
			a.Given[uid], a.Next, a.dirty = ip, next, true
			return ip, nil
		}
		ip = next
	}
	return netip.Addr{}, fmt.Errorf("no address left in %s: %d in use, %d resting", cidr, len(a.Given), len(a.Resting))
}

// keep records that a pod holds an address already. One that it was said to hold
// until now rests like any other given back.
func (a *addresses) keep(uid types.UID, ip netip.Addr, now time.Time) {
	if a.Given[uid] != ip {
		a.release(uid, now)
		a.Given[uid], a.dirty = ip, true
	}
}

// release gives a pod's address back, to rest.
func (a *addresses) release(uid types.UID, now time.Time) {
	if ip, ok := a.Given[uid]; ok {
		delete(a.Given, uid)
		a.Resting[ip], a.dirty = now, true
	}
}
