package kustomize

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/child"
)

// explanation is of an error that the library has in one form: what it names, and what
// to say of it. It returns false where it finds no place.
type explanation struct {
	form *regexp.Regexp
	tell func(s *sources, found []string) (schema.Diagnostic, bool)
}

// id is how the library writes which object it means: kind, version and group, name and
// namespace, where each may be missing.
const id = `([^ ./"]*)\.[^ /"]*/([^ "\[:]*)\.(?:\[noNs\]|[^ ."\[:]*)`

var explanations = []explanation{
	{regexp.MustCompile(`no matches for Id ` + id), tellNoTarget},
	{regexp.MustCompile(`multiple matches for Id ` + id), tellManyTargets},
	{regexp.MustCompile(`may not add resource with an already registered id: ` + id), tellTwice},
	{regexp.MustCompile(`resource with name (.*?) does not match a config`), tellNoReplicas},
	{regexp.MustCompile(`unable to find field "([^"]*)" in replacement target`), tellNoField},
	{regexp.MustCompile(`nothing selected by ` + id), tellNoSource},
	{regexp.MustCompile(`var '\{(\S+) `), tellNoVar},
	{regexp.MustCompile(`OpenAPI version is not built in`), tellNoVersion},
	{regexp.MustCompile(`json: (.*TransformerConfig.*)`), tellBadConfiguration},
	{regexp.MustCompile(`Name:"([^"]*)".* does not exist; cannot merge or replace`), tellNothingToMerge},
}

// explain turns an error of the library into a diagnostic.
func explain(root *node, s *sources, err error) schema.Diagnostic {
	text := strings.ReplaceAll(err.Error(), treeRoot+"/", "")
	for _, e := range explanations {
		if found := e.form.FindStringSubmatch(text); found != nil {
			if d, ok := e.tell(s, found); ok {
				d.Severity = schema.Error
				return d
			}
		}
	}
	d := schema.Diagnostic{
		Position: schema.Position{Path: root.file}, Severity: schema.Error,
		Message: "kustomize cannot build this: " + s.withoutSecrets(text),
	}
	if !s.open {
		d.Hint = fmt.Sprintf("run kustomize build %s to see it", root.dir)
	}
	return d
}

// withoutSecrets is a message of the library, which is not told where there is a Secret:
// it may quote whole objects, as they were written or were built, in part and encoded.
func (s *sources) withoutSecrets(text string) string {
	if !s.open {
		return "its message is left out here, because it may contain values of a Secret"
	}
	return quoting.ReplaceAllString(text, "")
}

// quoting is where the library repeats a whole configuration.
var quoting = regexp.MustCompile("(?s) with config: `.*?\n`")

func told(at child.Place, hint, format string, args ...any) (schema.Diagnostic, bool) {
	return schema.Diagnostic{Position: positionOf(at), Message: fmt.Sprintf(format, args...), Hint: hint}, true
}

// nearestName is a hint at an object of that kind whose name is much like another.
func (s *sources) nearestName(kind, name string) string {
	var names []string
	for _, d := range s.documents {
		if d.kind == kind && d.name != "" {
			names = append(names, d.name)
		}
	}
	if best := schema.Nearest(name, names); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 0 && len(names) <= maxNamed {
		return fmt.Sprintf("there is %s %s", kind, strings.Join(names, ", "))
	}
	return ""
}

// maxNamed are named in a hint.
const maxNamed = 5

func tellNoTarget(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, p := range s.patches {
		if p.target == nil && p.pointer == nil && p.kind == found[1] && p.name == found[2] {
			return told(p.named(), s.nearestName(p.kind, p.name), "there is no %s %s to patch", p.kind, p.name)
		}
	}
	return schema.Diagnostic{}, false
}

func tellManyTargets(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, p := range s.patches {
		if p.target == nil && p.pointer == nil && p.kind == found[1] && p.name == found[2] {
			return told(p.named(), "name one of them with target in the kustomization", "there are several %s %s that this could patch", p.kind, p.name)
		}
	}
	return schema.Diagnostic{}, false
}

// named is where a patch names what it is for.
func (p *patch) named() child.Place {
	if n := nameOf(p.node); n != nil {
		return spot{p.file, p.line, p.column, n}.place()
	}
	return p.place()
}

func tellTwice(s *sources, found []string) (schema.Diagnostic, bool) {
	var same []*document
	for _, d := range s.documents {
		if d.kind == found[1] && (d.name == found[2] || d.final == found[2]) {
			same = append(same, d)
		}
	}
	switch first := 0; {
	case len(same) == 0:
		return schema.Diagnostic{}, false
	case len(same) == 1 || same[0].place() == same[1].place():
		for _, w := range s.ways { // the one document comes in twice
			for _, r := range w.uses {
				if r.kind == file|directory && len(s.waysTo(w.node, r)) > 0 {
					if first++; first == 2 {
						return told(w.at(r.field), "give one of the two a namePrefix or a namespace, or take it out", "%s %s comes in twice, from %s", found[1], found[2], same[0].file)
					}
				}
			}
		}
		return told(same[0].place(), "", "%s %s comes in twice", found[1], found[2])
	default:
		return told(same[1].place(), "take one out", "%s %s is there twice, first at %s", found[1], found[2], positionOf(same[0].place()))
	}
}

// waysTo are the kustomizations that a reference enters and that are entered by others.
func (s *sources) waysTo(n *node, r reference) (out []*node) {
	for _, below := range n.below {
		if below.dir == path.Join(n.dir, r.to) && s.isShared(below) {
			out = append(out, below)
		}
	}
	return out
}

// isShared reports whether a kustomization leads to one that several use.
func (s *sources) isShared(of *node) bool {
	users := make(map[*node]int)
	collect(s.ways[0].node, make(map[*node]bool), func(n *node) {
		for _, b := range n.below {
			users[b]++
		}
	})
	shared := false
	collect(of, make(map[*node]bool), func(n *node) { shared = shared || users[n] > 1 })
	return shared
}

func tellNoReplicas(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, w := range s.ways {
		for i, r := range w.says.Replicas {
			if r.Name == found[1] {
				return told(w.at(fmt.Sprintf("replicas[%d].name", i)), s.nearestName("Deployment", r.Name), "there is nothing named %s whose replicas could be set", r.Name)
			}
		}
	}
	return schema.Diagnostic{}, false
}

func tellNoField(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, w := range s.ways {
		for i, r := range w.says.Replacements {
			for j, t := range r.Targets {
				for k, p := range t.FieldPaths {
					if p == found[1] {
						return told(w.at(fmt.Sprintf("replacements[%d].targets[%d].fieldPaths[%d]", i, j, k)), "correct it, or have it made with options: {create: true}", "what is selected has no field %s", p)
					}
				}
			}
		}
	}
	return schema.Diagnostic{}, false
}

func tellNoSource(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, w := range s.ways {
		for i, r := range w.says.Replacements {
			if r.Source != nil && r.Source.Kind == found[1] && r.Source.Name == found[2] {
				return told(w.at(fmt.Sprintf("replacements[%d].source", i)), s.nearestName(r.Source.Kind, r.Source.Name), "there is no %s %s to take a value from", r.Source.Kind, r.Source.Name)
			}
		}
	}
	return schema.Diagnostic{}, false
}

func tellNoVar(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, w := range s.ways {
		for i, v := range w.says.Vars {
			if v.Name == found[1] {
				return told(w.at(fmt.Sprintf("vars[%d].objref", i)), s.nearestName(v.ObjRef.Kind, v.ObjRef.Name), "there is no %s %s for the variable %s to take a value from", v.ObjRef.Kind, v.ObjRef.Name, v.Name)
			}
		}
	}
	return schema.Diagnostic{}, false
}

func tellNothingToMerge(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, w := range s.ways {
		for field, g := range w.generators() {
			if g.Name == found[1] && (g.Behavior == "merge" || g.Behavior == "replace") {
				return told(w.at(field+".behavior"), "take out behavior, and it is created", "there is no generated %s to %s", g.Name, g.Behavior)
			}
		}
	}
	return schema.Diagnostic{}, false
}

func tellNoVersion(s *sources, _ []string) (schema.Diagnostic, bool) {
	for _, w := range s.ways {
		if v := w.says.OpenAPI["version"]; v != "" {
			return told(w.at("openapi[version]"), "leave it out, and the newest is used", "openapi: kustomize has no version %s", v)
		}
	}
	return schema.Diagnostic{}, false
}

func tellBadConfiguration(s *sources, found []string) (schema.Diagnostic, bool) {
	for _, w := range s.ways {
		if len(w.says.Configurations) > 0 {
			return told(w.at("configurations"), "", "a file of these is no configuration of kustomize's: %s", found[1])
		}
	}
	return schema.Diagnostic{}, false
}
