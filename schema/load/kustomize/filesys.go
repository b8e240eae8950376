package kustomize

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// treeRoot is where kustomize believes the tree to lie. There is no such directory:
// whatever it does not find among the unit's files it does not find at all.
const treeRoot = "/nonexistent/tree"

// readOnly is a unit's files as kustomize sees them.
type readOnly struct {
	texts map[string][]byte
	names map[string][]string // in each directory
}

func newReadOnly(texts map[string][]byte) *readOnly {
	f := &readOnly{texts: make(map[string][]byte), names: make(map[string][]string)}
	for name, text := range texts {
		full := path.Join(treeRoot, name)
		f.texts[full] = text
		for full != "/" {
			dir, known := path.Dir(full), f.names[path.Dir(full)] != nil
			f.names[dir] = append(f.names[dir], path.Base(full))
			if known {
				break
			}
			full = dir
		}
	}
	return f
}

var errReadOnly = errors.New("nothing is written here")

func absent(name string) error {
	return &fs.PathError{Op: "open", Path: strings.TrimPrefix(name, treeRoot+"/"), Err: fs.ErrNotExist}
}

// Create implements filesys.FileSystem.
func (f *readOnly) Create(string) (filesys.File, error) { return nil, errReadOnly }

// Mkdir implements filesys.FileSystem.
func (f *readOnly) Mkdir(string) error { return errReadOnly }

// MkdirAll implements filesys.FileSystem.
func (f *readOnly) MkdirAll(string) error { return errReadOnly }

// RemoveAll implements filesys.FileSystem.
func (f *readOnly) RemoveAll(string) error { return errReadOnly }

// WriteFile implements filesys.FileSystem.
func (f *readOnly) WriteFile(string, []byte) error { return errReadOnly }

// Open implements filesys.FileSystem; kustomize reads whole files only.
func (f *readOnly) Open(name string) (filesys.File, error) { return nil, absent(name) }

// Glob implements filesys.FileSystem; nothing that kustomize builds has any.
func (f *readOnly) Glob(string) ([]string, error) { return nil, nil }

// Walk implements filesys.FileSystem; building walks none.
func (f *readOnly) Walk(name string, _ filepath.WalkFunc) error { return absent(name) }

// IsDir implements filesys.FileSystem.
func (f *readOnly) IsDir(name string) bool { return f.names[path.Clean(name)] != nil }

// ReadDir implements filesys.FileSystem.
func (f *readOnly) ReadDir(name string) ([]string, error) {
	names := f.names[path.Clean(name)]
	if names == nil {
		return nil, absent(name)
	}
	return names, nil
}

// Exists implements filesys.FileSystem.
func (f *readOnly) Exists(name string) bool {
	_, ok := f.texts[path.Clean(name)]
	return ok || f.IsDir(name)
}

// CleanedAbs implements filesys.FileSystem.
func (f *readOnly) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	name = path.Clean(name)
	if f.IsDir(name) {
		return filesys.ConfirmedDir(name), "", nil
	}
	if _, ok := f.texts[name]; ok {
		return filesys.ConfirmedDir(path.Dir(name)), path.Base(name), nil
	}
	return "", "", fmt.Errorf("%s: %w", strings.TrimPrefix(name, treeRoot+"/"), os.ErrNotExist)
}

// ReadFile implements filesys.FileSystem.
func (f *readOnly) ReadFile(name string) ([]byte, error) {
	if text, ok := f.texts[path.Clean(name)]; ok {
		return append([]byte(nil), text...), nil
	}
	return nil, absent(name)
}
