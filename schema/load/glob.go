package load

import (
	"fmt"
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

// Reads says which files of a tree a source reads.
func Reads(spec schema.SourceSpec) func(name string) bool { return selectionOf(spec).wants }

func selectionOf(spec schema.SourceSpec) selection {
	base := path.Clean(spec.Path)
	if base == "." {
		base = ""
	}
	return selection{base: base, include: splitGlobs(spec.Include), exclude: splitGlobs(spec.Exclude)}
}

// splitGlobs cuts globs into parts. As in .gitignore, one without a slash in its
// middle matches at any depth. Where a path begins with "./" or has a slash twice, it
// means what it means to a shell.
func splitGlobs(globs []string) [][]string {
	var out [][]string
	for _, glob := range globs {
		anchored := strings.Contains(strings.TrimSuffix(glob, "/"), "/")
		parts := slices.DeleteFunc(strings.Split(glob, "/"), func(part string) bool { return part == "" || part == "." })
		if !anchored {
			parts = append([]string{"**"}, parts...)
		}
		out = append(out, parts)
	}
	return out
}

// wants reports whether a file is to be read as a manifest.
func (s selection) wants(name string) bool {
	return schema.IsManifest(name) && s.covers(name)
}

// covers applies everything but the file's own extension.
func (s selection) covers(name string) bool {
	parts := strings.Split(s.below(name), "/")
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

// below is a file's name as globs see it: below the source's path.
func (s selection) below(name string) string {
	if s.base == "" {
		return name
	}
	return strings.TrimPrefix(name, s.base+"/")
}

// hint is how to leave a file out: by a glob that matches it.
func (s selection) hint(name string) string {
	return fmt.Sprintf("to leave it out, add %q to exclude in the Source", literally.Replace(s.below(name)))
}

// leaveOut is the hint of a file that is no manifest, before it is known which source it
// is read for: files are decoded once for all of them.
const leaveOut = "exclude it"

// advise gives diagnostics the glob that leaves their file out, in place.
func (s selection) advise(all schema.Diagnostics) schema.Diagnostics {
	for i := range all {
		if all[i].Hint == leaveOut {
			all[i].Hint = s.hint(all[i].Path)
		}
	}
	return all
}

// literally writes a name as a glob that matches nothing else.
var literally = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

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
