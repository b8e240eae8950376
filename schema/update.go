package schema

import "strings"

// ValidateUpdate tells which fields of new differ from old and may not, by
// Kubernetes' rules, as their kind's row has them. Both are of one kind and defaulted;
// what the cluster gave old (its node, an address) may be missing in new. Values that
// are shown to nobody may be anything that is equal when the value is, in both alike.
func ValidateUpdate(old, new Object) []FieldProblem {
	var p problems
	if judge := rowOf(new).Update.Do; judge != nil {
		judge(&p, old, new)
	}
	p.sort()
	return p
}

func isTrue(b *bool) bool { return b != nil && *b }

// unchanged refuses every difference at or below field.
func (p *problems) unchanged(field string, old, new Object, hint string) {
	for _, c := range Diff(old, new) {
		if c.Path == field || strings.HasPrefix(c.Path, field+".") || strings.HasPrefix(c.Path, field+"[") {
			p.hint(c.Path, hint, "cannot change once the %s exists: %s", KindOf(old), c.words())
		}
	}
}

// words is the change in words; it is for fields that are never secret.
func (c FieldChange) words() string {
	switch {
	case c.From == "":
		return "added " + c.To
	case c.To == "":
		return "removed " + c.From
	}
	return "from " + c.From + " to " + c.To
}

func (p *problems) immutableData(old, new Object, wasImmutable, isImmutable bool) {
	if !wasImmutable {
		return
	}
	const hint = "give it another name and refer to that"
	if !isImmutable {
		p.hint("immutable", hint, "cannot be taken back once set")
	}
	for _, c := range Diff(old, new) {
		if root, _, _ := strings.Cut(c.Path, "["); root == "data" || root == "binaryData" {
			p.hint(c.Path, hint, "cannot change: the %s in the cluster is immutable", KindOf(old))
		}
	}
}
