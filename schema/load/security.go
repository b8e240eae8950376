package load

import (
	"fmt"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// podSecurity holds pods to what their namespaces ask of them. A pod with errors is
// not judged: what it lacks may be what could not be read.
func (t *wholeTree) podSecurity() {
	for i := range t.objects {
		o := objectOf(t.objects[i])
		if o.declares != nil {
			for _, label := range o.declares.Aged {
				t.at(o, schema.Warning, "metadata.labels["+label+"]", "pods are held to the newest rules, whatever version is named", "")
			}
		}
		if o.pods == nil || o.flawed {
			continue
		}
		asked := t.securityOf(o.key.Namespace)
		if asked == (schema.NamespaceSecurity{}) {
			continue
		}
		if o.Object == nil {
			t.needsObjects = true
			return
		}
		t.heldTo(o, asked)
	}
}

func (t *wholeTree) heldTo(o object, asked schema.NamespaceSecurity) {
	template, _ := schema.PodTemplateOf(o.Object)
	if rights := t.opts.Rights; asked.Enforce != "" && (rights == nil || rights.PodSecurity.Exceeds(asked.Enforce)) { // else it was told as the source's
		refuse := t.elsewhere
		if t.declared()[o.key.Namespace] != nil {
			refuse = t.refuse
		}
		for _, p := range schema.JudgePodSecurity(template, asked.Enforce) {
			refuse(o, p.Field, fmt.Sprintf("%s, and namespace %q enforces %s", p.Message, o.key.Namespace, asked.Enforce), hintOf(o.key.Kind, p))
		}
	}
	if asked.Warn == "" || asked.Enforce != "" && !asked.Enforce.Exceeds(asked.Warn) {
		return
	}
	for _, p := range schema.JudgePodSecurity(template, asked.Warn) {
		t.at(o, schema.Warning, p.Field, fmt.Sprintf("%s, and namespace %q warns of what exceeds %s", p.Message, o.key.Namespace, asked.Warn), hintOf(o.key.Kind, p))
	}
}

// hintOf is a problem's hint, unless it is to write a field that is refused.
func hintOf(kind schema.Kind, p schema.FieldProblem) string {
	support := schema.SupportedFields(kind)
	for _, name := range yaml.Names(p.Field) {
		if support.Treatment == schema.Supported {
			support = support.Field(name)
		}
	}
	if support.Treatment == schema.Restricts {
		return "which nothing can be yet: the field is not supported"
	}
	return p.Hint
}

// securityOf is what a namespace asks of its pods, whether this tree or another source
// declares it.
func (t *wholeTree) securityOf(namespace string) schema.NamespaceSecurity {
	if t.asked == nil {
		t.asked = make(map[string]schema.NamespaceSecurity)
	}
	asked, known := t.asked[namespace]
	if known {
		return asked
	}
	if declared := t.declared()[namespace]; declared != nil {
		asked = declared.Security
	} else if t.opts.Known != nil {
		if other := t.opts.Known(schema.NamespaceKey(namespace)); other != nil {
			asked = schema.DeclaredBy(other).Security
		}
		if t.outside == nil {
			t.outside = make(map[string]schema.NamespaceSecurity)
		}
		t.outside[namespace] = asked
	}
	t.asked[namespace] = asked
	return asked
}
