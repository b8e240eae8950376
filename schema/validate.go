package schema

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
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
	p.metadata(obj)
	switch o := obj.(type) {
	case *corev1.Namespace:
		p.namespaceSecurity(o.Labels)
	case *corev1.ConfigMap:
		p.configMap(o)
	case *corev1.Secret:
		p.secret(o)
	case *corev1.Service:
		p.service(&o.Spec)
	case *corev1.Pod:
		p.podSpec("spec", &o.Spec)
	case *appsv1.Deployment:
		p.deployment(&o.Spec)
	case *Source:
		p.source(&o.Spec)
	}
	p.sort()
	return p
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
	case high == maxInt32:
		p.add(at+name, "%d must be at least %d", value, low)
	default:
		p.add(at+name, "%d must be between %d and %d", value, low, high)
	}
}

const maxInt32 = 1<<31 - 1

// maxRevisionHistory bounds the replica sets that a deployment keeps, each with the
// whole of its template: twice as many as there are revisions of a source to go back to.
const maxRevisionHistory = 100

// maxAnnotationBytes bounds all annotations of an object, as in Kubernetes, and
// likewise all its labels: pods are found by each of them.
const maxAnnotationBytes = 256 << 10

func (p *problems) metadata(obj Object) {
	info := Info(KindOf(obj))
	p.rule("", "metadata.name", obj.GetName(), nameRule(info.Kind))
	switch {
	case info.Namespaced:
		p.rule("", "metadata.namespace", obj.GetNamespace(), validation.IsDNS1123Label)
	case obj.GetNamespace() != "":
		p.hint("metadata.namespace", "leave it out", "a %s belongs to no namespace", info.Kind)
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

func nameRule(kind Kind) func(string) []string {
	switch kind {
	case KindService:
		return validation.IsDNS1035Label
	case KindNamespace, KindSource:
		return validation.IsDNS1123Label
	}
	return validation.IsDNS1123Subdomain
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

func (p *problems) deployment(d *appsv1.DeploymentSpec) {
	within(p, "", "spec.replicas", int64(*d.Replicas), 0, maxInt32)
	within(p, "", "spec.minReadySeconds", int64(d.MinReadySeconds), 0, maxInt32)
	if limit := *d.RevisionHistoryLimit; limit < 0 || limit > maxRevisionHistory {
		p.hint("spec.revisionHistoryLimit", fmt.Sprintf("Fairlead keeps at most %d", maxRevisionHistory), "%d must be between 0 and %d", limit, maxRevisionHistory)
	}
	if *d.ProgressDeadlineSeconds <= d.MinReadySeconds {
		p.add("spec.progressDeadlineSeconds", "%d must be greater than minReadySeconds, which is %d", *d.ProgressDeadlineSeconds, d.MinReadySeconds)
	}
	p.deploymentSelector(d)
	p.strategy(&d.Strategy)
	p.labels("spec.template.metadata.labels", d.Template.Labels)
	p.annotations("spec.template.metadata.annotations", d.Template.Annotations)
	p.podSpec("spec.template.spec", &d.Template.Spec)
	if policy := d.Template.Spec.RestartPolicy; policy != corev1.RestartPolicyAlways {
		p.add("spec.template.spec.restartPolicy", "%q: pods of a Deployment always restart", string(policy))
	}
}

func (p *problems) deploymentSelector(d *appsv1.DeploymentSpec) {
	if d.Selector == nil || len(d.Selector.MatchLabels)+len(d.Selector.MatchExpressions) == 0 {
		p.hint("spec.selector", "write matchLabels with labels of the template", "must be set")
		return
	}
	before := len(*p)
	p.labelSelector("spec.selector", d.Selector)
	for _, key := range sortedKeys(d.Selector.MatchLabels) {
		want := d.Selector.MatchLabels[key]
		if got, ok := d.Template.Labels[key]; !ok {
			p.add("spec.selector.matchLabels["+key+"]", "the template's labels have no %q", key)
			p.because("spec.template.metadata.labels[" + key + "]")
		} else if got != want {
			p.add("spec.selector.matchLabels["+key+"]", "the template's label %s is %q, not %q", key, got, want)
		}
	}
	if len(*p) == before && !SelectorMatches(d.Selector, d.Template.Labels) {
		p.add("spec.selector.matchExpressions", "the template's labels do not match")
		p.because("spec.template.metadata.labels")
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

func (p *problems) strategy(s *appsv1.DeploymentStrategy) {
	oneOf(p, "", "spec.strategy.type", s.Type, appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType)
	if s.RollingUpdate == nil {
		return
	}
	if s.Type != appsv1.RollingUpdateDeploymentStrategyType {
		p.add("spec.strategy.rollingUpdate", "has no meaning with type %s", s.Type)
		p.because("spec.strategy.type")
		return
	}
	surge, surgeOK := p.amount("spec.strategy.rollingUpdate.maxSurge", s.RollingUpdate.MaxSurge)
	unavailable, unavailableOK := p.amount("spec.strategy.rollingUpdate.maxUnavailable", s.RollingUpdate.MaxUnavailable)
	if !surgeOK || !unavailableOK {
		return
	}
	if surge == 0 && unavailable == 0 {
		p.add("spec.strategy.rollingUpdate.maxUnavailable", "must not be 0 when maxSurge is 0: no pod could ever be replaced")
	}
	if s.RollingUpdate.MaxUnavailable.Type == intstr.String && unavailable > 100 {
		p.add("spec.strategy.rollingUpdate.maxUnavailable", "%q is more than 100%%", s.RollingUpdate.MaxUnavailable.StrVal)
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

func (p *problems) configMap(c *corev1.ConfigMap) {
	size := 0
	for _, key := range sortedKeys(c.Data) {
		size += len(key) + len(c.Data[key])
		p.dataKey("data["+key+"]", key)
		p.encrypted("data["+key+"]", c.Data[key])
		if _, twice := c.BinaryData[key]; twice {
			p.add("binaryData["+key+"]", "key %q is in data too", key)
		}
	}
	for _, key := range sortedKeys(c.BinaryData) {
		size += len(key) + len(c.BinaryData[key])
		p.dataKey("binaryData["+key+"]", key)
	}
	p.data(size, len(c.Data)+len(c.BinaryData))
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

func (p *problems) secret(s *corev1.Secret) {
	size := 0
	for _, key := range sortedKeys(s.Data) {
		size += len(key) + len(s.Data[key])
		p.dataKey("data["+key+"]", key)
		p.encrypted("data["+key+"]", string(s.Data[key][:min(len(s.Data[key]), len(EncryptedBySOPS))]))
	}
	p.data(size, len(s.Data))
	p.secretType(s)
}

func (p *problems) source(s *SourceSpec) {
	switch {
	case s.Embedded && s.URL != "":
		p.add("spec.url", "must be left out when embedded is true")
	case !s.Embedded && s.URL == "":
		p.hint("spec", `write url or "embedded: true"`, "names no repository")
	}
	if s.URL != "" {
		r, err := ParseRemote(s.URL)
		switch {
		case err != nil:
			p.add("spec.url", "%q %v", withoutCredentials(s.URL), err)
		case strings.Trim(r.Path, "/") == "":
			p.add("spec.url", "%q names no repository", s.URL)
		}
	}
	if s.Embedded && s.Auth != nil {
		p.add("spec.auth", "an embedded source has no credentials: it takes pushers' tokens")
	}
	if !safeRelative(s.Path) {
		p.add("spec.path", "%q must be a relative path inside the repository", s.Path)
	}
	p.rule("", "spec.namespace", s.Namespace, validation.IsDNS1123Label)
	oneOf(p, "", "spec.unsupported", s.Unsupported, "error", "warn")
	oneOf(p, "", "spec.onFailure", s.OnFailure, "rollback", "hold")
	if s.Interval.Duration < time.Second {
		p.add("spec.interval", "%s is too short, at least 1s", s.Interval.Duration)
	}
	if s.ProgressDeadline.Duration < time.Second {
		p.add("spec.progressDeadline", "%s is too short, at least 1s", s.ProgressDeadline.Duration)
	}
	if s.HealthyFor.Duration < 0 {
		p.add("spec.healthyFor", "%s must not be negative", s.HealthyFor.Duration)
	}
	if percent, err := strconv.Atoi(strings.TrimSuffix(s.PruneLimit, "%")); err != nil || !strings.HasSuffix(s.PruneLimit, "%") || percent < 0 || percent > 100 {
		p.hint("spec.pruneLimit", "write a percentage like 50%", "%q is not a percentage from 0%% to 100%%", s.PruneLimit)
	}
	p.globs("spec.include", s.Include)
	p.globs("spec.exclude", s.Exclude)
	p.rights(s)
}

var userInfo = regexp.MustCompile(`//[^/]*@`)

// withoutCredentials is a URL as it may be told: what is wrong in a tree is read
// by more people than the tree.
func withoutCredentials(url string) string {
	return userInfo.ReplaceAllString(url, "//…@")
}

func (p *problems) globs(at string, globs []string) {
	for i, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || strings.Trim(glob, "/") == "" {
			p.hint(fmt.Sprintf("%s[%d]", at, i), "* stands for part of a name, ** for any number of directories", "%q is not a glob", glob)
		}
	}
}

// safeRelative reports whether a path stays below where it starts.
func safeRelative(name string) bool {
	return name != "" && !path.IsAbs(name) && !slices.Contains(strings.Split(name, "/"), "..")
}
