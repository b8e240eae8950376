package kustomize

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// parts says what the places that belong to a kustomization do to what is built: what
// stands in a file that it names as a patch is a patch's, and what stands in one of its
// own fields is that field's. It stays when the kustomization is forgotten, and keeps
// nothing of its text.
type parts struct {
	called string // the kustomization
	file   string
	files  map[string]change // what those do that it names, by path
	own    []part            // its fields, in the order of the file
}

// part is a field, from its beginning to the next.
type part struct {
	line, column int
	does         change
}

// change is what a field makes. There may be very many: what they are called is put
// together when it is asked for.
type change struct {
	what string // "a patch"; "" for what is no change, as a resource
	name string // of the object that a generator makes
}

// by is what a change of the kustomization is called: "a patch of overlays/prod".
func (p *parts) by(c change) string {
	switch {
	case c.what == "":
		return ""
	case c.name != "":
		return c.what + " " + c.name + " of " + p.called
	}
	return c.what + " of " + p.called
}

// partsOf is what a kustomization that was read and followed does.
func partsOf(n *node) *parts {
	p := &parts{called: n.called(), file: n.file, files: make(map[string]change)}
	for _, r := range n.uses {
		does := n.change(r.field)
		if does.what == "" || r.isText() {
			continue
		}
		if i, ok := slices.BinarySearchFunc(n.files, path.Join(n.dir, r.to), byPath); ok {
			p.files[n.files[i].Path] = does
		}
	}
	if n.root == nil || n.root.Kind != yaml.MappingNode {
		return p
	}
	for i := 0; i+1 < len(n.root.Content); i += 2 {
		key, value := n.root.Content[i], yaml.Target(n.root.Content[i+1])
		p.own = append(p.own, part{key.Line, key.Column, n.change(key.Value)})
		if !strings.HasSuffix(key.Value, "Generator") || value.Kind != yaml.SequenceNode {
			continue
		}
		for j, entry := range value.Content {
			p.own = append(p.own, part{entry.Line, entry.Column, n.generated(key.Value, j)})
		}
	}
	slices.SortStableFunc(p.own, func(a, b part) int { return a.compare(b.line, b.column) })
	return p
}

// compare orders parts by where they begin.
func (p part) compare(line, column int) int {
	return cmp.Or(cmp.Compare(p.line, line), cmp.Compare(p.column, column))
}

// changes are the fields that make something, and what that is called.
var changes = map[string]string{
	"patches": "a patch", "patchesStrategicMerge": "a patch", "patchesJson6902": "a patch",
	"generators": "a generator", "transformers": "a transformer",
	"configMapGenerator": "configMapGenerator", secretGenerator: secretGenerator,
	"images": "images", "replicas": "replicas", "namespace": "namespace", "namePrefix": "namePrefix", "nameSuffix": "nameSuffix",
	"labels": "labels", "commonLabels": "commonLabels", "commonAnnotations": "commonAnnotations", "replacements": "replacements", "vars": "vars",
}

// change is what a field of the kustomization makes, as "configMapGenerator[2].files[0]".
func (k *kustomization) change(field string) change {
	name, rest, isEntry := strings.Cut(field, "[")
	if !isEntry {
		return change{what: changes[name]}
	}
	index, _, _ := strings.Cut(rest, "]")
	if i, err := strconv.Atoi(index); err == nil {
		return k.generated(name, i)
	}
	return change{what: changes[name]}
}

// generated is what an entry of a field makes, with its name where that is a generator's.
func (k *kustomization) generated(field string, entry int) change {
	name := ""
	switch {
	case field == "configMapGenerator" && entry < len(k.says.ConfigMapGenerator):
		name = k.says.ConfigMapGenerator[entry].Name
	case field == secretGenerator && entry < len(k.says.SecretGenerator):
		name = k.says.SecretGenerator[entry].Name
	}
	return change{what: changes[field], name: strings.Clone(name)}
}

// called is how a kustomization is named in messages.
func (k *kustomization) called() string {
	if k.dir == "." {
		return k.file
	}
	return k.dir
}

// at is what the place belongs to; no change where that changes nothing, or is not known.
func (p *parts) at(place schema.Position) change {
	if place.Path != p.file {
		return p.files[place.Path]
	}
	after, _ := slices.BinarySearchFunc(p.own, place, func(own part, at schema.Position) int {
		if own.compare(at.Line, at.Column) <= 0 {
			return -1
		}
		return 1
	})
	if after == 0 {
		return change{}
	}
	return p.own[after-1].does
}

// By is what of the unit's kustomizations has made what is written at a place, as "a patch
// of overlays/prod"; "" for what stands in an object's own document. It is asked of every
// value that is built.
func (u *Unit) By(place schema.Position) string {
	u.indexed.Do(u.index)
	for _, p := range u.places[place.Path] {
		if by := p.by(p.at(place)); by != "" {
			return by
		}
	}
	return ""
}

// index finds the parts of each file. Behind one that names the file as a patch none is
// asked: whatever stands in it is that one's.
func (u *Unit) index() {
	u.places = make(map[string][]*parts)
	for _, p := range u.parts {
		u.places[p.file] = append(u.places[p.file], p)
		for name := range p.files {
			if name == p.file {
				continue
			}
			all := u.places[name]
			if len(all) == 0 || all[len(all)-1].file == name {
				u.places[name] = append(all, p)
			}
		}
	}
}
