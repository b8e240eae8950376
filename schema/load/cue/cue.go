// Package cue says how a directory of CUE is evaluated: what of the tree it sees, what
// objects come out, and where each of their fields was written. The evaluating is done
// in a bounded child, which package child knows; nothing else calls CUE.
package cue

import (
	"path"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/child"
)

// Language is CUE as a child evaluates it.
var Language = child.Language{
	Name: "cue", Called: "CUE", OfTree: "the tree's CUE",
	Simplify:  "split the directory, or simplify its disjunctions: each one multiplies the work",
	Recursion: "look for definitions that refer to themselves, or for very deep nesting",
	Evaluate: func(files []child.File) func(dir string) child.Response {
		tree := newFiles(files)
		return func(dir string) child.Response { return evaluate(tree, dir) }
	},
}

// Extension is what names of CUE files end with.
const Extension = ".cue"

// Input picks what CUE sees: of a directory with selected files just those, of others
// all, because what is left out of the source may still be imported.
func Input(tree schema.Tree, selected []schema.File) *child.Input {
	evaluated := make(map[string]bool)
	var directories []string
	for _, f := range selected {
		if dir := path.Dir(f.Path); !evaluated[dir] {
			evaluated[dir] = true
			directories = append(directories, dir)
		}
	}
	files := slices.Clone(selected)
	for _, f := range tree.Files {
		if path.Ext(f.Path) == Extension && !evaluated[path.Dir(f.Path)] && f.Size <= schema.MaxFileSize {
			files = append(files, f)
		}
	}
	return child.NewInput(files, directories, func(name string) bool { return strings.Contains("/"+name, "/cue.mod/") })
}
