package load

import (
	"path"
	"slices"
	"strings"

	"fairlead/schema"
)

// selection decides which files of a tree are read.
type selection struct {
	base             string // the source's path; globs and dot-directories are judged below it
	include, exclude [][]string
}

func selectionOf(spec schema.SourceSpec) selection {
	base := path.Clean(spec.Path)
	if base == "." {
		base = ""
	}
	return selection{base: base, include: splitGlobs(spec.Include), exclude: splitGlobs(spec.Exclude)}
}

// splitGlobs cuts globs into parts. As in .gitignore, one without a slash in its
// middle matches at any depth.
func splitGlobs(globs []string) [][]string {
	var out [][]string
	for _, glob := range globs {
		inner := strings.TrimSuffix(glob, "/")
		if !strings.Contains(inner, "/") {
			inner = "**/" + inner
		}
		out = append(out, strings.Split(strings.TrimPrefix(inner, "/"), "/"))
	}
	return out
}

// wants reports whether a file is to be read as a manifest.
func (s selection) wants(name string) bool {
	return schema.IsManifest(name) && s.covers(name)
}

// covers applies everything but the file's own extension.
func (s selection) covers(name string) bool {
	parts := strings.Split(strings.TrimPrefix(strings.TrimPrefix(name, s.base), "/"), "/")
	for _, dir := range parts[:len(parts)-1] {
		if strings.HasPrefix(dir, ".") || dir == "cue.mod" {
			return false
		}
	}
	if len(s.include) > 0 && !matchAny(s.include, parts) {
		return false
	}
	return !matchAny(s.exclude, parts)
}

// matchAny reports whether a glob matches the file or a directory above it.
func matchAny(globs [][]string, parts []string) bool {
	return slices.ContainsFunc(globs, func(glob []string) bool {
		for n := range parts {
			if matchParts(glob, parts[:n+1]) {
				return true
			}
		}
		return false
	})
}

// matchParts matches a glob against a path, part by part; "**" stands for any
// number of parts. It keeps the set of glob positions reached, so its cost is
// the product of both lengths.
func matchParts(glob, parts []string) bool {
	reached := make([]bool, len(glob)+1)
	reached[0] = true
	spread(glob, reached)
	for _, part := range parts {
		next := make([]bool, len(glob)+1)
		for i, pattern := range glob {
			if !reached[i] {
				continue
			}
			if pattern == "**" {
				next[i] = true
			} else if ok, err := path.Match(pattern, part); ok && err == nil {
				next[i+1] = true
			}
		}
		spread(glob, next)
		reached = next
	}
	return reached[len(glob)]
}

// spread lets "**" stand for nothing.
func spread(glob []string, reached []bool) {
	for i, pattern := range glob {
		if reached[i] && pattern == "**" {
			reached[i+1] = true
		}
	}
}
