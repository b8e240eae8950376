package sim

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// A Service promises that every node leads to pods that it selects and to no other, and
// in the end to all of them that are ready. Each is asked for with its workload.
var serviceRow = row{
	kind:     schema.KindService,
	asks:     schema.Cell[asking]{None: "a Deployment brings its own"},
	holds:    schema.Cell[func(*truth, *state.Snapshot, schema.Object)]{Do: (*truth).selects},
	leaves:   schema.Cell[func(t *truth, was, is *state.Snapshot, p *corev1.Pod)]{None: "no pod is a Service's"},
	missing:  schema.Cell[func(*truth, schema.Key) bool]{None: "it never goes by itself"},
	outlives: schema.Cell[func(schema.Object) bool]{None: neverDone},
	rests:    schema.Cell[func(*truth, schema.Object, podSet) string]{Do: (*truth).serviceRests},
}

// selects remembers what a service selects: a node's table may know it for longer than
// the cluster.
func (t *truth) selects(_ *state.Snapshot, obj schema.Object) {
	svc := obj.(*corev1.Service)
	t.selectors[svc.Namespace+"/"+svc.Name] = labels.SelectorFromSet(svc.Spec.Selector)
}

func leadsTo(table *wire.Work, ip netip.Addr) bool {
	if table == nil {
		return false
	}
	for _, s := range table.Services {
		for _, e := range s.Endpoints {
			if e.IP == ip.String() {
				return true
			}
		}
	}
	return false
}

// backends: what a node in contact sends requests to is a pod of that service (S9).
func (t *truth) backends(n *node) {
	if !t.inContact(n, inContact) || n.table == nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.table.Services)) {
		for _, e := range n.table.Services[name].Endpoints {
			owner, has := t.owner(e.IP)
			key := fmt.Sprint(n.name, name, e.IP)
			if has {
				delete(t.missing, key)
				p, ok := state.PodByUID(t.latest, owner)
				if selector := t.selectors[name]; ok && (selector == nil || !selector.Matches(labels.Set(p.Labels))) {
					t.w.broken("S9", "%s sends requests for %s to %s, which it does not select", n.name, name, p.Name)
				}
				continue
			}
			if t.missing[key].IsZero() {
				t.missing[key] = t.w.now
			}
			if t.w.now.Sub(t.missing[key]) > sandboxOwner+silentNode {
				t.w.broken("S9", "%s sends requests for %s to %s, where nobody is", n.name, name, e.IP)
			}
		}
	}
}

func (t *truth) serviceRests(obj schema.Object, _ podSet) string {
	svc := obj.(*corev1.Service)
	name, selector := svc.Namespace+"/"+svc.Name, labels.SelectorFromSet(svc.Spec.Selector)
	var want []string
	for p := range state.All[*corev1.Pod](t.latest, svc.Namespace) {
		if selector.Matches(labels.Set(p.Labels)) && isReady(p) {
			want = append(want, p.Status.PodIP)
		}
	}
	slices.Sort(want)
	for _, n := range t.w.nodes {
		if n.table == nil {
			return string(n.name) + " has no table"
		}
		var have []string
		for _, e := range n.table.Services[name].Endpoints {
			have = append(have, e.IP)
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			return fmt.Sprintf("%s leads %s to %v, not %v", n.name, name, have, want)
		}
		if len(n.table.Services) != t.latest.Len(schema.KindService) {
			return fmt.Sprintf("%s knows %d services of %d", n.name, len(n.table.Services), t.latest.Len(schema.KindService))
		}
	}
	return ""
}
