// Package dirfd answers which file a path names, once, for a caller that is root
// and looks into directories which containers change at the same time. A path
// that was checked and is used again may lead elsewhere by then; an open
// descriptor may not. So everything here resolves relative to a descriptor, in
// the kernel (openat2), and what is found is handed on as a descriptor. Linux 5.6
// or newer is needed. The node agent and its volumes call it; it knows nothing of
// pods.
package dirfd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// raceTries is how often a path is resolved anew that something was moved in
	// meanwhile: the kernel then cannot tell whether ".." stayed beneath. Who moves
	// things all the time gets an error, which costs himself a start.
	raceTries = 64
	// within is how a path is resolved in a directory that containers change.
	// Links are followed as long as they stay beneath the directory.
	within = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
	// exactly is for a path in which no link is expected.
	exactly = within | unix.RESOLVE_NO_SYMLINKS
)

// Dir is an open directory. Whatever becomes of the path it was opened by, its
// methods work in that directory. Paths are relative to it.
type Dir struct {
	file    *os.File
	resolve uint64
	// Between, if set, is called between any two steps of a method. Tests change
	// there what a container could change.
	Between func()
}

// Open opens a directory whose own path no container can change. Paths in it may
// lead through links that stay beneath it, and never out of it.
func Open(dir string) (*Dir, error) { return open(dir, within) }

// OpenHost opens the root directory. Paths in it are resolved as any program of
// the host would, links included.
func OpenHost() (*Dir, error) { return open("/", unix.RESOLVE_NO_MAGICLINKS) }

func open(dir string, resolve uint64) (*Dir, error) {
	f, err := openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, err
	}
	return &Dir{file: f, resolve: resolve}, nil
}

// In is the directory that f, of Find or Make, has open; f stays its caller's.
func In(f *os.File) *Dir { return &Dir{file: f, resolve: within} }

// Close gives the descriptor back.
func (d *Dir) Close() error { return d.file.Close() }

// Find opens what is at a path, of whatever type, to look at or to bind; it
// cannot be read from. fs.ErrNotExist if there is none. What is to be mounted there when
// it is used (autofs) is, and is what is opened.
func (d *Dir) Find(name string) (*os.File, error) {
	// Of what is opened as O_PATH alone nothing is mounted, except where a directory is
	// asked for.
	f, err := openat(d.fd(), name, unix.O_PATH|unix.O_DIRECTORY, 0, d.resolve)
	if errors.Is(err, unix.ENOTDIR) {
		return openat(d.fd(), name, unix.O_PATH, 0, d.resolve)
	}
	return f, err
}

// Make is Find, with the directories made that are missing, each with the
// permissions perm whatever the umask is.
func (d *Dir) Make(name string, perm os.FileMode) (*os.File, error) {
	name = path.Clean(name)
	f, err := d.Find(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	at, missing, err := d.deepest(name)
	for _, n := range missing {
		if err != nil {
			break
		}
		f, err = d.makeOne(at, n, perm)
		at.Close()
		at = f
	}
	if err != nil {
		return nil, err
	}
	return at, nil
}

// deepest opens the longest part of name that is there, and lists the rest.
func (d *Dir) deepest(name string) (at *os.File, missing []string, err error) {
	parts := strings.Split(name, "/")
	for have := len(parts) - 1; ; have-- {
		at, err = d.Find(path.Join(append([]string{"."}, parts[:have]...)...))
		if have == 0 || !errors.Is(err, fs.ErrNotExist) {
			return at, parts[have:], err
		}
	}
}

// makeOne makes a directory in an open one. Another may come first with the same
// name; what is opened then is a directory there all the same.
func (d *Dir) makeOne(in *os.File, name string, perm os.FileMode) (*os.File, error) {
	d.between()
	err := unix.Mkdirat(int(in.Fd()), name, uint32(perm.Perm()))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make directory %s: %w", name, err)
	}
	made := err == nil
	d.between()
	f, err := openat(int(in.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY, 0, exactly)
	if err != nil || !made {
		return f, err
	}
	if err := chmod(f, perm); err != nil {
		f.Close()
		return nil, fmt.Errorf("make directory %s: %w", name, err)
	}
	return f, nil
}

// chmod leaves the bit by which a directory hands on its group.
func chmod(f *os.File, perm os.FileMode) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return f.Chmod(info.Mode()&fs.ModeSetgid | perm.Perm())
}

// Create makes an empty file in a directory that is there. fs.ErrExist if there
// is something with its name, be it a link that leads nowhere.
func (d *Dir) Create(name string, perm os.FileMode) (*os.File, error) {
	in, err := d.Find(path.Dir(path.Clean(name)))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	d.between()
	return openat(int(in.Fd()), path.Base(name), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, uint64(perm.Perm()), exactly)
}

// Read opens a regular file for reading; no part of name may be a link.
func (d *Dir) Read(name string) (*os.File, error) {
	// What is no regular file must not be waited for.
	f, err := openat(d.fd(), name, unix.O_RDONLY|unix.O_NONBLOCK, 0, exactly)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *Dir) fd() int { return int(d.file.Fd()) }

func (d *Dir) between() {
	if d.Between != nil {
		d.Between()
	}
}

// openat is openat2(2); its errors tell what is wrong with the path.
func openat(dir int, name string, flags int, perm, resolve uint64) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Mode: perm, Resolve: resolve}
	fd, err := unix.Openat2(dir, name, how)
	for tries := 1; tries < raceTries && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)); tries++ {
		fd, err = unix.Openat2(dir, name, how)
	}
	switch {
	case err == nil:
		return os.NewFile(uintptr(fd), name), nil
	case errors.Is(err, unix.EXDEV):
		return nil, fmt.Errorf("%s leads out of its directory through a link: %w", name, err)
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%s is or leads through a link that must not be there: %w", name, err)
	case errors.Is(err, unix.ENOSYS):
		return nil, fmt.Errorf("open %s: %w (Linux 5.6 or newer is needed)", name, err)
	}
	return nil, fmt.Errorf("open %s: %w", name, err)
}
