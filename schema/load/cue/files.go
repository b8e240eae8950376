package cue

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	cueload "cuelang.org/go/cue/load"

	"fairlead/schema/load/child"
)

// treeRoot is where CUE believes the tree to lie. There is no such directory:
// whatever CUE does not find among the tree's files it does not find at all.
const treeRoot = "/nonexistent/tree"

// fileSet is the tree's CUE files as the child sees them.
type fileSet struct {
	texts   map[string][]byte
	names   map[string][]string // of the files by directory, sorted
	overlay map[string]cueload.Source
}

func newFiles(files []child.File) *fileSet {
	f := &fileSet{texts: make(map[string][]byte), names: make(map[string][]string), overlay: make(map[string]cueload.Source)}
	for _, file := range files {
		if _, twice := f.texts[file.Path]; twice || !fs.ValidPath(file.Path) || file.Path == "." {
			continue
		}
		f.texts[file.Path] = file.Text
		f.overlay[path.Join(treeRoot, file.Path)] = cueload.FromBytes(file.Text)
		dir := path.Dir(file.Path)
		f.names[dir] = append(f.names[dir], path.Base(file.Path))
	}
	for _, names := range f.names {
		slices.Sort(names)
	}
	return f
}

// moduleRoot is the directory that imports of dir start from: the nearest one
// with a module file, or dir.
func (f *fileSet) moduleRoot(dir string) string {
	for at := dir; ; at = path.Dir(at) {
		if _, ok := f.texts[path.Join(at, moduleFile)]; ok {
			return at
		}
		if at == "." {
			return dir
		}
	}
}

const moduleFile = "cue.mod/module.cue"

// fromCUE is the tree's path for one that CUE uses.
func fromCUE(name string) string { return strings.TrimPrefix(name, treeRoot+"/") }

// manifests are the files of a directory that make its package. As with the cue
// command, names that begin with _ or end with _test or _tool do not.
func (f *fileSet) manifests(dir string) []string {
	var out []string
	for _, name := range f.names[dir] {
		if path.Ext(name) == ".cue" && name[0] != '_' && name[0] != '.' && !strings.HasSuffix(name, "_test.cue") && !strings.HasSuffix(name, "_tool.cue") {
			out = append(out, path.Join(dir, name))
		}
	}
	return out
}
