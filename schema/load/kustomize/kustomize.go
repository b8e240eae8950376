// Package kustomize says what a directory with a kustomization comes to: which of a
// tree's kustomizations are built, which files each of them reads, what objects come out,
// and where each of their fields was written. The building is done in a bounded child,
// which package child knows; nothing else calls kustomize.
package kustomize

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/child"
)

// Language is kustomize as a child evaluates it.
var Language = child.Language{
	Name: "kustomize", Called: "this kustomization", OfTree: "the tree's kustomizations",
	Simplify:  "use fewer bases, or split the kustomization",
	Recursion: "look for bases and components that use each other",
	Prepare:   prepare,
	Evaluate: func(files []child.File) func(dir string) child.Response {
		b := newBuilder(files)
		return b.build
	},
}

// fileNames are what kustomize takes for a kustomization, whatever stands in it.
var fileNames = []string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// IsFile reports whether a file has the name of a kustomization. It is asked of every
// file of every tree: of most, the end of the name says that it has not.
func IsFile(name string) bool {
	for _, base := range fileNames {
		if rest, ok := strings.CutSuffix(name, base); ok && (rest == "" || rest[len(rest)-1] == '/') {
			return true
		}
	}
	return false
}

// isBelow reports whether a name is a directory or below it; all are below ".".
func isBelow(name, dir string) bool {
	return dir == "." || name == dir || strings.HasPrefix(name, dir) && name[len(dir)] == '/'
}

// isOutside reports whether a clean name leaves the tree.
func isOutside(name string) bool { return name == ".." || strings.HasPrefix(name, "../") }

// files are those of a tree, sorted by path, with what kustomizations may use outside of
// the source's path.
type files struct {
	tree    []schema.File
	outside *schema.Outside
	listed  map[string]listed // by directory outside
}

// listed is what stands in a directory outside of the source's path, or why that is not
// known.
type listed struct {
	files []schema.File
	err   error
}

// maxListed bounds the directories outside of the source's path that are looked into:
// each is read from the repository, and is kept.
const maxListed = 10_000

var errListed = fmt.Errorf("kustomizations name more than %d directories outside of the source's path", maxListed)

func byPath(f schema.File, name string) int { return strings.Compare(f.Path, name) }

// find is the file of that name.
func (f *files) find(name string) (schema.File, bool, error) {
	if i, ok := slices.BinarySearchFunc(f.tree, name, byPath); ok {
		return f.tree[i], true, nil
	}
	outside, err := f.listOutside(path.Dir(name))
	if err != nil {
		return schema.File{}, false, err
	}
	if i := slices.IndexFunc(outside, func(o schema.File) bool { return o.Path == name }); i >= 0 {
		f.outside.Use(outside[i])
		return outside[i], true, nil
	}
	return schema.File{}, false, nil
}

// isDir reports whether there are files in a directory.
func (f *files) isDir(name string) (bool, error) {
	if name == "." && len(f.tree) > 0 {
		return true, nil
	}
	i, _ := slices.BinarySearchFunc(f.tree, name+"/", byPath)
	if i < len(f.tree) && isBelow(f.tree[i].Path, name) {
		return true, nil
	}
	outside, err := f.listOutside(name)
	return len(outside) > 0, err
}

// kustomizations are those in a directory: one, unless something is wrong.
func (f *files) kustomizations(dir string) (out []schema.File, err error) {
	for _, base := range fileNames {
		file, ok, err := f.find(path.Join(dir, base))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, file)
		}
	}
	return out, nil
}

// listOutside are the files of a directory outside of the source's path.
func (f *files) listOutside(dir string) ([]schema.File, error) {
	if f.outside == nil {
		return nil, nil
	}
	known, ok := f.listed[dir]
	if !ok {
		if len(f.listed) >= maxListed {
			return nil, errListed
		}
		known.files, known.err = f.outside.Files(dir)
		f.listed[dir] = known
	}
	return known.files, known.err
}
