package main

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// jsonSchema is what kubeconform's users download, made here of the same Go
// types: every field, required where Kubernetes writes it always, and nothing
// else allowed. Types are shared by name.
func jsonSchema(t reflect.Type) map[string]any {
	w := schemaWalk{definitions: map[string]any{}}
	w.object(t)
	return map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "definitions": w.definitions, "$ref": "#/definitions/" + t.String(),
	}
}

type schemaWalk struct{ definitions map[string]any }

// leafSchemas are the types that are written as one scalar.
var leafSchemas = map[reflect.Type][]string{
	reflect.TypeFor[resource.Quantity]():  {"string", "number"},
	reflect.TypeFor[intstr.IntOrString](): {"string", "integer"},
	reflect.TypeFor[metav1.Time]():        {"string", "null"},
	reflect.TypeFor[metav1.MicroTime]():   {"string", "null"},
	reflect.TypeFor[[]byte]():             {"string", "null"},
}

func (w schemaWalk) value(t reflect.Type) map[string]any {
	if types, ok := leafSchemas[t]; ok {
		return map[string]any{"type": types}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return w.value(t.Elem())
	case reflect.Struct:
		w.object(t)
		return map[string]any{"$ref": "#/definitions/" + t.String()}
	case reflect.Map:
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": w.value(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": []string{"array", "null"}, "items": w.value(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": []string{"boolean", "null"}}
	case reflect.Int, reflect.Int32, reflect.Int64:
		return map[string]any{"type": []string{"integer", "null"}}
	}
	return map[string]any{"type": []string{"string", "null"}}
}

func (w schemaWalk) object(t reflect.Type) {
	if w.definitions[t.String()] != nil {
		return
	}
	properties := map[string]any{}
	var required []string
	definition := map[string]any{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	w.definitions[t.String()] = definition // before its fields: types contain themselves
	w.fields(t, properties, &required)
	if len(required) > 0 {
		definition["required"], definition["type"] = required, "object"
	}
}

func (w schemaWalk) fields(t reflect.Type, properties map[string]any, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case name == "" && f.Anonymous:
			w.fields(f.Type, properties, required)
		default:
			properties[name] = w.value(f.Type)
			if !strings.Contains(options, "omit") {
				*required = append(*required, name)
			}
		}
	}
}
