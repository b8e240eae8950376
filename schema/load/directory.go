package load

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

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
	if err == nil {
		err = measure(tree.Files, root)
	}
	if err != nil {
		return schema.Tree{}, fmt.Errorf("read tree: %w", err)
	}
	slices.SortFunc(tree.Files, func(a, b schema.File) int { return strings.Compare(a.Path, b.Path) })
	return tree, nil
}

func visit(tree *schema.Tree, root, name string, entry fs.DirEntry) error {
	slashed := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(name, root), string(filepath.Separator)))
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
		if len(tree.Files) == schema.MaxFiles {
			return fmt.Errorf("more than %d files", schema.MaxFiles)
		}
		tree.Files = append(tree.Files, schema.File{Path: slashed})
	}
	return nil
}

// measure finds out how large the files below root are; the error is that of the
// first that cannot be asked.
func measure(files []schema.File, root string) error {
	problems := make([]error, (len(files)+filesPerJob-1)/filesPerJob)
	inParallel(context.Background(), len(problems), func(job int) {
		for i := job * filesPerJob; i < min(len(files), (job+1)*filesPerJob) && problems[job] == nil; i++ {
			name := filepath.Join(root, filepath.FromSlash(files[i].Path))
			info, err := os.Lstat(name)
			if err != nil {
				problems[job] = err
				return
			}
			files[i] = onDisk(name, files[i].Path, info.Size())
		}
	})
	return cmp.Or(problems...)
}

// filesPerJob is how many files a worker asks for at a time.
const filesPerJob = 64

func onDisk(name, slashed string, size int64) schema.File {
	return schema.File{Path: slashed, Blob: &schema.Blob{Size: size, Open: func() ([]byte, error) { return readBounded(name, size) }}}
}

// readBounded reads a file that had so many bytes when it was found. It reads one
// byte more than is allowed, so that the caller sees one that grew too large. It
// asks the kernel itself: an os.File, which could wait for more than a disk, takes
// three times as many calls and most of the time that reading a small file takes.
func readBounded(name string, size int64) ([]byte, error) {
	fd, err := untilDone(func() (int, error) { return syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	defer syscall.Close(fd)
	const limit = schema.MaxFileSize + 1
	text := make([]byte, 0, min(size, schema.MaxFileSize)+1)
	for len(text) < limit {
		if len(text) == cap(text) {
			text = slices.Grow(text, len(text))
		}
		n, err := untilDone(func() (int, error) { return syscall.Read(fd, text[len(text):min(cap(text), limit)]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
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
