package rowtest

import (
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// ActedOn lists the fields of a kind, below one of them or of the whole object for "",
// that the table of supported fields calls acted on and that leave a choice. The fields
// of a kind's pods are listed with the Pod's, init containers as containers, and each
// probe and each hook as one.
func ActedOn(kind schema.Kind, below string) []string {
	typ, f := reflect.TypeOf(schema.Info(kind).New()).Elem(), schema.SupportedFields(kind)
	for name := range strings.SplitSeq(below, ".") {
		if name != "" {
			typ, f = fieldOf(typ, name), f.Field(name)
		}
	}
	pods := ""
	if of := schema.Of(kind).Pods.Do; of != nil && below == "" {
		pods = of(schema.Info(kind).New()).SpecField
	}
	var out []string
	list("", typ, f, pods, &out)
	slices.Sort(out)
	return slices.Compact(out)
}

// chosen are the values that are the only ones of their field and yet a choice: it means
// something else to leave the field out.
var chosen = []string{string(corev1.StorageMediumMemory), string(corev1.ContainerRestartPolicyAlways)}

func fieldOf(typ reflect.Type, name string) reflect.Type {
	for i := range typ.NumField() {
		if in, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); in == name {
			return typ.Field(i).Type
		}
	}
	return typ
}

func list(at string, typ reflect.Type, f *schema.FieldSupport, pods string, out *[]string) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	only := len(f.Values) == 1 && !slices.Contains(chosen, f.Values[0])
	switch {
	case f.Treatment != schema.Supported || only || pods != "" && at == pods:
	case f.Field("").Treatment == schema.Supported: // with all below it
		*out = append(*out, at)
	case typ.Kind() == reflect.Map:
		for _, key := range []string{"cpu", "memory"} {
			list(at+"."+key, typ.Elem(), f.Field(key), pods, out)
		}
	case typ.Kind() == reflect.Struct:
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if name == "" { // embedded
				list(at, typ.Field(i).Type, f, pods, out)
				continue
			}
			path := strings.TrimPrefix(at+"."+name, ".")
			if path != "initContainers.restartPolicy" {
				path = strings.Replace(path, "initContainers.", "containers.", 1)
			}
			for _, kind := range []string{"readinessProbe", "livenessProbe", "startupProbe"} {
				path = strings.Replace(path, "."+kind, ".probe", 1)
			}
			for _, kind := range []schema.HookKind{schema.PostStart, schema.PreStop} {
				path = strings.Replace(path, ".lifecycle."+string(kind), ".hook", 1)
			}
			list(path, typ.Field(i).Type, f.Field(name), pods, out)
		}
	}
}
