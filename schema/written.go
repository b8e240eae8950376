package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// specOf is what an object asks for, without what the cluster gave it, as JSON has it.
func specOf(obj Object) map[string]any {
	bare := Info(KindOf(obj)).New()
	readInto(bare, map[string]any{"spec": jsonOf(obj)["spec"]})
	if carry := rowOf(obj).Carry.Do; carry != nil {
		carry(Info(KindOf(obj)).New(), bare) // of one that was given nothing
	}
	spec, _ := jsonOf(bare)["spec"].(map[string]any)
	return spec
}

// asWritten is what an object asks for without the fields that Default fills in as they
// are. It is found by leaving out one after the other, and its effort is a default for
// every field: not for what is done to all objects.
func asWritten(obj Object) map[string]any {
	want := specOf(obj)
	spec := specOf(obj)
	isSame := func() bool {
		tried := Info(KindOf(obj)).New()
		readInto(tried, map[string]any{"spec": spec})
		Default(tried)
		return reflect.DeepEqual(jsonOf(tried)["spec"], want)
	}
	leaveOut(spec, isSame)
	return spec
}

// leaveOut takes out of a tree, in order, whatever can be missing.
func leaveOut(node any, isSame func() bool) {
	switch node := node.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(node)) {
			value := node[name]
			delete(node, name)
			if !isSame() {
				node[name] = value
				leaveOut(value, isSame)
			}
		}
	case []any:
		for _, item := range node {
			leaveOut(item, isSame)
		}
	}
}

func jsonOf(obj any) (out map[string]any) {
	data, err := json.Marshal(obj)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		panic(fmt.Sprintf("schema: %T as JSON: %v", obj, err)) // it came from JSON
	}
	return out
}

func readInto(obj any, from map[string]any) {
	data, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(data, obj)
	}
	if err != nil {
		panic(fmt.Sprintf("schema: %T from JSON: %v", obj, err)) // it was one
	}
}
