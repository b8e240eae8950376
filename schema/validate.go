package schema

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// FieldProblem is one thing wrong with an object: the field as in
// "spec.template.spec.containers[0].image", what is wrong with it, and what to
// write instead (may be empty). Map keys are written "data[my.key]".
type FieldProblem struct {
	Field   string
	Message string
	Hint    string
	Because string // the field that it is wrong with; where that one could not be read, this problem means nothing
}

// Validate judges one defaulted object by itself, by Kubernetes' rules. The
// result is empty for a valid object and never holds a Secret's value.
func Validate(obj Object) []FieldProblem {
	var p problems
	row := rowOf(obj)
	p.metadata(row, obj)
	if judge := row.Judge.Do; judge != nil {
		judge(&p, obj)
	}
	if row.Desired && row.Pods.Do != nil {
		p.pods(row.Pods.Do(obj))
	}
	p.sort()
	return p
}

// pods judges the pods that an object makes.
func (p *problems) pods(t PodTemplate) {
	if t.MetaField != ownMeta { // else they were judged as its own
		p.labels(t.MetaField+".labels", t.Meta.Labels)
		p.annotations(t.MetaField+".annotations", t.Meta.Annotations)
	}
	p.podSpec(t.SpecField, t.Spec)
}

// sort makes the result independent of the order of maps.
func (p problems) sort() {
	slices.SortFunc(p, func(a, b FieldProblem) int {
		return cmp.Or(strings.Compare(a.Field, b.Field), strings.Compare(a.Message, b.Message))
	})
}

// problems collects what is wrong. Its methods are the rules, one a subject.
type problems []FieldProblem

func (p *problems) add(field, format string, args ...any) {
	p.hint(field, "", format, args...)
}

func (p *problems) hint(field, hint, format string, args ...any) {
	*p = append(*p, FieldProblem{Field: field, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// because says with which other field the last problem is wrong.
func (p *problems) because(field string) { (*p)[len(*p)-1].Because = field }

// The common rules take a field in two parts, which are put together for what is
// wrong only.

// rule reports value when check, one of apimachinery's, finds it wrong.
func (p *problems) rule(at, name, value string, check func(string) []string) {
	if isSimpleName(value) {
		return
	}
	field := at + name
	if value == "" {
		p.add(field, "must be set")
		return
	}
	if wrong := check(value); len(wrong) > 0 {
		p.hint(field, unfilledHint(value), "%q is not valid: %s", value, shortRule(wrong[0]))
	}
}

// name is rule for an object's own name, whose length kinds bound differently: one that
// is simple may still be too long.
func (p *problems) name(value string, check func(string) []string) {
	if len(value) <= maxCronJobName {
		p.rule("", "metadata.name", value, check)
		return
	}
	if wrong := check(value); len(wrong) > 0 {
		p.hint("metadata.name", unfilledHint(value), "%q is not valid: %s", value, shortRule(wrong[0]))
	}
}

// unfilledHint is for a value in which something was to be filled in.
func unfilledHint(value string) string {
	if strings.Contains(value, "{{") || strings.Contains(value, "${") || strings.Contains(value, "$(") {
		return "nothing here fills in variables: write the value"
	}
	return ""
}

// isSimpleName tells names that every rule of Kubernetes accepts from those
// worth a regular expression; most are simple.
func isSimpleName(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] < 'a' || s[0] > 'z' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		dash := c == '-' && s[i-1] != '-'
		if !dash && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isSimpleKey tells keys of labels and annotations that are simple names, or one
// behind a domain of simple names, likewise.
func isSimpleKey(s string) bool {
	domain, name, found := strings.Cut(s, "/")
	return !found && isSimpleName(s) || found && isSimpleName(name) && isSimpleDomain(domain)
}

// isSimpleDomain tells domains made of simple names.
func isSimpleDomain(s string) bool {
	if len(s) > validation.DNS1123SubdomainMaxLength {
		return false
	}
	for more := true; more; {
		var part string
		if part, s, more = strings.Cut(s, "."); !isSimpleName(part) {
			return false
		}
	}
	return true
}

// shortRule drops the regular expression that apimachinery appends for its own
// users.
func shortRule(rule string) string {
	rule, _, _ = strings.Cut(rule, " (e.g. ")
	rule, _, _ = strings.Cut(rule, ", regex used for validation")
	return rule
}

func oneOf[T ~string](p *problems, at, name string, value T, allowed ...T) {
	if !slices.Contains(allowed, value) {
		p.hint(at+name, "one of "+joinQuoted(allowed), "%q is not a known value", string(value))
	}
}

func joinQuoted[T ~string](values []T) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(string(v))
	}
	return strings.Join(quoted, ", ")
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func within(p *problems, at, name string, value, low, high int64) {
	switch {
	case value >= low && value <= high:
	case high == maxInt32 && value < low:
		p.add(at+name, "%d must be at least %d", value, low)
	default:
		p.add(at+name, "%d must be between %d and %d", value, low, high)
	}
}

const maxInt32 = 1<<31 - 1

// maxAnnotationBytes bounds all annotations of an object, as in Kubernetes, and
// likewise all its labels: pods are found by each of them.
const maxAnnotationBytes = 256 << 10

// ownMeta is the field at which an object's own metadata stands.
const ownMeta = "metadata"

func (p *problems) metadata(row *Row, obj Object) {
	p.name(obj.GetName(), row.Name.Do)
	switch {
	case row.Namespaced:
		p.rule("", "metadata.namespace", obj.GetNamespace(), validation.IsDNS1123Label)
	case obj.GetNamespace() != "":
		p.hint("metadata.namespace", "leave it out", "a %s belongs to no namespace", row.Kind)
	}
	p.labels("metadata.labels", ownLabels(obj))
	p.annotations("metadata.annotations", obj.GetAnnotations())
}

// ownLabels are an object's labels without the one that repeats a namespace's
// name, which is judged as the name.
func ownLabels(obj Object) map[string]string {
	labels := obj.GetLabels()
	if labels[corev1.LabelMetadataName] != obj.GetName() {
		return labels
	}
	labels = maps.Clone(labels)
	delete(labels, corev1.LabelMetadataName)
	return labels
}

func (p *problems) labels(at string, labels map[string]string) {
	size := 0
	for key, value := range labels {
		size += len(key) + len(value)
	}
	if size > maxAnnotationBytes {
		p.add(at, "labels take %d bytes together, at most %d fit", size, maxAnnotationBytes)
		return
	}
	for key, value := range labels {
		if isSimpleKey(key) && (value == "" || isSimpleName(value)) {
			continue
		}
		for _, wrong := range validation.IsQualifiedName(key) {
			p.add(at+"["+key+"]", "%q is not a valid label key: %s", key, shortRule(wrong))
		}
		for _, wrong := range validation.IsValidLabelValue(value) {
			p.add(at+"["+key+"]", "%q is not a valid label value: %s", value, shortRule(wrong))
		}
	}
}

func (p *problems) annotations(at string, annotations map[string]string) {
	size := 0
	for key, value := range annotations {
		size += len(key) + len(value)
		if isSimpleKey(key) {
			continue
		}
		for _, wrong := range validation.IsQualifiedName(strings.ToLower(key)) {
			p.add(at+"["+key+"]", "%q is not a valid annotation key: %s", key, shortRule(wrong))
		}
	}
	if size > maxAnnotationBytes {
		p.add(at, "annotations take %d bytes together, at most %d fit", size, maxAnnotationBytes)
	}
}

// SelectorMatches reports whether labels satisfy a label selector. An invalid
// selector matches nothing, an empty one everything.
func SelectorMatches(s *metav1.LabelSelector, labels map[string]string) bool {
	for key, want := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		value, has := labels[e.Key]
		listed := has && slices.Contains(e.Values, value)
		switch e.Operator {
		case metav1.LabelSelectorOpIn:
			if !listed {
				return false
			}
		case metav1.LabelSelectorOpNotIn:
			if listed {
				return false
			}
		case metav1.LabelSelectorOpExists:
			if !has {
				return false
			}
		case metav1.LabelSelectorOpDoesNotExist:
			if has {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (p *problems) labelSelector(at string, s *metav1.LabelSelector) {
	p.labels(at+".matchLabels", s.MatchLabels)
	for i, e := range s.MatchExpressions {
		field := fmt.Sprintf("%s.matchExpressions[%d]", at, i)
		p.rule(field, ".key", e.Key, validation.IsQualifiedName)
		switch e.Operator {
		case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn:
			if len(e.Values) == 0 {
				p.add(field+".values", "must be set with operator %s", e.Operator)
			}
		case metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
			if len(e.Values) > 0 {
				p.add(field+".values", "must be left out with operator %s", e.Operator)
			}
		default:
			oneOf(p, field, ".operator", e.Operator, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)
		}
	}
}

// amount is the number in a count or a percentage.
func (p *problems) amount(field string, v *intstr.IntOrString) (int, bool) {
	if v.Type == intstr.Int {
		if v.IntVal < 0 {
			p.add(field, "%d must not be negative", v.IntVal)
		}
		return int(v.IntVal), v.IntVal >= 0
	}
	n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%"))
	if len(validation.IsValidPercent(v.StrVal)) > 0 || err != nil {
		p.hint(field, `write a number like 1 or a percentage like "25%"`, "%q is neither a number nor a percentage", v.StrVal)
		return 0, false
	}
	return n, true
}

const (
	// maxDataBytes bounds a ConfigMap's or Secret's data: Kubernetes' bound, which
	// keys count for here too.
	maxDataBytes = 1 << 20
	// maxDataKeys bounds its keys: each may become a file or a variable.
	maxDataKeys = 10_000
)

// data judges what the values of both kinds share.
func (p *problems) data(size, keys int) {
	if size > maxDataBytes {
		p.hint("data", "split it", "keys and values take %d bytes together, at most %d fit", size, maxDataBytes)
	}
	if keys > maxDataKeys {
		p.hint("data", "split it", "%d keys, at most %d are taken", keys, maxDataKeys)
	}
}

// EncryptedBySOPS is how a value begins that SOPS has encrypted.
const EncryptedBySOPS = "ENC[AES256_GCM,"

// encrypted refuses a value that would reach containers as it is encrypted.
func (p *problems) encrypted(field, value string) {
	if strings.HasPrefix(value, EncryptedBySOPS) {
		p.add(field, "is encrypted with SOPS, and nothing here decrypts it")
	}
}

func (p *problems) dataKey(field, key string) {
	for _, wrong := range validation.IsConfigMapKey(key) {
		p.add(field, "%q is not a valid key: %s", key, shortRule(wrong))
	}
}

// safeRelative reports whether a path stays below where it starts.
func safeRelative(name string) bool {
	return name != "" && !path.IsAbs(name) && !slices.Contains(strings.Split(name, "/"), "..")
}
