package load

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"fairlead/schema"
)

// Directory makes a Tree of the files below a directory on disk, or of one file.
// Paths are relative to that directory, or the file's. What Git could not hold, or
// would be refused in Git, is refused here by the same rules; dot-directories are
// left out. The error means that nothing could be
// read; the Tree then is no Tree.
func Directory(path string) (schema.Tree, error) {
	return DirectoryOf(path, func(string) bool { return true })
}

// DirectoryOf is Directory without the directories that are not wanted, which are not
// even opened. They are named with slashes, relative to path.
func DirectoryOf(path string, wants func(dir string) bool) (schema.Tree, error) {
	info, err := os.Stat(path)
	if err != nil {
		return schema.Tree{}, err
	}
	if !info.IsDir() {
		if !info.Mode().IsRegular() {
			return schema.Tree{}, fmt.Errorf("%s: neither a directory nor a regular file", path)
		}
		return schema.Tree{Files: []schema.File{onDisk(path, filepath.Base(path), info)}}, nil
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return schema.Tree{}, err
	}
	var tree schema.Tree
	above := aboveNames(root)
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name == root {
			return nil
		}
		below := strings.TrimPrefix(name, above)
		if entry.IsDir() && !wants(filepath.ToSlash(below)) {
			return filepath.SkipDir
		}
		return visit(&tree, below, name, entry)
	})
	if err != nil {
		return schema.Tree{}, fmt.Errorf("read tree: %w", err)
	}
	slices.SortFunc(tree.Files, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	return tree, nil
}

// Listing is one directory on disk, as DirectoryOf reads it, without what is in those
// below it.
func Listing(dir string) (schema.Tree, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return schema.Tree{}, err
	}
	if len(entries) > schema.MaxFiles {
		return schema.Tree{}, fmt.Errorf("more than %d files", schema.MaxFiles)
	}
	var tree schema.Tree
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		if err := visit(&tree, entry.Name(), filepath.Join(dir, entry.Name()), entry); err != nil && !errors.Is(err, filepath.SkipDir) {
			return schema.Tree{}, err
		}
	}
	return tree, nil
}

// aboveNames is what stands before the names that a walk of root finds. A walk of
// "." names files without it: there a leading dot is the file's own.
func aboveNames(root string) string {
	separator := string(filepath.Separator)
	switch {
	case root == ".":
		return ""
	case strings.HasSuffix(root, separator): // of the file system
		return root
	}
	return root + separator
}

// visit takes in what stands at a name on disk and below the tree's root.
func visit(tree *schema.Tree, below, name string, entry fs.DirEntry) error {
	slashed := filepath.ToSlash(below)
	above := strings.TrimSuffix(strings.TrimSuffix(slashed, entry.Name()), "/")
	switch {
	case entry.Name() == ".git":
		if above != "" {
			tree.Refused = append(tree.Refused, *schema.SubmoduleRefusal(above))
		}
		return skipped(entry)
	case entry.IsDir() && strings.HasPrefix(entry.Name(), "."):
		return filepath.SkipDir
	}
	if fault := schema.NameFault(above, entry.Name()); fault != nil {
		tree.Faults = append(tree.Faults, *fault)
		return skipped(entry)
	}
	switch {
	case entry.IsDir():
	case entry.Type()&fs.ModeSymlink != 0:
		tree.Refused = append(tree.Refused, *schema.LinkRefusal(slashed))
	case !entry.Type().IsRegular():
		if schema.IsManifest(name) {
			tree.Refused = append(tree.Refused, schema.Diagnostic{
				Position: schema.Position{Path: slashed}, Severity: schema.Error, Message: "neither a file nor a directory, which git does not take", Hint: "write a file here",
			})
		}
	default:
		return addFile(tree, name, slashed, entry)
	}
	return nil
}

// skipped passes over an entry with all below it.
func skipped(entry fs.DirEntry) error {
	if entry.IsDir() {
		return filepath.SkipDir
	}
	return nil
}

func addFile(tree *schema.Tree, name, slashed string, entry fs.DirEntry) error {
	if refusal := schema.NameRefusal(slashed); refusal != nil {
		tree.Refused = append(tree.Refused, *refusal)
		return nil
	}
	if len(tree.Files) == schema.MaxFiles {
		return fmt.Errorf("more than %d files", schema.MaxFiles)
	}
	var info fs.FileInfo
	if filepath.Ext(name) == ".cue" {
		var err error
		if info, err = entry.Info(); err != nil {
			return err
		}
	}
	tree.Files = append(tree.Files, onDisk(name, slashed, info))
	return nil
}

// onDisk is a file that is read when it is opened. Without info its size is not
// known before: asking for it takes as long as reading a small file.
func onDisk(name, slashed string, info fs.FileInfo) schema.File {
	size := int64(schema.UnknownSize)
	if info != nil {
		size = info.Size()
	}
	return schema.File{Path: slashed, Blob: &schema.Blob{Size: size, Open: func() ([]byte, error) { return readBounded(name) }}}
}

// readBuffers are of smallFile bytes, which most files fit into.
var readBuffers = sync.Pool{New: func() any { return new([smallFile]byte) }}

const smallFile = 64 << 10

// readBounded reads a file, one byte more than is allowed if it has them, so that
// the caller sees one that is too large. It asks the kernel itself: an os.File,
// which could wait for more than a disk, takes three times as many calls and most
// of the time that reading a small file takes.
func readBounded(name string) ([]byte, error) {
	fd, err := untilDone(func() (int, error) { return syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer syscall.Close(fd)
	buffer := readBuffers.Get().(*[smallFile]byte)
	defer readBuffers.Put(buffer)
	const limit = schema.MaxFileSize + 1
	text := buffer[:0]
	for len(text) < limit {
		if len(text) == cap(text) {
			var info syscall.Stat_t
			if err := syscall.Fstat(fd, &info); err != nil {
				return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
			}
			text = slices.Grow(text, max(int(min(info.Size, schema.MaxFileSize))+1-len(text), len(text)))
		}
		free := text[len(text):min(cap(text), limit)]
		n, err := untilDone(func() (int, error) { return syscall.Read(fd, free) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
	}
	if len(text) <= smallFile {
		text = slices.Clone(text) // the buffer serves others
	}
	return text, nil
}

// untilDone calls again what a signal interrupted.
func untilDone(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return n, err
		}
	}
}
