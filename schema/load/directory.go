package load

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairlead/schema"
)

// Directory makes a Tree of the files below a directory on disk, or of one file.
// Paths are relative to that directory, or the file's. Symlinks are refused by
// name, dot-directories are left out. The error means that nothing could be
// read; the Tree then is no Tree.
func Directory(path string) (schema.Tree, error) {
	info, err := os.Stat(path)
	if err != nil {
		return schema.Tree{}, err
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return schema.Tree{}, fmt.Errorf("%s: neither a directory nor a regular file", path)
		}
		return schema.Tree{Files: []schema.File{onDisk(path, filepath.Base(path), info.Size())}}, nil
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return schema.Tree{}, err
	}
	var tree schema.Tree
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == root {
			return nil
		}
		return visit(&tree, root, name, entry)
	})
	if err != nil {
		return schema.Tree{}, fmt.Errorf("read tree: %w", err)
	}
	slices.SortFunc(tree.Files, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	return tree, nil
}

func visit(tree *schema.Tree, root, name string, entry fs.DirEntry) error {
	relative, err := filepath.Rel(root, name)
	if err != nil {
		return err
	}
	slashed := filepath.ToSlash(relative)
	switch {
	case entry.IsDir():
		if strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
	case entry.Type()&fs.ModeSymlink != 0:
		tree.Refused = append(tree.Refused, schema.Diagnostic{
			Position: schema.Position{Path: slashed}, Severity: schema.Error, Message: "a symlink, which is not followed", Hint: "write the file itself here",
		})
	case entry.Type().IsRegular():
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if len(tree.Files) == schema.MaxFiles {
			return fmt.Errorf("more than %d files", schema.MaxFiles)
		}
		tree.Files = append(tree.Files, onDisk(name, slashed, info.Size()))
	}
	return nil
}

func onDisk(name, slashed string, size int64) schema.File {
	return schema.File{Path: slashed, Blob: &schema.Blob{Size: size, Open: func() ([]byte, error) { return readBounded(name) }}}
}

// readBounded reads one byte more than is allowed, so that the caller sees a
// file that grew too large.
func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, schema.MaxFileSize+1))
}
