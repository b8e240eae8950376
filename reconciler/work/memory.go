package work

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// What the master cannot make again from Git, should it lose its store, every
// node keeps for it: identities, allocations, revisions. A node sees its own
// pods and what they reference and nothing else, so what it keeps is sealed to
// the master's key: it can neither read it nor make it up. A node's own pods it
// has in the clear; a seal beside each tells that they are as the master bound
// them.

// Keeper seals what nodes keep and reads what they give back. Equal objects
// seal to equal bytes, so that nothing is sent again that a node has. It may be
// used from several goroutines.
type Keeper struct {
	aead cipher.AEAD
	key  []byte // of nonces and seals
}

// NewKeeper derives its keys from the cluster's secret.
func NewKeeper(secret []byte) *Keeper {
	derive := func(purpose string) []byte {
		key, err := hkdf.Key(sha256.New, secret, nil, "fairlead/"+purpose, sha256.Size)
		if err != nil {
			panic("work: derive key: " + err.Error())
		}
		return key
	}
	block, err := aes.NewCipher(derive("records"))
	if err != nil {
		panic("work: cipher: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("work: cipher: " + err.Error())
	}
	return &Keeper{aead: aead, key: derive("seals")}
}

// RecordKey is the item under which nodes keep obj, if they do; its kind's row says
// so. What is of a kind without a row is kept.
func RecordKey(obj schema.Object) (key string, kept bool) {
	k := schema.KeyOf(obj)
	if row := schema.Of(k.Kind); row != nil {
		memory := &row.Memory.Do
		if memory.Lean == nil || memory.Kept != nil && !memory.Kept(obj) {
			return "", false
		}
	}
	return strings.Join([]string{wire.FamilyRecords, string(k.Kind), k.Namespace, k.Name}, "/"), true
}

// KeyOfRecord is the object that a key of RecordKey's names.
func KeyOfRecord(key string) (schema.Key, error) {
	parts := strings.Split(key, "/")
	if len(parts) != 4 {
		return schema.Key{}, fmt.Errorf("item %s is not %s/<kind>/<namespace>/<name>", key, wire.FamilyRecords)
	}
	return schema.Key{Kind: schema.Kind(parts[1]), Namespace: parts[2], Name: parts[3]}, nil
}

// Record is the sealed value of obj's item.
func (k *Keeper) Record(key string, obj schema.Object) json.RawMessage {
	return k.seal(key, lean(obj))
}

// Brief is the sealed value of the least that is kept of obj; false for nothing.
func (k *Keeper) Brief(key string, obj schema.Object) (json.RawMessage, bool) {
	if row := schema.Of(schema.KindOf(obj)); row != nil && row.Memory.Do.Brief != nil {
		obj = row.Memory.Do.Brief(obj)
		if obj == nil {
			return nil, false
		}
		return k.seal(key, obj), true
	}
	return k.Record(key, obj), true
}

func (k *Keeper) seal(key string, obj schema.Object) json.RawMessage {
	plain, err := wire.EncodeObject(obj)
	if err != nil {
		panic(fmt.Sprintf("work: encode %s: %v", key, err))
	}
	nonce := k.mac("nonce", key, plain)[:k.aead.NonceSize()]
	return asJSON(k.aead.Seal(slices.Clip(nonce), nonce, plain, []byte(key)))
}

// Seal is the value beside a pod's item. It is of that pod and no other.
func (k *Keeper) Seal(key string, item json.RawMessage) json.RawMessage {
	return asJSON(k.mac("item", key, item))
}

func (k *Keeper) mac(purpose, key string, data []byte) []byte {
	h := hmac.New(sha256.New, k.key)
	fmt.Fprintf(h, "%s\x00%s\x00", purpose, key)
	h.Write(data)
	return h.Sum(nil)
}

func asJSON(data []byte) json.RawMessage {
	out, err := json.Marshal(data)
	if err != nil {
		panic("work: marshal bytes: " + err.Error())
	}
	return out
}

// lean leaves out what changes often and is found out anew, as the kind's row says;
// what is of a kind without a row is kept whole.
func lean(obj schema.Object) schema.Object {
	row := schema.Of(schema.KindOf(obj))
	if row == nil || row.Memory.Do.Lean == nil {
		return obj
	}
	return row.Memory.Do.Lean(obj)
}

// Memory is what one node remembers of the cluster.
type Memory struct {
	Version uint64          // of the node's work
	Fresh   uint64          // highest resourceVersion that the records prove
	Records []schema.Object // sorted by key; as of Version
	Pods    []*corev1.Pod   // bound to the node, sorted by key
	// Unreadable are items that cannot be read, or are not as the master made them, by
	// the store's keys of what they should be. What the node keeps besides counts.
	Unreadable []wire.Unreadable
}

// Fresher reports whether m's records are of a later moment than other's. What
// a node says of its version counts only where the records themselves do not
// tell; of two of one moment the one of which more can be read is fresher.
func (m Memory) Fresher(other Memory) bool {
	return cmp.Or(cmp.Compare(m.Fresh, other.Fresh), cmp.Compare(m.Version, other.Version), cmp.Compare(len(other.Unreadable), len(m.Unreadable))) > 0
}

// Recall reads what node kept. An item that cannot be read, or is not as the master
// made it, is told of and left out: a node that may leave items out anyway gains
// nothing by spoiling them, and one damaged item must not hold up the whole cluster.
// Where more than half of the items are so, the whole is an error: what cannot be read
// is not nothing.
func (k *Keeper) Recall(node schema.NodeName, kept wire.Kept) (Memory, error) {
	m := Memory{Version: kept.Version}
	for _, key := range slices.Sorted(maps.Keys(kept.Items)) {
		family, name, _ := strings.Cut(key, "/")
		var err error
		switch family {
		case wire.FamilyRecords:
			var obj schema.Object
			if obj, err = k.open(key, kept.Items[key]); err == nil {
				m.Records = append(m.Records, obj)
				m.Fresh = max(m.Fresh, provenVersion(obj))
			}
		case wire.FamilyPods:
			var pod *corev1.Pod
			if pod, err = k.ownPod(node, key, kept.Items[key], kept.Items[wire.FamilySeals+"/"+name]); err == nil {
				m.Pods = append(m.Pods, pod)
			}
		}
		if err != nil {
			m.Unreadable = append(m.Unreadable, wire.Unreadable{Key: storeKey(key), Why: fmt.Sprintf("%s kept by node %s: %v", key, node, err)})
		}
	}
	if n := len(m.Unreadable); n > len(m.Records)+len(m.Pods) {
		return Memory{}, fmt.Errorf("%d of the %d items that it kept cannot be read, the first: %s", n, n+len(m.Records)+len(m.Pods), m.Unreadable[0].Why)
	}
	slices.SortFunc(m.Records, byKey[schema.Object])
	slices.SortFunc(m.Pods, byKey[*corev1.Pod])
	return m, nil
}

// storeKey is the store's key of an item's object, and the item's own where it names
// none: a pod's item names its UID.
func storeKey(item string) string {
	if key, err := KeyOfRecord(item); err == nil {
		return wire.StoreKey(key)
	}
	return item
}

func byKey[T schema.Object](a, b T) int { return schema.KeyOf(a).Compare(schema.KeyOf(b)) }

func (k *Keeper) open(key string, item json.RawMessage) (schema.Object, error) {
	id, err := KeyOfRecord(key)
	if err != nil {
		return nil, err
	}
	var sealed []byte
	if err := json.Unmarshal(item, &sealed); err != nil {
		return nil, err
	}
	n := k.aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("the record is cut short")
	}
	plain, err := k.aead.Open(nil, sealed[:n], sealed[n:], []byte(key))
	if err != nil {
		return nil, fmt.Errorf("the record was not made by this cluster's master: %w", err)
	}
	obj, err := wire.DecodeObject(id.Kind, plain)
	if err != nil {
		return nil, err
	}
	schema.AddLaterDefaults(obj)
	return obj, nil
}

// provenVersion is 0 for records that carry none.
func provenVersion(obj schema.Object) uint64 {
	n, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	return n
}

func (k *Keeper) ownPod(node schema.NodeName, key string, item, seal json.RawMessage) (*corev1.Pod, error) {
	if !bytes.Equal(seal, k.Seal(key, item)) {
		return nil, errors.New("the pod is not as this cluster's master bound it")
	}
	var w wire.PodWork
	if err := json.Unmarshal(item, &w); err != nil {
		return nil, err
	}
	if w.Pod == nil || w.Pod.Spec.NodeName != string(node) {
		return nil, errors.New("the pod is not bound to this node")
	}
	return w.Pod, nil
}
