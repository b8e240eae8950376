package kustomize

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/yaml"
)

// parts says what the places that belong to a kustomization do to what is built: what
// stands in a file that it names as a patch is a patch's, and what stands in one of its
// own fields is that field's. It stays when the kustomization is forgotten.
type parts struct {
	file  string
	files map[string]string // what those do that it names, by path: "a patch of overlays/prod"
	own   []part            // its fields, in the order of the file
}

// part is a field, from its beginning to the next.
type part struct {
	line, column int
	by           string // "" for what is no change, as a resource
}

// partsOf is what a kustomization that was read does.
func partsOf(k *kustomization) *parts {
	p := &parts{file: k.file, files: make(map[string]string)}
	for _, r := range k.uses {
		if by := k.by(r.field); by != "" && !r.isText() {
			p.files[path.Join(k.dir, r.to)] = by
		}
	}
	if k.root == nil || k.root.Kind != yaml.MappingNode {
		return p
	}
	for i := 0; i+1 < len(k.root.Content); i += 2 {
		key, value := k.root.Content[i], yaml.Target(k.root.Content[i+1])
		p.own = append(p.own, part{key.Line, key.Column, k.by(key.Value)})
		if !strings.HasSuffix(key.Value, "Generator") || value.Kind != yaml.SequenceNode {
			continue
		}
		for j, entry := range value.Content {
			p.own = append(p.own, part{entry.Line, entry.Column, k.by(fmt.Sprintf("%s[%d]", key.Value, j))})
		}
	}
	slices.SortStableFunc(p.own, func(a, b part) int { return cmp.Or(a.line-b.line, a.column-b.column) })
	return p
}

// by is what a field of the kustomization is called where it has made something.
func (k *kustomization) by(field string) string {
	name, _, _ := strings.Cut(field, "[")
	switch name {
	case "patches", "patchesStrategicMerge", "patchesJson6902":
		name = "a patch"
	case "generators":
		name = "a generator"
	case "transformers":
		name = "a transformer"
	case "configMapGenerator", secretGenerator:
		for entry, g := range k.generators() {
			if strings.HasPrefix(field, entry) && g.Name != "" {
				name += " " + g.Name
			}
		}
	case "images", "replicas", "namespace", "namePrefix", "nameSuffix", "labels", "commonLabels", "commonAnnotations", "replacements", "vars":
	default:
		return ""
	}
	return name + " of " + k.called()
}

// called is how a kustomization is named in messages.
func (k *kustomization) called() string {
	if k.dir == "." {
		return k.file
	}
	return k.dir
}

// at is what the place belongs to; "" where that changes nothing, or is not known.
func (p *parts) at(place schema.Position) string {
	if place.Path != p.file {
		return p.files[place.Path]
	}
	by := ""
	for _, own := range p.own {
		if own.line > place.Line || own.line == place.Line && own.column > place.Column {
			break
		}
		by = own.by
	}
	return by
}

// By is what of the unit's kustomizations has made what is written at a place, as "a patch
// of overlays/prod"; "" for what stands in an object's own document.
func (u *Unit) By(place schema.Position) string {
	for _, p := range u.parts {
		if by := p.at(place); by != "" {
			return by
		}
	}
	return ""
}
