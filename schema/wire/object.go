package wire

import (
	"encoding/json"
	"fmt"

	"fairlead/schema"
)

// EncodeObject is obj as stores and sealed records hold it, equal bytes for equal
// objects: Kubernetes' protobuf message of its type behind formatProtobuf where the
// type has one, JSON elsewhere. apiVersion and kind are not in it, nor are parts of
// a second; lists and maps without elements come back as nil.
func EncodeObject(obj schema.Object) ([]byte, error) {
	m, ok := obj.(message)
	if !ok {
		return json.Marshal(obj)
	}
	data := make([]byte, 1+m.Size())
	data[0] = formatProtobuf
	if _, err := m.MarshalToSizedBuffer(data[1:]); err != nil {
		return nil, err
	}
	return data, nil
}

// formatProtobuf is the first byte of protobuf. JSON, in which earlier versions
// kept all objects, begins with a brace.
const formatProtobuf = 'P'

// message is what Kubernetes generates for its types.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// DecodeObject reads what EncodeObject wrote of an object of that kind. It does not
// keep data.
func DecodeObject(kind schema.Kind, data []byte) (schema.Object, error) {
	info, ok := schema.Lookup(kind)
	if !ok {
		return nil, fmt.Errorf("this version does not know kind %s", kind)
	}
	obj := info.New()
	if m, ok := obj.(message); ok && len(data) > 0 && data[0] == formatProtobuf {
		if err := m.Unmarshal(data[1:]); err != nil {
			return nil, err
		}
	} else if err := json.Unmarshal(data, obj); err != nil {
		return nil, err
	}
	schema.SetTypeMeta(obj)
	return obj, nil
}
