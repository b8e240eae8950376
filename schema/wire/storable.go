package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// MaxObjectBytes bounds one object as EncodeObject writes it: what the store takes
// as one record. What stands in Git stays below schema.MaxDesiredBytes, so that
// whatever follows from it fits too.
const MaxObjectBytes = 2 << 20

// EncodedSize is the length of what EncodeObject writes.
func EncodedSize(obj schema.Object) int {
	if m, ok := obj.(message); ok {
		return 1 + m.Size()
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return MaxObjectBytes + 1 // it cannot be written at all
	}
	return len(data)
}

// Takes is what objects take of what every node is sent, in bytes.
type Takes struct {
	// Asked is what a source asks for, with room for what becomes of it: two templates of
	// what makes pods, which it has while a rollout lasts.
	Asked int64
	// Kept are the records that nodes keep of it and of what was made from it, without
	// the history, and room for what it must be able to make.
	Kept int64
	// Spare is the history: what the cluster can do without.
	Spare int64
	// Told is what nodes are told of services and their endpoints, as JSON.
	Told int64
}

// Plus is the sum of both.
func (t Takes) Plus(o Takes) Takes {
	return Takes{t.Asked + o.Asked, t.Kept + o.Kept, t.Spare + o.Spare, t.Told + o.Told}
}

// Minus is without o.
func (t Takes) Minus(o Takes) Takes {
	return Takes{t.Asked - o.Asked, t.Kept - o.Kept, t.Spare - o.Spare, t.Told - o.Told}
}

// recordFrame is what a record takes beside the object and its key: its seal, as JSON.
const recordFrame = 48

// TakesOf is what one object takes. What is made from another one has been asked for with
// that one.
func TakesOf(obj schema.Object) (t Takes) {
	row := schema.Of(schema.KindOf(obj))
	if row == nil {
		return Takes{Kept: recordSize(obj)}
	}
	m := &row.Memory.Do
	if m.Told != nil {
		t.Told = m.Told(obj)
	}
	record := sizing{of: obj}
	size := record.kept(m)
	t.Kept = size
	if m.Brief != nil {
		t.Kept = record.brief(m.Brief(obj), size)
		t.Spare = size - t.Kept
	}
	if m.Ahead != nil {
		t.Kept += m.Ahead(obj, size)
	}
	if obj.GetAnnotations()[schema.AnnotationSource] == "" || metav1.GetControllerOfNoCopy(obj) != nil {
		return t
	}
	t.Asked = record.size()
	if _, ok := schema.PodTemplateOf(obj); ok {
		t.Asked *= 3
	}
	if m.Room != nil {
		t.Asked += m.Room(obj)
	}
	return t
}

// sizing takes the size of an object's record once, whoever needs it: every change of an
// object asks for it.
type sizing struct {
	of    schema.Object
	bytes int64 // 0 is not taken yet
}

func (s *sizing) size() int64 {
	if s.bytes == 0 {
		s.bytes = recordSize(s.of)
	}
	return s.bytes
}

// kept is what the record takes that nodes keep of the object.
func (s *sizing) kept(m *schema.Memory) int64 {
	switch {
	case m.Lean == nil || m.Kept != nil && !m.Kept(s.of):
		return 0
	case m.Size != nil:
		return m.Size(s.of) + recordFrame
	}
	return s.size()
}

// brief is what the least takes that is kept of the object, of which all takes kept.
func (s *sizing) brief(least schema.Object, kept int64) int64 {
	switch least {
	case nil:
		return 0
	case s.of:
		return kept
	}
	return min(kept, recordSize(least))
}

// AheadOf is how much of what an object takes is for what it has yet to make.
func AheadOf(obj schema.Object) int64 {
	row := schema.Of(schema.KindOf(obj))
	if row == nil || row.Memory.Do.Ahead == nil {
		return 0
	}
	record := sizing{of: obj}
	return row.Memory.Do.Ahead(obj, record.kept(&row.Memory.Do))
}

// recordSize is what the record of an object takes, before it becomes text.
func recordSize(obj schema.Object) int64 {
	size := EncodedSize(obj) + recordFrame + len(obj.GetNamespace()) + len(obj.GetName())
	if row := schema.Of(schema.KindOf(obj)); row != nil && row.Data.Do.Keys != nil {
		for _, key := range row.Data.Do.Keys(obj) { // they are told a second time to say which values are binary
			size += len(key)
		}
	}
	return int64(size)
}

// maxJSONGrowth is how many bytes of JSON a byte as stored becomes at most: a control
// character takes six, and a number the name of its field.
const maxJSONGrowth = 16

// PodBytes is what the pod that an object makes takes as JSON: what its node gets. It is 0
// for an object that makes none, and for one that is far too small to matter.
func PodBytes(obj schema.Object) int {
	t, ok := schema.PodTemplateOf(obj)
	if !ok || EncodedSize(obj) <= schema.MaxPodBytes/maxJSONGrowth {
		return 0
	}
	data, err := json.Marshal(corev1.PodTemplateSpec{ObjectMeta: *t.Meta, Spec: *t.Spec})
	if err != nil {
		return schema.MaxPodBytes + 1 // it cannot be told to a node at all
	}
	return len(data)
}

// CheckKey refuses keys that would not come back from the store as they went.
func CheckKey(k schema.Key) error {
	if k.Kind == "" || k.Name == "" || strings.Contains(string(k.Kind)+k.Namespace+k.Name, "/") {
		return fmt.Errorf("key %q: kind and name must be given and no part may hold a slash", k)
	}
	return nil
}

// ObjectPrefix begins the store's keys of objects.
const ObjectPrefix = "/fairlead/v1/o/"

// StoreKey is the key of an object in the store:
// /fairlead/v1/o/<kind>/<namespace>/<name>, the namespace being empty for
// cluster-scoped kinds.
func StoreKey(k schema.Key) string {
	return ObjectPrefix + string(k.Kind) + "/" + k.Namespace + "/" + k.Name
}

// KeyOfStore is the object that a key of StoreKey's names; false for any other, and
// for kinds that this version does not know.
func KeyOfStore(key string) (schema.Key, bool) {
	parts := strings.Split(strings.TrimPrefix(key, ObjectPrefix), "/")
	if len(parts) != 3 || !strings.HasPrefix(key, ObjectPrefix) {
		return schema.Key{}, false
	}
	_, known := schema.Lookup(schema.Kind(parts[0]))
	return schema.Key{Kind: schema.Kind(parts[0]), Namespace: parts[1], Name: parts[2]}, known
}

// originRoom is what the origin adds to an object from Git: its path, mostly, and how it
// was built, whose quotes take two bytes each in the JSON of a pod.
const originRoom = 8<<10 + 2*schema.MaxBuiltBytes

// CheckDesired says why an object that a tree asks for cannot be taken.
func CheckDesired(obj schema.Object) error {
	if err := CheckKey(schema.KeyOf(obj)); err != nil {
		return err
	}
	if size := EncodedSize(obj); size > schema.MaxDesiredBytes+originRoom {
		return fmt.Errorf("%d bytes as stored, at most %d fit", size, schema.MaxDesiredBytes)
	}
	if size := PodBytes(obj); size > schema.MaxPodBytes+originRoom {
		return fmt.Errorf("a pod of it takes %d bytes as JSON, at most %d can be sent to a node", size, schema.MaxPodBytes)
	}
	return nil
}

// CheckRecord says why the store would not take obj. It is quick: every object of a
// round is asked about.
func CheckRecord(obj schema.Object) error {
	if err := CheckKey(schema.KeyOf(obj)); err != nil {
		return err
	}
	if size := EncodedSize(obj); size > MaxObjectBytes {
		return fmt.Errorf("%d bytes as stored, at most %d fit", size, MaxObjectBytes)
	}
	return nil
}

// CheckStorable says why obj could not be stored, read back as it is, and shown to
// clients as JSON that they can read. It does all three, which takes a while: it is
// for what comes singly.
func CheckStorable(obj schema.Object) error {
	if err := CheckRecord(obj); err != nil {
		return err
	}
	want, err := EncodeObject(obj)
	if err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	stored, err := DecodeObject(schema.KindOf(obj), want)
	if err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	shown, err := json.Marshal(obj)
	if err != nil {
		return fmt.Errorf("show it as JSON: %w", err)
	}
	read := reflect.New(reflect.TypeOf(obj).Elem()).Interface().(schema.Object)
	if err := json.Unmarshal(shown, read); err != nil {
		return fmt.Errorf("read it as JSON: %w", err)
	}
	for _, back := range []schema.Object{stored, read} {
		got, err := EncodeObject(back)
		if err != nil {
			return fmt.Errorf("encode it again: %w", err)
		}
		if !bytes.Equal(want, got) {
			return fmt.Errorf("it would not be read back as it is: a text that is not UTF-8, or a time outside the years 1 to 9999")
		}
	}
	return nil
}
