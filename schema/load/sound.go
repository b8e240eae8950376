package load

import (
	"net/netip"
	"slices"

	"fairlead/schema"
)

// Judging the whole tree goes through all of it. Where the last tree was sound,
// soundAfter looks at what changed since and at what that touches, and finds most
// often that this one is sound too. It never finds anything wrong: where it is not
// sure, the whole tree is judged.

// judgement is what judging a whole tree came to, and what it was told besides
// the tree.
type judgement struct {
	sound      bool
	namespaces []string
	nodePorts  PortRange
	services   netip.Prefix
	rights     string
	// outside is what namespaces of other sources asked of this tree's pods.
	outside map[string]schema.NamespaceSecurity
}

// soundAfter reports whether judging all objects would say nothing; fresh are
// those that were decoded now, sorted too.
func (l *loader) soundAfter(m *manifests, objects, fresh []*schema.Desired) bool {
	last := l.last.judged
	if !last.sound || m.lost || l.isEvaluated(m) || last.nodePorts != l.opts.NodePorts || last.services != l.opts.ServiceRange || last.rights != rightsOf(l.opts) || !slices.Equal(last.namespaces, l.opts.KnownNamespaces) {
		return false
	}
	t := &wholeTree{loader: l, objects: objects}
	for namespace, was := range last.outside {
		if t.securityOf(namespace) != was {
			return false
		}
	}
	added := &wholeTree{loader: l, objects: slices.DeleteFunc(slices.Clone(fresh), func(d *schema.Desired) bool { return objectOf(d).file.again })}
	isLedTo := t.leadsToPods()
	for _, i := range l.last.places(m.gone) {
		was := objectOf(l.last.objects[i])
		if !replaces(added.first(was.key), was, isLedTo) {
			return false
		}
	}
	for _, d := range added.objects {
		if !t.addsNothingToSay(objectOf(d)) {
			return false
		}
	}
	return true
}

// leadsToPods reports whether the tree has an object that does.
func (t *wholeTree) leadsToPods() bool {
	return slices.ContainsFunc(connecting, func(kind schema.Kind) bool { return len(t.ofKind(kind)) > 0 })
}

// replaces reports whether nobody who leaned on an object can miss it now that
// another has its key, or none.
func replaces(now, was object, isLedTo bool) bool {
	switch {
	case was.declares != nil:
		return now.exists() && now.declares.Namespace == was.declares.Namespace
	case schema.MayTake(was.key.Kind):
		return now.exists() && !was.flawed && containsKeys(now.Object, was.Object)
	case was.pods == nil || !isLedTo:
		return true
	}
	return now.exists() && containsAll(now.pods.labels, was.pods.labels) && containsAllPorts(now.pods.ports, was.pods.ports)
}

func containsKeys(now, was schema.Object) bool {
	have := schema.DataKeys(now)
	return !slices.ContainsFunc(schema.DataKeys(was), func(key string) bool { return !slices.Contains(have, key) })
}

func containsAllPorts(now, was []namedPort) bool {
	return !slices.ContainsFunc(was, func(p namedPort) bool { return !slices.Contains(now, p) })
}

// addsNothingToSay reports whether an object that was not there, or was another,
// is right where it is. Of one that leads to pods, which all need to be known, it does
// not tell.
func (t *wholeTree) addsNothingToSay(o object) bool {
	if connects(o.key.Kind) || t.isItsSource(o.key) || t.isDouble(o.key) {
		return false
	}
	if !t.isDeclared(o.key.Namespace) || !t.isWithinRights(o) {
		return false
	}
	if o.pods == nil {
		return isCarried(o) && (o.declares == nil || !o.declares.AsksOfPods())
	}
	if t.securityOf(o.key.Namespace) != (schema.NamespaceSecurity{}) {
		return false
	}
	for _, r := range o.pods.references {
		target := t.first(schema.Key{Kind: r.Kind, Namespace: o.key.Namespace, Name: r.Name})
		if r.Env && target.exists() && !target.flawed {
			if _, why := t.noEnvironment(target, r.Key); why != "" {
				return false
			}
		}
		if r.Optional && !r.Pull {
			continue
		}
		if !target.exists() || !target.flawed && !r.Fits(target.Object) || r.Key != "" && !target.flawed && !slices.Contains(schema.DataKeys(target.Object), r.Key) {
			return false
		}
	}
	return true
}

// isCarried reports whether whoever makes an environment from any of an object's keys
// can: of what pods take data from, anyone may.
func isCarried(o object) bool {
	return !slices.ContainsFunc(schema.DataKeys(o.Object), func(key string) bool {
		_, why := schema.NoEnvironment(o.Object, key)
		return why != ""
	})
}

// isDouble reports whether several objects have the key.
func (t *wholeTree) isDouble(key schema.Key) bool {
	i, _ := slices.BinarySearchFunc(t.objects, key, byKey)
	return i+1 < len(t.objects) && objectOf(t.objects[i+1]).key == key
}

// isDeclared reports whether objects may stand in a namespace.
func (t *wholeTree) isDeclared(namespace string) bool {
	return namespace == "" || t.makesNamespaces() || slices.Contains(schema.GivenNamespaces, namespace) || slices.Contains(t.opts.KnownNamespaces, namespace) ||
		t.declared()[namespace] != nil
}
