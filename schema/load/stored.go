package load

import (
	"fmt"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
	"fairlead/schema/wire"
)

// stored is what objects come to in the store, with the pods that they ask for.
type stored struct{ bytes, pods int64 }

func (s *stored) add(o stored)  { s.bytes += o.bytes; s.pods += o.pods }
func (s *stored) take(o stored) { s.bytes -= o.bytes; s.pods -= o.pods }

// storedBy counts an object of that encoded size, with what is made of it on the way to
// its pods.
func storedBy(obj schema.Object, size int64) (stored, schema.PodTemplate) {
	pods, ok := schema.PodTemplateOf(obj)
	switch {
	case !ok:
		return stored{bytes: size}, pods
	case pods.CountField == "": // a pod of its own
		return stored{size, 1}, pods
	}
	return stored{size * (1 + pods.Between + pods.Count), pods.Count}, pods
}

// measure is what the object comes to as it is encoded: what it is written as says
// little of that, for keys without values count, and aliases write one text many
// times. It refuses an object that would not fit into the store.
func measure(d *yaml.Decoder, obj schema.Object, n *yaml.Node) stored {
	if d.Refused() {
		return stored{} // it goes nowhere, and why may be told already
	}
	size := wire.EncodedSize(obj)
	s, pods := storedBy(obj, int64(size))
	at, _ := yaml.Locate(n, pods.CountField)
	switch {
	case size > schema.MaxDesiredBytes:
		d.Report(schema.Error, n, "split it", "the object takes %d bytes as stored, at most %d fit", size, schema.MaxDesiredBytes)
	case wire.PodBytes(obj) > schema.MaxPodBytes:
		d.Report(schema.Error, n, "put long texts into a ConfigMap, and mount it", "a pod of it takes %d bytes as JSON, at most %d can be sent to a node", wire.PodBytes(obj), schema.MaxPodBytes)
	case s.pods > schema.MaxPods:
		d.Report(schema.Error, at, "", "%s: %d pods, a tree may ask for %d", pods.CountField, s.pods, schema.MaxPods)
	case s.bytes > schema.MaxStoredBytes:
		d.Report(schema.Error, at, "ask for fewer, or make the template smaller", "%s: the pods take %d bytes as stored, at most %d fit", pods.CountField, s.bytes, schema.MaxStoredBytes)
	default:
		return s
	}
	return stored{} // of the tree's sum it is no part: that would be the same mistake told twice
}

// checkStored refuses a tree whose objects, each of which fits, do not fit together.
func (l *loader) checkStored(m *manifests, evaluated []decoded) {
	all := m.all.stored
	for _, d := range evaluated {
		for _, desired := range d.objects {
			all.add(objectOf(desired).stored)
		}
	}
	if all.pods > schema.MaxPods {
		l.fail(schema.Position{}, fmt.Sprintf("the tree asks for %d pods, at most %d are run", all.pods, schema.MaxPods), "")
	}
	if all.bytes > schema.MaxStoredBytes {
		l.fail(schema.Position{}, fmt.Sprintf("the tree's objects and pods take %d bytes as stored, at most %d fit", all.bytes, schema.MaxStoredBytes), "split it into several sources")
	}
}
