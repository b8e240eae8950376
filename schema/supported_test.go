package schema

import (
	"reflect"
	"strings"
	"testing"
)

// Every path of the tables must name a field of the Go type, so that a typo
// cannot make a field silently unsupported.
func TestSupportedFieldsExist(t *testing.T) {
	for i, root := range supported {
		if info := Kinds()[i]; root != nil {
			checkPaths(t, info.Kind, reflect.TypeOf(info.New()).Elem(), root, nil)
		}
	}
}

func checkPaths(t *testing.T, kind Kind, typ reflect.Type, f *FieldSupport, path []string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	for name, child := range f.children {
		next := append(path, name)
		switch typ.Kind() {
		case reflect.Map:
			checkPaths(t, kind, typ.Elem(), child, next)
		case reflect.Struct:
			field, ok := jsonField(typ, name)
			if !ok && strings.Join(next, ".") != "status" { // a ConfigMap has no status, and is still printed with one by some tools
				t.Errorf("%s: no field %s", kind, strings.Join(next, "."))
				continue
			}
			if ok {
				checkPaths(t, kind, field, child, next)
			}
		default:
			t.Errorf("%s: %s has no fields", kind, strings.Join(path, "."))
		}
	}
}

func jsonField(typ reflect.Type, name string) (reflect.Type, bool) {
	for _, f := range fieldsOf(typ) {
		field := typ.Field(f.index)
		if f.embedded {
			if inner, ok := jsonField(field.Type, name); ok {
				return inner, true
			}
		} else if f.name == name {
			return field.Type, true
		}
	}
	return nil, false
}

func TestTreatment(t *testing.T) {
	tests := []struct {
		kind Kind
		path string
		want Treatment
	}{
		{KindDeployment, "spec.replicas", Supported},
		{KindDeployment, "spec.selector.matchLabels.anything", Supported},
		{KindDeployment, "spec.template.spec.containers.image", Supported},
		{KindDeployment, "spec.template.spec.containers.readinessProbe.httpGet.port", Supported},
		{KindDeployment, "spec.template.spec.containers.readinessProbe.httpGet.host", Restricts},
		{KindDeployment, "spec.template.spec.containers.resizePolicy", Adds},
		{KindDeployment, "spec.template.spec.containers.resources.limits.cpu", Supported},
		{KindDeployment, "spec.template.spec.containers.resources.limits.example/gpu", Restricts},
		{KindDeployment, "spec.template.spec.serviceAccountName", Meaningless},
		{KindDeployment, "metadata.uid", ServerSet},
		{KindDeployment, "status", ServerSet},
		{KindPod, "spec.nodeName", Restricts},
		{KindPod, "spec.topologySpreadConstraints", Restricts},
		{KindService, "spec.externalIPs", Restricts},
		{KindSource, "spec.auth.secretFile", Supported},
	}
	for _, test := range tests {
		f := SupportedFields(test.kind)
		for _, name := range strings.Split(test.path, ".") {
			f = f.Field(name)
		}
		if f.Treatment != test.want {
			t.Errorf("%s %s: got %d, want %d", test.kind, test.path, f.Treatment, test.want)
		}
	}
}
