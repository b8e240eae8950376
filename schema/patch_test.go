package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"pgregory.net/rapid"

	"fairlead/schema/chance"
)

// What a difference tells is all there is to tell: written onto the one object it
// gives the other. Only where an added element of an ordered list goes is not told.
func TestDiffIsWhatPatches(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		a, b := drawDeployment(t), drawDeployment(t)
		changes := Diff(a, b)
		patched := patch(t, a, changes)
		if again := Diff(a, patched); len(changes) > 0 && len(again) == 0 {
			t.Fatalf("%v changed nothing", changes)
		}
		for _, left := range Diff(patched, b) {
			if !strings.HasPrefix(left.To, "order ") || !slices.ContainsFunc(changes, func(c FieldChange) bool {
				return strings.HasPrefix(c.Path, left.Path+"[") && c.From == ""
			}) {
				t.Fatalf("%+v is left after %v", left, changes)
			}
		}
	})
}

// A defaulted object stays as it is when it is defaulted again, and when it was
// written down and read: one meaning has one form.
func TestCanonicalFormIsStable(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		d := drawDeployment(t)
		again := d.DeepCopy()
		Default(again)
		if before, after := asJSON(t, d), asJSON(t, again); before != after {
			t.Fatalf("defaulted twice:\n%s\n%s", before, after)
		}
		read := &appsv1.Deployment{}
		if err := json.Unmarshal([]byte(asJSON(t, d)), read); err != nil {
			t.Fatal(err)
		}
		if diff := Diff(d, read); len(diff) > 0 || !Equal(d, read) {
			t.Fatalf("written and read: %v", diff)
		}
	})
}

func asJSON(t *rapid.T, v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// patch writes changes onto a copy of d.
func patch(t *rapid.T, d *appsv1.Deployment, changes []FieldChange) *appsv1.Deployment {
	var tree any
	if err := json.Unmarshal([]byte(asJSON(t, d)), &tree); err != nil {
		t.Fatal(err)
	}
	// Elements go from the end, so that the places of those before stay; they come
	// in order.
	for _, c := range slices.Backward(changes) {
		if c.To == "" {
			tree = write(t, tree, steps(c.Path), c)
		}
	}
	for _, c := range changes {
		if c.To != "" {
			tree = write(t, tree, steps(c.Path), c)
		}
	}
	out := &appsv1.Deployment{}
	if err := json.Unmarshal([]byte(asJSON(t, tree)), out); err != nil {
		t.Fatalf("%v in %v", err, tree)
	}
	return out
}

// steps takes a path apart: "a.b[k=v].c" is a, b, [k=v], c.
func steps(path string) (out []string) {
	for path != "" {
		end := strings.IndexAny(path[1:], ".[") + 1
		if path[0] == '[' {
			end = strings.Index(path, "]") + 1
		}
		if end <= 0 {
			end = len(path)
		}
		out = append(out, path[:end])
		path = strings.TrimPrefix(path[end:], ".")
	}
	return out
}

func write(t *rapid.T, at any, path []string, c FieldChange) any {
	if len(path) == 0 {
		if keys, ok := strings.CutPrefix(c.To, "order "); ok {
			return ordered(at.([]any), strings.Split(keys, ", "))
		}
		return readValue(c.To)
	}
	name, inList := strings.CutPrefix(path[0], "[")
	name = strings.TrimSuffix(name, "]")
	if list, ok := at.([]any); ok || inList && at == nil && isElement(name) {
		i := slices.IndexFunc(list, func(e any) bool { return is(e, name) })
		if n, err := strconv.Atoi(name); err == nil {
			i = n
		}
		switch {
		case len(path) > 1:
			list[i] = write(t, list[i], path[1:], c)
		case c.To == "":
			list = slices.Delete(list, i, i+1)
		case c.From == "":
			list = append(list, readValue(c.To))
		default:
			list[i] = readValue(c.To)
		}
		return list
	}
	fields, _ := at.(map[string]any)
	if fields == nil {
		fields = map[string]any{}
	}
	if len(path) == 1 && c.To == "" {
		delete(fields, name)
		return fields
	}
	fields[name] = write(t, fields[name], path[1:], c)
	return fields
}

// isElement tells "[name=x]" and "[0]" from the key of a map.
func isElement(name string) bool {
	_, err := strconv.Atoi(name)
	return err == nil || strings.Contains(name, "=")
}

// readValue reads a value as a change tells it: JSON, or text as it is.
func readValue(value string) any {
	var v any
	if json.Unmarshal([]byte(value), &v) == nil {
		return v
	}
	return value
}

// is reports whether a list's element goes by that key.
func is(element any, key string) bool {
	e, _ := element.(map[string]any)
	field, value, _ := strings.Cut(key, "=")
	number, protocol, _ := strings.Cut(value, "/")
	if field == "containerPort" {
		named := e["name"] != nil
		return !named && fmt.Sprint(e[field]) == number && (protocol == "" || e["protocol"] == protocol)
	}
	return reflect.DeepEqual(e[field], value)
}

// ordered puts the elements with these keys in their order, in the places that
// they hold together.
func ordered(list []any, keys []string) []any {
	var places []int
	for i, e := range list {
		if slices.ContainsFunc(keys, func(key string) bool { return is(e, key) }) {
			places = append(places, i)
		}
	}
	out := slices.Clone(list)
	for i, key := range keys {
		out[places[i]] = list[slices.IndexFunc(list, func(e any) bool { return is(e, key) })]
	}
	return out
}
