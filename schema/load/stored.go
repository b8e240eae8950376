package load

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
	"fairlead/schema/wire"
)

// stored is what objects come to in the store, with the pods that they ask for.
type stored struct{ bytes, pods int64 }

func (s *stored) add(o stored)  { s.bytes += o.bytes; s.pods += o.pods }
func (s *stored) take(o stored) { s.bytes -= o.bytes; s.pods -= o.pods }

// storedBy counts an object of that encoded size.
func storedBy(obj schema.Object, size int64) stored {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		replicas := int64(0)
		if o.Spec.Replicas != nil {
			replicas = max(0, int64(*o.Spec.Replicas))
		}
		return stored{size * (2 + replicas), replicas} // itself, its replica set, its pods
	case *corev1.Pod:
		return stored{size, 1}
	}
	return stored{bytes: size}
}

// measure is what the object comes to as it is encoded: what it is written as says
// little of that, for keys without values count, and aliases write one text many
// times. It refuses an object that would not fit into the store.
func measure(d *yaml.Decoder, obj schema.Object, n *yaml.Node) stored {
	if d.Refused() {
		return stored{} // it goes nowhere, and why may be told already
	}
	size := wire.EncodedSize(obj)
	s := storedBy(obj, int64(size))
	at, _ := yaml.Locate(n, "spec.replicas")
	switch {
	case size > schema.MaxDesiredBytes:
		d.Report(schema.Error, n, "split it", "the object takes %d bytes as stored, at most %d fit", size, schema.MaxDesiredBytes)
	case wire.PodBytes(obj) > schema.MaxPodBytes:
		d.Report(schema.Error, n, "put long texts into a ConfigMap, and mount it", "a pod of it takes %d bytes as JSON, at most %d can be sent to a node", wire.PodBytes(obj), schema.MaxPodBytes)
	case s.pods > schema.MaxPods:
		d.Report(schema.Error, at, "", "spec.replicas: %d pods, a tree may ask for %d", s.pods, schema.MaxPods)
	case s.bytes > schema.MaxStoredBytes:
		d.Report(schema.Error, at, "ask for fewer, or make the template smaller", "spec.replicas: the pods take %d bytes as stored, at most %d fit", s.bytes, schema.MaxStoredBytes)
	default:
		return s
	}
	return stored{} // of the tree's sum it is no part: that would be the same mistake told twice
}

// checkStored refuses a tree whose objects, each of which fits, do not fit together.
func (l *loader) checkStored(m *manifests, cues []decoded) {
	all := m.all.stored
	for _, d := range cues {
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
