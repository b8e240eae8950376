package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// FieldChange is one difference between two objects, in canonical form. Path
// names list elements by their key, "spec.template.spec.containers[name=api].image",
// and map keys as they are, "data[app.conf]". From is empty for what was added
// and To for what was removed; values that are not scalars are compact JSON, of
// any length. A Secret's values are "(changed)", "(added)" or "(removed)".
type FieldChange struct {
	Path string `json:"path"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Diff tells what of b's desired content differs from a's, sorted by path. Both
// are of one kind and defaulted. It judges by meaning: quantities and times by
// value, maps and lists that are sets (ports, volumes, mounts) without order, nil
// as empty. Status, server-set metadata and origin
// annotations do not count.
func Diff(a, b Object) []FieldChange {
	d := differ{secret: rowOf(a).Sealed}
	d.objects(a, b)
	slices.SortFunc(d.changes, func(x, y FieldChange) int { return strings.Compare(x.Path, y.Path) })
	return d.changes
}

// Equal reports whether Diff is empty, without building it.
func Equal(a, b Object) bool {
	d := differ{first: true}
	d.objects(a, b)
	return !d.differs
}

// differ walks two values of one type side by side.
type differ struct {
	changes []FieldChange
	path    []segment
	secret  bool // a Secret: tell no values
	first   bool // only whether there is a difference: stop at the first
	differs bool
}

// segment is one step of a path: ".name", or "[key]".
type segment struct {
	name  string
	index bool
}

func (d *differ) objects(a, b Object) {
	if KindOf(a) != KindOf(b) {
		panic(fmt.Sprintf("schema: difference of %s and %s", KeyOf(a), KeyOf(b)))
	}
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for _, f := range fieldsOf(va.Type()) {
		switch {
		case f.name == "status" || f.embedded:
		case f.name != "metadata" && reflect.DeepEqual(va.Field(f.index).Interface(), vb.Field(f.index).Interface()):
		case f.name == "metadata":
			d.in(segment{name: f.name}, func() { d.metadata(a, b) })
		default:
			d.in(segment{name: f.name}, func() { d.values(va.Field(f.index), vb.Field(f.index), f.mergeKey) })
		}
	}
}

// metadata compares what a person writes: name, namespace, labels and the
// annotations that are not ours.
func (d *differ) metadata(a, b metav1.Object) {
	d.in(segment{name: "name"}, func() { d.scalar(a.GetName(), b.GetName()) })
	d.in(segment{name: "namespace"}, func() { d.scalar(a.GetNamespace(), b.GetNamespace()) })
	d.in(segment{name: "labels"}, func() { d.strings(a.GetLabels(), b.GetLabels(), nil) })
	d.in(segment{name: "annotations"}, func() { d.strings(a.GetAnnotations(), b.GetAnnotations(), IsOriginAnnotation) })
}

func (d *differ) in(s segment, compare func()) {
	if d.first && d.differs {
		return
	}
	d.path = append(d.path, s)
	compare()
	d.path = d.path[:len(d.path)-1]
}

func (d *differ) change(from, to string) {
	d.differs = true
	if !d.first {
		d.changes = append(d.changes, FieldChange{Path: joinPath(d.path), From: from, To: to})
	}
}

func joinPath(path []segment) string {
	var b strings.Builder
	for _, s := range path {
		switch {
		case s.index:
			b.WriteString("[" + s.name + "]")
		case b.Len() > 0:
			b.WriteString("." + s.name)
		default:
			b.WriteString(s.name)
		}
	}
	return b.String()
}

func (d *differ) scalar(a, b string) {
	if a != b {
		d.change(a, b)
	}
}

func (d *differ) strings(a, b map[string]string, ignore func(string) bool) {
	if len(a) == 0 && len(b) == 0 {
		return
	}
	for _, key := range unionKeys(a, b) {
		va, hasA := a[key]
		vb, hasB := b[key]
		if ignore != nil && ignore(key) || hasA == hasB && va == vb {
			continue
		}
		d.in(segment{key, true}, func() { d.change(written(va, hasA), written(vb, hasB)) })
	}
}

// written shows a scalar; an empty string that is there is told from nothing.
func written(value string, present bool) string {
	if present && value == "" {
		return `""`
	}
	return value
}

func unionKeys[V any](a, b map[string]V) []string {
	keys := sortedKeys(a)
	for key := range b {
		if _, ok := a[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

var (
	quantityType    = reflect.TypeFor[resource.Quantity]()
	timeType        = reflect.TypeFor[metav1.Time]()
	durationType    = reflect.TypeFor[metav1.Duration]()
	intOrStringType = reflect.TypeFor[intstr.IntOrString]()
	bytesType       = reflect.TypeFor[[]byte]()
)

// values compares two values of one type; mergeKey is the list's, if any.
func (d *differ) values(a, b reflect.Value, mergeKey string) {
	if d.first && d.differs {
		return
	}
	switch a.Type() {
	case quantityType, timeType, durationType, intOrStringType:
		if !sameLeaf(a, b) {
			d.change(d.show(a), d.show(b))
		}
		return
	}
	switch a.Kind() {
	case reflect.Pointer:
		d.pointers(a, b)
	case reflect.Struct:
		d.structs(a, b)
	case reflect.Map:
		d.maps(a, b)
	case reflect.Slice:
		d.lists(a, b, mergeKey)
	default:
		if !a.Equal(b) {
			d.change(d.show(a), d.show(b))
		}
	}
}

func sameLeaf(a, b reflect.Value) bool {
	switch x := a.Interface().(type) {
	case resource.Quantity:
		y := b.Interface().(resource.Quantity)
		return x.Cmp(y) == 0
	case metav1.Time:
		y := b.Interface().(metav1.Time)
		return x.Equal(&y)
	}
	return a.Equal(b)
}

func (d *differ) pointers(a, b reflect.Value) {
	switch {
	case isAbsent(a) && isAbsent(b):
	case a.IsNil() || b.IsNil():
		d.change(d.show(a), d.show(b))
	default:
		d.values(a.Elem(), b.Elem(), "")
	}
}

// emptyMeansAbsent are the objects that say nothing when they are empty; the
// presence of others (emptyDir: {}) is itself a choice.
var emptyMeansAbsent = []reflect.Type{
	reflect.TypeFor[corev1.PodSecurityContext](),
	reflect.TypeFor[corev1.SecurityContext](),
	reflect.TypeFor[corev1.Affinity](),
	reflect.TypeFor[corev1.NodeAffinity](),
	reflect.TypeFor[corev1.PodDNSConfig](),
	reflect.TypeFor[SourceAuth](),
}

// isAbsent treats an optional switch that is false, and an object that says
// nothing, as left out.
func isAbsent(v reflect.Value) bool {
	if v.IsNil() {
		return true
	}
	switch elem := v.Elem(); {
	case elem.Kind() == reflect.Bool:
		return !elem.Bool()
	case slices.Contains(emptyMeansAbsent, elem.Type()):
		return isEmpty(elem)
	}
	return false
}

// isEmpty is IsZero that takes empty lists and maps, and what isAbsent says, for
// nothing too.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return isAbsent(v)
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		for i := range v.NumField() {
			if !isEmpty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

func (d *differ) structs(a, b reflect.Value) {
	for _, f := range fieldsOf(a.Type()) {
		fa, fb := a.Field(f.index), b.Field(f.index)
		switch {
		case f.embedded:
			d.values(fa, fb, "")
		case f.name == "clusterIPs" || f.name == "ipFamilies" || f.name == "ipFamilyPolicy":
			// They repeat clusterIP and say IPv4: nothing else is supported.
		case f.name == "creationTimestamp":
		default:
			d.in(segment{name: f.name}, func() { d.values(fa, fb, f.mergeKey) })
		}
	}
}

func (d *differ) maps(a, b reflect.Value) {
	if a.Len() == 0 && b.Len() == 0 {
		return
	}
	keys := make([]string, 0, a.Len())
	for _, k := range a.MapKeys() {
		keys = append(keys, k.String())
	}
	for _, k := range b.MapKeys() {
		if !a.MapIndex(k).IsValid() {
			keys = append(keys, k.String())
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		k := reflect.ValueOf(key).Convert(a.Type().Key())
		va, vb := a.MapIndex(k), b.MapIndex(k)
		d.in(segment{key, true}, func() {
			both := va.IsValid() && vb.IsValid()
			switch {
			case !both:
				d.change(d.showItem(va, "(removed)"), d.showItem(vb, "(added)"))
			case va.Kind() != reflect.String || d.hidden():
				d.values(va, vb, "")
			case va.String() != vb.String():
				d.change(written(va.String(), true), written(vb.String(), true))
			}
		})
	}
}

// showItem is show for a map value that only one side has; secret is what
// stands for one that must not be seen.
func (d *differ) showItem(v reflect.Value, secret string) string {
	switch {
	case !v.IsValid():
		return ""
	case d.hidden():
		return secret
	case v.Kind() == reflect.String:
		return written(v.String(), true)
	}
	return d.show(v)
}

func (d *differ) lists(a, b reflect.Value, mergeKey string) {
	if a.Len() == 0 && b.Len() == 0 {
		return
	}
	if a.Type() == bytesType {
		if string(a.Bytes()) != string(b.Bytes()) {
			d.change(d.show(a), d.show(b))
		}
		return
	}
	if a.Type().Elem().Kind() != reflect.Struct {
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			d.change(d.show(a), d.show(b))
		}
		return
	}
	keysA, okA := elementKeys(a, mergeKey)
	keysB, okB := elementKeys(b, mergeKey)
	if !okA || !okB {
		d.byIndex(a, b)
		return
	}
	d.byKey(a, b, keysA, keysB)
	if orderMatters[a.Type().Elem()] {
		d.order(keysA, keysB)
	}
}

// byIndex compares lists whose elements have no key of their own.
func (d *differ) byIndex(a, b reflect.Value) {
	for i := range max(a.Len(), b.Len()) {
		d.in(segment{strconv.Itoa(i), true}, func() {
			switch {
			case i >= a.Len():
				d.change("", d.show(b.Index(i)))
			case i >= b.Len():
				d.change(d.show(a.Index(i)), "")
			default:
				d.values(a.Index(i), b.Index(i), "")
			}
		})
	}
}

func (d *differ) byKey(a, b reflect.Value, keysA, keysB []string) {
	places := make(map[string]int, len(keysB))
	for j, key := range keysB {
		places[key] = j
	}
	for i, key := range keysA {
		j, both := places[key]
		delete(places, key)
		d.in(segment{key, true}, func() {
			if both {
				d.values(a.Index(i), b.Index(j), "")
			} else {
				d.change(d.show(a.Index(i)), "")
			}
		})
	}
	for j, key := range keysB {
		if _, added := places[key]; added {
			d.in(segment{key, true}, func() { d.change("", d.show(b.Index(j))) })
		}
	}
}

// orderMatters names the keyed lists in which an element may refer to, start
// after or take precedence over another.
var orderMatters = map[reflect.Type]bool{
	reflect.TypeFor[corev1.Container](): true,
	reflect.TypeFor[corev1.EnvVar]():    true,
}

// order tells one change for the whole list when the elements both have stand
// in another order.
func (d *differ) order(keysA, keysB []string) {
	commonA, commonB := common(keysA, keysB), common(keysB, keysA)
	if !slices.Equal(commonA, commonB) {
		d.change("order "+strings.Join(commonA, ", "), "order "+strings.Join(commonB, ", "))
	}
}

// common is what of keys is among others too, in the order of keys.
func common(keys, others []string) []string {
	has := make(map[string]bool, len(others))
	for _, key := range others {
		has[key] = true
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return !has[key] })
}

// elementKeys names every element of a list of structs, "name=api"; false when
// the elements have no names or two share one.
func elementKeys(list reflect.Value, mergeKey string) ([]string, bool) {
	if mergeKey == "" {
		return nil, list.Len() == 0
	}
	keys := make([]string, list.Len())
	seen := make(map[string]bool, list.Len())
	for i := range keys {
		key := elementKey(list.Index(i), mergeKey)
		if seen[key] {
			return nil, false
		}
		seen[key], keys[i] = true, key
	}
	return keys, true
}

// elementKey prefers a port's name to its number, which is only unique together
// with the protocol.
func elementKey(element reflect.Value, mergeKey string) string {
	switch e := element.Interface().(type) {
	case corev1.ContainerPort:
		return portKey(e.Name, mergeKey, e.ContainerPort, e.Protocol)
	case corev1.ServicePort:
		return portKey(e.Name, mergeKey, e.Port, e.Protocol)
	}
	for _, f := range fieldsOf(element.Type()) {
		switch {
		case f.name == mergeKey:
			return mergeKey + "=" + fmt.Sprint(element.Field(f.index).Interface())
		case f.embedded:
			if key := elementKey(element.Field(f.index), mergeKey); key != "" {
				return key
			}
		}
	}
	return ""
}

func portKey(name, mergeKey string, number int32, protocol corev1.Protocol) string {
	switch {
	case name != "":
		return "name=" + name
	case protocol == corev1.ProtocolTCP || protocol == "":
		return fmt.Sprintf("%s=%d", mergeKey, number)
	}
	return fmt.Sprintf("%s=%d/%s", mergeKey, number, protocol)
}

// show is a value as a change tells it; an invalid or nil value is empty.
func (d *differ) show(v reflect.Value) string {
	if d.first || !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return ""
	}
	if d.hidden() {
		return "(changed)"
	}
	switch x := v.Interface().(type) {
	case resource.Quantity:
		return x.String()
	case metav1.Duration:
		return x.Duration.String()
	case []byte:
		return fmt.Sprintf("%d bytes, %s", len(x), ShortHash(string(x)))
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Slice, reflect.Map:
		if v.Len() == 0 {
			return ""
		}
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		panic(fmt.Sprintf("schema: show %s: %v", v.Type(), err))
	}
	if unquoted := ""; json.Unmarshal(data, &unquoted) == nil {
		return unquoted
	}
	return string(data)
}

// hidden reports whether the path is at a Secret's values.
func (d *differ) hidden() bool {
	return d.secret && (d.path[0].name == "data" || d.path[0].name == "stringData")
}

// structField is what comparing needs of one field of a Go struct.
type structField struct {
	name     string // in JSON
	index    int
	embedded bool   // its fields stand among the parent's
	mergeKey string // of a list: Kubernetes' patchMergeKey
}

var structFields sync.Map // reflect.Type -> []structField

func fieldsOf(t reflect.Type) []structField {
	if known, ok := structFields.Load(t); ok {
		return known.([]structField)
	}
	fields := make([]structField, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields = append(fields, structField{name: name, index: i, embedded: f.Anonymous && name == "", mergeKey: f.Tag.Get("patchMergeKey")})
	}
	known, _ := structFields.LoadOrStore(t, fields)
	return known.([]structField)
}
