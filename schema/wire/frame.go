package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema"
)

// Frame is one line of the work stream. A frame with Since 0 carries the whole;
// any other takes the value of version Since to Version. Hash is that of the
// whole after the frame: a mismatch means start again from 0. A frame may carry
// log requests beside, or nothing at all (a heartbeat); one without Hash changes
// nothing.
type Frame struct {
	Version uint64                     `json:"version"`
	Since   uint64                     `json:"since"`
	Hash    string                     `json:"hash,omitempty"`
	Set     map[string]json.RawMessage `json:"set,omitempty"`
	Delete  []string                   `json:"delete,omitempty"`
	Logs    []LogRequest               `json:"logs,omitempty"`
	// Recover asks for what the node kept: the master has lost its store, sends
	// no work before it has the cluster again, and repeats this until then.
	Recover bool `json:"recover,omitempty"`
}

// Append writes the frame as json.Marshal does, onto dst, and leaves room for the
// end of the line. The values, which are compact JSON already, are neither read nor
// checked again: a whole cluster goes to every node that connects.
func (f *Frame) Append(dst []byte) ([]byte, error) {
	rest := *f
	rest.Set = nil
	tail, err := json.Marshal(rest)
	if err != nil || len(f.Set) == 0 {
		return append(dst, tail...), err
	}
	// What comes before the values in the frame never is left out; the hash may be.
	head, err := json.Marshal(Frame{Version: f.Version, Since: f.Since, Hash: f.Hash})
	if err != nil {
		return dst, err
	}
	size := len(head) + len(`,"set":{}`) + len(tail) + len("\n")
	for key, value := range f.Set {
		size += len(key) + len(value) + len(`"":,`)
	}
	dst = append(append(slices.Grow(dst, size), head[:len(head)-1]...), `,"set":`...)
	for i, key := range slices.Sorted(maps.Keys(f.Set)) {
		dst = append(dst, "{,"[min(i, 1)])
		name, err := json.Marshal(key)
		if err != nil {
			return dst, err
		}
		dst = append(append(append(dst, name...), ':'), f.Set[key]...)
	}
	dst = append(dst, '}')
	return append(dst, tail[len(head)-1:]...), nil
}

// Items is a Work taken apart, one entry per thing that changes alone: "node",
// "pods/<uid>", "services/<namespace>/<name>", ... Values are compact JSON.
type Items map[string]json.RawMessage

// head is the part of Work that is not a map.
type head struct {
	Node     schema.NodeName     `json:"node"`
	Cluster  ClusterInfo         `json:"cluster"`
	PodCIDRs schema.List[string] `json:"podCIDR"`
}

// Split takes w apart. Join is its inverse.
func Split(w *Work) Items {
	items := make(Items, 1+len(w.Peers)+len(w.Pods)+len(w.ConfigMaps)+len(w.BinaryKeys)+len(w.Secrets)+len(w.Services))
	put := func(key string, v any) {
		data, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("wire: marshal %s: %v", key, err))
		}
		items[key] = data
	}
	put("node", head{w.Node, w.Cluster, w.PodCIDRs})
	for k, v := range w.Peers {
		put("peers/"+string(k), v)
	}
	for k, v := range w.Pods {
		put("pods/"+string(k), v)
	}
	for k, v := range w.ConfigMaps {
		put("configMaps/"+k, v)
	}
	for k, v := range w.BinaryKeys {
		put("binaryKeys/"+k, v)
	}
	for k, v := range w.Secrets {
		put("secrets/"+k, v)
	}
	for k, v := range w.Services {
		put("services/"+k, v)
	}
	return items
}

// Join puts items together again. An item of an unknown family is left out, so
// that an old agent understands a newer master.
func Join(items Items) (*Work, error) {
	w := &Work{
		Peers: map[schema.NodeName]Peer{}, Pods: map[types.UID]PodWork{},
		ConfigMaps: map[string]map[string][]byte{}, Secrets: map[string]map[string][]byte{},
		Services: map[string]Service{},
	}
	for key, data := range items {
		family, name, _ := strings.Cut(key, "/")
		var err error
		switch family {
		case "node":
			var h head
			err = json.Unmarshal(data, &h)
			w.Node, w.Cluster, w.PodCIDRs = h.Node, h.Cluster, h.PodCIDRs
		case "peers":
			err = into(w.Peers, schema.NodeName(name), data)
		case "pods":
			err = into(w.Pods, types.UID(name), data)
			if err == nil && w.Pods[types.UID(name)].Pod == nil {
				err = fmt.Errorf("no pod")
			}
		case "configMaps":
			err = into(w.ConfigMaps, name, data)
		case "binaryKeys":
			if w.BinaryKeys == nil { // few have any
				w.BinaryKeys = map[string][]string{}
			}
			err = into(w.BinaryKeys, name, data)
		case "secrets":
			err = into(w.Secrets, name, data)
		case "services":
			err = into(w.Services, name, data)
		}
		if err != nil {
			return nil, fmt.Errorf("work item %s: %w", key, err)
		}
	}
	return w, nil
}

func into[K comparable, V any](m map[K]V, key K, data []byte) error {
	var v V
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	m[key] = v
	return nil
}

// Delta is the frame that takes old (of version since) to new (of version).
func Delta(old, new Items, since, version uint64) Frame {
	f := Frame{Version: version, Since: since, Hash: new.Hash(), Set: map[string]json.RawMessage{}}
	for k, v := range new {
		if prev, ok := old[k]; !ok || !bytes.Equal(prev, v) {
			f.Set[k] = v
		}
	}
	for k := range old {
		if _, ok := new[k]; !ok {
			f.Delete = append(f.Delete, k)
		}
	}
	slices.Sort(f.Delete)
	return f
}

// Apply returns items after f, which must follow their version; a frame with
// Since 0 starts from nothing. It refuses a frame whose hash does not match.
func (items Items) Apply(f Frame) (Items, error) {
	out := Items{}
	if f.Since != 0 {
		out = maps.Clone(items)
	}
	for _, k := range f.Delete {
		delete(out, k)
	}
	maps.Copy(out, f.Set)
	if h := out.Hash(); h != f.Hash {
		return nil, fmt.Errorf("work version %d: hash is %s, the master says %s", f.Version, h, f.Hash)
	}
	return out, nil
}

// Hash identifies the whole, whatever order it was built in.
func (items Items) Hash() string { return items.Sum().String() }

// Sum is a Hash before it is written out: the byte-wise sum of the SHA-256 of
// each item, so that the sums of parts without a common key add up to the
// whole's.
type Sum [16]byte

// Sum adds up the items.
func (items Items) Sum() Sum {
	var sum Sum
	for k, v := range items {
		sum = sum.Plus(ItemSum(k, v))
	}
	return sum
}

// ItemSum is the Sum of one item.
func ItemSum(key string, value json.RawMessage) Sum {
	h := sha256.New()
	_, _ = io.WriteString(h, key) // a hash takes everything
	_, _ = h.Write([]byte{0})
	_, _ = h.Write(value)
	var sum [sha256.Size]byte
	return Sum(h.Sum(sum[:0])[:len(Sum{})])
}

// Plus is the sum of both.
func (s Sum) Plus(o Sum) Sum {
	for i := range s {
		s[i] += o[i]
	}
	return s
}

// Minus takes o, which was added before, out again.
func (s Sum) Minus(o Sum) Sum {
	for i := range s {
		s[i] -= o[i]
	}
	return s
}

// String is the form frames carry.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// PodRefs are the objects that a pod takes something from, by kind: their names as
// "namespace/name", sorted, each once.
func PodRefs(pod *corev1.Pod) map[schema.Kind][]string {
	names := map[schema.Kind][]string{}
	for r := range schema.References(&pod.Spec) {
		names[r.Kind] = append(names[r.Kind], pod.Namespace+"/"+r.Name)
	}
	for kind, of := range names {
		slices.Sort(of)
		names[kind] = slices.Compact(of)
	}
	return names
}
