package kustomize

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/kustomize/api/types"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// checker finds what the library would refuse in words that name no place.
type checker struct {
	root  *node
	texts map[string][]byte
	diags schema.Diagnostics
}

// check is what is wrong with the files of a unit, before it is built.
func check(root *node, texts map[string][]byte) schema.Diagnostics {
	c := &checker{root: root, texts: texts}
	collect(root, make(map[*node]bool), c.node)
	return c.diags
}

func (c *checker) fail(at schema.Position, hint, format string, args ...any) {
	c.diags = append(c.diags, schema.Diagnostic{Position: at, Severity: schema.Error, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (c *checker) warn(at schema.Position, hint, message string) {
	c.diags = append(c.diags, schema.Diagnostic{Position: at, Severity: schema.Warning, Message: message, Hint: hint})
}

func (c *checker) node(n *node) {
	for _, r := range n.uses {
		name := path.Join(n.dir, r.to)
		text, isFile := c.texts[name]
		field, _, _ := strings.Cut(r.field, "[")
		switch {
		case r.isText() && field != "patchesStrategicMerge":
			c.plugins(n, way{node: n}.inlineAt(r.field, r.to))
		case !isFile:
		case field == "resources" || field == "bases":
			c.resources(name, text)
		case field == "generators" || field == "transformers" || field == "validators":
			if c.isYAML(name, text) {
				c.plugins(n, documentsOf(name, text))
			}
		case field == "patches" || field == "patchesStrategicMerge" || field == "patchesJson6902" || field == "replacements" || field == "configurations":
			c.isYAML(name, text)
		case field == "openapi" && strings.HasPrefix(string(text), "{") && !json.Valid(text):
			c.fail(n.at(r.field), "", "%s is no JSON", name)
		case strings.Contains(r.field, ".env"):
			c.environment(name, text)
		}
	}
	c.patches(n)
	for field, g := range n.generators() {
		c.generator(n, field, g)
	}
	if o := n.says.SortOptions; o != nil && o.Order != types.LegacySortOrder && o.Order != types.FIFOSortOrder {
		c.fail(n.at("sortOptions.order"), "write legacy or fifo", "sortOptions.order: there is no order %q", o.Order)
	}
}

// isYAML reports whether a file can be parsed, and tells where not.
func (c *checker) isYAML(name string, text []byte) bool {
	if path.Ext(name) == ".json" {
		if _, problem := yaml.ParseJSON(text); problem != nil {
			c.diags = append(c.diags, problem.Diagnostic(name, 0))
			return false
		}
		return true
	}
	for _, chunk := range yaml.Split(text) {
		if _, problem := yaml.ParseYAML(chunk.Text, new(yaml.Arena)); problem != nil {
			c.diags = append(c.diags, problem.Diagnostic(name, chunk.Line))
			return false
		}
	}
	return true
}

// resources holds the objects of a file to what makes one.
func (c *checker) resources(name string, text []byte) {
	if !c.isYAML(name, text) {
		return
	}
	for _, at := range documentsOf(name, text) {
		if yaml.IsNull(at.node) {
			continue
		}
		switch {
		case at.node.Kind != yaml.MappingNode || yaml.IsUnrendered(at.node):
			c.fail(positionOf(at.place()), "list only files of objects under resources", "this is not an object")
		case yaml.TextAt(at.node, "kind") == "":
			c.fail(positionOf(at.place()), "take it out of resources, if it is no object", "kind is missing")
		case strings.HasSuffix(yaml.TextAt(at.node, "kind"), "List") && yaml.Child(at.node, "items") != nil:
		case yaml.Child(at.node, "metadata") == nil || nameOf(at.node) == nil:
			c.fail(positionOf(at.place()), "every object has a name", "metadata.name is missing")
		case nameOf(at.node).Kind != yaml.ScalarNode:
			n := spot{at.file, at.line, at.column, nameOf(at.node)}
			hint := ""
			if yaml.IsUnrendered(n.node) {
				hint = yaml.TemplateHint
			}
			c.fail(positionOf(n.place()), hint, "metadata.name must be text")
		}
	}
}

func nameOf(n *yaml.Node) *yaml.Node {
	meta := yaml.Child(n, "metadata")
	if meta == nil || meta.Kind != yaml.MappingNode {
		return nil
	}
	return yaml.Child(meta, "name")
}

// plugins refuses generators and transformers that are programs of their own, and holds
// the files of variables of the others to what can be read.
func (c *checker) plugins(n *node, all []spot) {
	for _, at := range all {
		for _, name := range variablesOf(at.node) {
			if text, ok := c.texts[path.Join(n.dir, name)]; ok {
				c.environment(path.Join(n.dir, name), text)
			}
		}
		kind, version := yaml.TextAt(at.node, "kind"), yaml.TextAt(at.node, "apiVersion")
		switch {
		case kind == "":
		case kind == "HelmChartInflationGenerator":
			c.fail(positionOf(at.place()), "commit what helm template prints, and list that file under resources", "Helm charts are not rendered here")
		case version != "builtin" && version != "":
			c.fail(positionOf(at.place()), "commit what it makes, and list that under resources", "%s %s is a plugin, a program of its own, and none is run while a tree is read", version, kind)
		}
	}
}

// variablesOf are the files of variables that a generator in a file of its own names.
func variablesOf(n *yaml.Node) (out []string) {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	if env := yaml.Child(n, "env"); env != nil {
		out = append(out, yaml.Target(env).Value)
	}
	if envs := yaml.Child(n, "envs"); envs != nil {
		for _, env := range yaml.Target(envs).Content {
			out = append(out, yaml.Target(env).Value)
		}
	}
	return out
}

// environment holds a file of variables to what is read. One without = has an empty value
// to kustomize, and its own environment's to other programs that read such files: which is
// meant is worth a word.
func (c *checker) environment(name string, text []byte) {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		if len(bytes.TrimSuffix(line, []byte("\n"))) >= bufio.MaxScanTokenSize {
			c.fail(schema.Position{Path: name, Line: number, Column: 1}, "list a file of its own under files", "this line is longer than the %d bytes that kustomize reads: it would leave out this variable and all after it", bufio.MaxScanTokenSize-1)
			return
		}
		key := strings.TrimSpace(string(bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))))
		if !utf8.ValidString(key) {
			c.fail(schema.Position{Path: name, Line: number, Column: 1}, "", "this line is not UTF-8")
			continue
		}
		if key != "" && key[0] != '#' && !strings.Contains(key, "=") {
			c.warn(schema.Position{Path: name, Line: number, Column: 1}, "write = behind it if that is meant", "this line has no =, so the variable is made with an empty value, as kustomize does")
		}
	}
}

// patches holds patches to one text and a target.
func (c *checker) patches(n *node) {
	for i, p := range n.says.Patches {
		c.patch(n, fmt.Sprintf("patches[%d]", i), p)
	}
	for i, p := range n.says.PatchesJson6902 {
		c.patch(n, fmt.Sprintf("patchesJson6902[%d]", i), p)
	}
}

func (c *checker) patch(n *node, field string, p types.Patch) {
	at := n.at(field)
	switch {
	case p.Path != "" && strings.TrimSpace(p.Patch) != "":
		c.fail(n.at(field+".patch"), "keep one of them", "%s has both path and patch", field)
		return
	case p.Path == "" && strings.TrimSpace(p.Patch) == "":
		c.fail(at, "write path, a file's name, or patch, the patch itself", "%s has neither path nor patch", field)
		return
	}
	c.target(n, field, p.Target)
	all := documentsOf(path.Join(n.dir, p.Path), c.texts[path.Join(n.dir, p.Path)])
	if p.Path == "" {
		if _, problem := yaml.ParseYAML([]byte(p.Patch), new(yaml.Arena)); problem != nil {
			c.fail(n.at(field+".patch"), "", "%s.patch: %s", field, problem.Diagnostic("", 0).Message)
			return
		}
		all = way{node: n}.inlineAt(field+".patch", p.Patch)
	}
	for _, at := range all {
		if at.node.Kind == yaml.SequenceNode {
			c.operations(at, p.Target == nil, n.at(field))
		}
	}
}

// target holds the patterns of a target to what can be matched.
func (c *checker) target(n *node, field string, t *types.Selector) {
	if t == nil {
		return
	}
	for _, f := range []struct{ name, pattern string }{{"group", t.Group}, {"version", t.Version}, {"kind", t.Kind}, {"name", t.Name}, {"namespace", t.Namespace}} {
		if _, err := regexp.Compile(f.pattern); err != nil {
			c.fail(n.at(field+".target."+f.name), "it is a regular expression", "%s.target.%s: %v", field, f.name, err)
		}
	}
}

// operationNames are those of a JSON patch.
var operationNames = []string{"add", "copy", "move", "remove", "replace", "test"}

// operations holds a JSON patch to the operations that there are.
func (c *checker) operations(at spot, aimless bool, field schema.Position) {
	if aimless {
		c.fail(field, "add a target with kind and name", "a JSON patch does not say itself what it is for, and this one has no target")
	}
	for _, op := range at.node.Content {
		name := yaml.TextAt(op, "op")
		if slices.Contains(operationNames, name) {
			continue
		}
		hint := ""
		if best := schema.Nearest(name, operationNames); best != "" {
			hint = fmt.Sprintf("did you mean %q?", best)
		}
		c.fail(positionOf(spot{at.file, at.line, at.column, op}.place()), hint, "a JSON patch has no operation %q", name)
	}
}

// generator holds a generator to what makes an object. Of a Secret's values nothing is
// told.
func (c *checker) generator(n *node, field string, g types.GeneratorArgs) {
	if g.Name == "" {
		c.fail(n.at(field), "write name", "%s has no name", field)
	}
	seen := make(map[string]bool)
	again := func(at, key string) {
		if seen[key] {
			c.fail(n.at(at), "take one out", "%s: the key %q is there already", at, key)
		}
		seen[key] = true
	}
	for i, l := range g.LiteralSources {
		at := fmt.Sprintf("%s.literals[%d]", field, i)
		key, _, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			c.fail(n.at(at), "write it like KEY=value", "%s has no key and value", at)
			continue
		}
		again(at, key)
	}
	for i, f := range g.FileSources {
		key, _, ok := strings.Cut(f, "=")
		if !ok {
			key = path.Base(f)
		}
		again(fmt.Sprintf("%s.files[%d]", field, i), key)
	}
}
