package schema

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (p *problems) nodeAffinity(at string, a *corev1.NodeAffinity) {
	if required := a.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		field := at + ".requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
		if len(required.NodeSelectorTerms) == 0 {
			p.add(field, "must hold at least one term")
		}
		for i := range required.NodeSelectorTerms {
			p.nodeSelectorTerm(fmt.Sprintf("%s[%d]", field, i), &required.NodeSelectorTerms[i])
		}
	}
	for i := range a.PreferredDuringSchedulingIgnoredDuringExecution {
		preferred := &a.PreferredDuringSchedulingIgnoredDuringExecution[i]
		field := fmt.Sprintf("%s.preferredDuringSchedulingIgnoredDuringExecution[%d]", at, i)
		within(p, field, ".weight", int64(preferred.Weight), 1, 100)
		p.nodeSelectorTerm(field+".preference", &preferred.Preference)
	}
}

func (p *problems) nodeSelectorTerm(at string, term *corev1.NodeSelectorTerm) {
	for i := range term.MatchExpressions {
		e := &term.MatchExpressions[i]
		field := fmt.Sprintf("%s.matchExpressions[%d]", at, i)
		p.rule(field, ".key", e.Key, validation.IsQualifiedName)
		p.nodeSelectorValues(field, e)
	}
	for i := range term.MatchFields {
		e := &term.MatchFields[i]
		field := fmt.Sprintf("%s.matchFields[%d]", at, i)
		if e.Key != "metadata.name" {
			p.add(field+".key", "%q must be metadata.name", e.Key)
		}
		if e.Operator != corev1.NodeSelectorOpIn && e.Operator != corev1.NodeSelectorOpNotIn {
			p.hint(field+".operator", `one of "In", "NotIn"`, "%q is not a known value", string(e.Operator))
		} else if len(e.Values) != 1 {
			p.add(field+".values", "must hold exactly one name")
		}
	}
}

func (p *problems) nodeSelectorValues(at string, e *corev1.NodeSelectorRequirement) {
	switch e.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		if len(e.Values) == 0 {
			p.add(at+".values", "must be set with operator %s", e.Operator)
		}
	case corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist:
		if len(e.Values) > 0 {
			p.add(at+".values", "must be left out with operator %s", e.Operator)
		}
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		if len(e.Values) != 1 {
			p.add(at+".values", "must hold exactly one number with operator %s", e.Operator)
		} else if _, err := strconv.ParseInt(e.Values[0], 10, 64); err != nil {
			p.add(at+".values[0]", "%q is not a whole number", e.Values[0])
		}
	default:
		oneOf(p, at, ".operator", e.Operator, corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists,
			corev1.NodeSelectorOpDoesNotExist, corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt)
	}
}

func (p *problems) toleration(at string, t *corev1.Toleration) {
	if t.Key != "" {
		p.rule(at, ".key", t.Key, validation.IsQualifiedName)
	}
	switch t.Operator {
	case corev1.TolerationOpEqual, "":
		if t.Key == "" {
			p.hint(at+".operator", "write operator: Exists to tolerate every taint", "a toleration without a key needs operator Exists")
		}
	case corev1.TolerationOpExists:
		if t.Value != "" {
			p.add(at+".value", "must be left out with operator Exists")
		}
	default:
		oneOf(p, at, ".operator", t.Operator, corev1.TolerationOpEqual, corev1.TolerationOpExists)
	}
	oneOf(p, at, ".effect", t.Effect, "", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)
	if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
		p.add(at+".tolerationSeconds", "has a meaning only with effect NoExecute")
	}
}
