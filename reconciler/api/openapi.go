package api

import (
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// What follows is one walk over the Go types of the kinds and the words their
// fields are documented with, told as OpenAPI v2 (whole, in protobuf) to older
// clients and as v3 (one document a group) to newer ones. It serves `kubectl
// explain`; validation is the loader's.

// openAPIv2Answer is how the answer must be called for clients to read it; they
// ask with "@" for the first dot after v2.
const openAPIv2Answer = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

func serveOpenAPIv2(w http.ResponseWriter, r *http.Request) {
	doc := openAPIv2()
	if doc.err != nil {
		writeError(w, apierrors.NewInternalError(doc.err))
		return
	}
	if strings.Contains(r.Header.Get("Accept"), "protobuf") {
		writeBody(w, http.StatusOK, openAPIv2Answer, doc.protobuf)
		return
	}
	writeBody(w, http.StatusOK, "application/json", doc.json)
}

func serveOpenAPIv3Index(w http.ResponseWriter, _ *http.Request) {
	type place struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]place{}
	for path := range openAPIv3() {
		paths[path] = place{"/openapi/v3/" + path}
	}
	writeJSON(w, http.StatusOK, map[string]any{"paths": paths})
}

func serveOpenAPIv3(w http.ResponseWriter, r *http.Request) {
	doc, ok := openAPIv3()[r.PathValue("path")]
	if !ok {
		writeError(w, errNoPath(r))
		return
	}
	if !takesJSON(r.Header.Get("Accept")) {
		writeError(w, newStatus(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, "OpenAPI v3 is served as application/json only"))
		return
	}
	writeBody(w, http.StatusOK, "application/json", doc)
}

func takesJSON(accept string) bool {
	if accept == "" {
		return true
	}
	for clause := range strings.SplitSeq(accept, ",") {
		if kind, _, err := mime.ParseMediaType(clause); err == nil && (kind == "application/json" || kind == "application/*" || kind == "*/*") {
			return true
		}
	}
	return false
}

type openAPIv2Document struct {
	json, protobuf []byte
	err            error
}

var openAPIv2 = sync.OnceValue(func() openAPIv2Document {
	walk := modelWalk{prefix: "#/definitions/", models: map[string]any{}}
	for _, res := range resources {
		walk.kind(res)
	}
	var doc openAPIv2Document
	doc.json, doc.err = json.Marshal(map[string]any{
		"swagger": "2.0", "info": openAPIInfo, "paths": map[string]any{}, "definitions": walk.models,
	})
	if doc.err != nil {
		return doc
	}
	parsed, err := openapi_v2.ParseDocument(doc.json)
	if err != nil {
		doc.err = err
		return doc
	}
	doc.protobuf, doc.err = proto.Marshal(parsed)
	return doc
})

var openAPIInfo = map[string]string{"title": "Fairlead", "version": "v1"}

// openAPIv3 has the documents by "api/v1" or "apis/GROUP/VERSION".
var openAPIv3 = sync.OnceValue(func() map[string][]byte {
	walks := map[string]*modelWalk{}
	paths := map[string]map[string]any{}
	for _, res := range resources {
		root := "apis/" + res.APIVersion()
		if res.Group == "" {
			root = "api/" + res.Version
		}
		if walks[root] == nil {
			walks[root] = &modelWalk{prefix: "#/components/schemas/", wrapRefs: true, models: map[string]any{}}
			paths[root] = map[string]any{}
		}
		walks[root].kind(res)
		path := "/" + root + "/" + res.Resource
		if res.Namespaced {
			path = "/" + root + "/namespaces/{namespace}/" + res.Resource
		}
		paths[root][path] = map[string]any{"get": map[string]any{
			"responses": map[string]any{"200": map[string]string{"description": "OK"}}, "x-kubernetes-action": "list",
			"x-kubernetes-group-version-kind": gvkExtension(res),
		}}
	}
	out := map[string][]byte{}
	for _, root := range slices.Sorted(maps.Keys(walks)) {
		data, err := json.Marshal(map[string]any{
			"openapi": "3.0.0", "info": openAPIInfo, "paths": paths[root],
			"components": map[string]any{"schemas": walks[root].models},
		})
		if err != nil {
			panic("api: marshal OpenAPI: " + err.Error())
		}
		out[root] = data
	}
	return out
})

func gvkExtension(res *resource) map[string]string {
	return map[string]string{"group": res.Group, "version": res.Version, "kind": string(res.Kind)}
}

// modelWalk collects the models that a kind is made of, by name.
type modelWalk struct {
	prefix   string
	wrapRefs bool // v3 lets nothing stand beside a $ref but inside allOf
	models   map[string]any
}

// kind adds a resource's own model; one that is never filled is named only.
func (m *modelWalk) kind(res *resource) {
	extension := []any{gvkExtension(res)}
	if !res.stored {
		m.models["io.fairlead.empty."+res.Version+"."+string(res.Kind)] = map[string]any{
			"type": "object", "description": string(res.Kind) + " is served as an empty collection.", "x-kubernetes-group-version-kind": extension,
		}
		return
	}
	t := reflect.TypeOf(res.New()).Elem()
	m.model(t)
	m.models[modelName(t)].(map[string]any)["x-kubernetes-group-version-kind"] = extension
}

// modelName is the type's name in Kubernetes' documents, or ours in their manner.
func modelName(t reflect.Type) string {
	if named, ok := reflect.Zero(t).Interface().(interface{ OpenAPIModelName() string }); ok {
		return named.OpenAPIModelName()
	}
	return "io." + schema.Group + ".v1." + t.Name()
}

// model adds a struct and all it refers to.
func (m *modelWalk) model(t reflect.Type) {
	name := modelName(t)
	if m.models[name] != nil {
		return
	}
	model := map[string]any{"type": "object"}
	m.models[name] = model
	docs := map[string]string{}
	if documented, ok := reflect.Zero(t).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
		docs = documented.SwaggerDoc()
	}
	if docs[""] != "" {
		model["description"] = docs[""]
	}
	properties := map[string]any{}
	m.fields(t, docs, properties)
	if len(properties) > 0 {
		model["properties"] = properties
	}
}

func (m *modelWalk) fields(t reflect.Type, docs map[string]string, into map[string]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if name == "" && f.Anonymous || strings.Contains(options, "inline") {
			inner := docs
			if documented, ok := reflect.Zero(f.Type).Interface().(interface{ SwaggerDoc() map[string]string }); ok {
				inner = documented.SwaggerDoc()
			}
			m.fields(f.Type, inner, into)
			continue
		}
		property := m.value(f.Type)
		if ref, ok := property["$ref"]; ok && m.wrapRefs {
			property = map[string]any{"allOf": []any{map[string]any{"$ref": ref}}}
		}
		if docs[name] != "" {
			property["description"] = docs[name]
		}
		into[name] = property
	}
}

// value is the schema of a field's type.
func (m *modelWalk) value(t reflect.Type) map[string]any {
	if t.Kind() == reflect.Pointer {
		return m.value(t.Elem())
	}
	if scalar, ok := reflect.Zero(t).Interface().(interface {
		OpenAPISchemaType() []string
		OpenAPISchemaFormat() string
	}); ok {
		out := map[string]any{"type": scalar.OpenAPISchemaType()[0]}
		if format := scalar.OpenAPISchemaFormat(); format != "" {
			out["format"] = format
		}
		return out
	}
	switch t.Kind() {
	case reflect.Struct:
		m.model(t)
		return map[string]any{"$ref": m.prefix + modelName(t)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": m.value(t.Elem())}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "format": "byte"}
		}
		return map[string]any{"type": "array", "items": m.value(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int64, reflect.Uint64:
		return map[string]any{"type": "integer", "format": "int64"}
	case reflect.Int, reflect.Int32, reflect.Uint16, reflect.Uint32:
		return map[string]any{"type": "integer", "format": "int32"}
	case reflect.Float64:
		return map[string]any{"type": "number", "format": "double"}
	}
	return map[string]any{"type": "string"}
}
