package dirfd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// removeBatch is how many names are held at once.
	removeBatch = 1024
	// removeTries is how often a directory is emptied that is found filled again.
	removeTries = 8
)

// RemoveAll removes what is at a path whose directory no container can change;
// nothing is no error. It follows no link, enters no mount (what is mounted
// inside is unmounted and so kept), and holds two descriptors however deep the
// directories are that a container has made.
func RemoveAll(name string) error { return (&remover{}).removeAll(name) }

func (r *remover) removeAll(name string) error {
	parent, err := openat(unix.AT_FDCWD, filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0, unix.RESOLVE_NO_MAGICLINKS)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	defer parent.Close()
	base := filepath.Base(name)
	for range removeTries {
		if r.top, err = r.unlinkOrOpen(parent, base); err != nil || r.top == nil {
			break
		}
		err = r.empty()
		r.top.Close()
		if err != nil {
			break
		}
		if err = unix.Unlinkat(int(parent.Fd()), base, unix.AT_REMOVEDIR); err == nil || !errors.Is(err, unix.ENOTEMPTY) {
			break
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// remover empties a directory. Directories in it that are not empty themselves
// it moves up into top, under the numbers from first to next, and empties them
// one by one: so no depth costs descriptors or memory.
type remover struct {
	top         *os.File
	first, next uint64
	between     func() // of tests: called between a look and what follows on it
}

func (r *remover) empty() error {
	if err := each(r.top, func(name string) error { return r.remove(r.top, name) }); err != nil {
		return err
	}
	for ; r.first < r.next; r.first++ {
		if err := r.remove(r.top, number(r.first)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes an entry of top.
func (r *remover) remove(in *os.File, name string) error {
	for range removeTries {
		dir, err := r.unlinkOrOpen(in, name)
		if err != nil || dir == nil {
			return err
		}
		err = each(dir, func(n string) error { return r.lift(dir, n) })
		dir.Close()
		if err != nil {
			return err
		}
		err = unix.Unlinkat(int(in.Fd()), name, unix.AT_REMOVEDIR)
		if !errors.Is(err, unix.ENOTEMPTY) {
			return gone(err)
		}
	}
	return fmt.Errorf("%s: %w", name, unix.ENOTEMPTY)
}

// lift removes an entry of a directory in top or, if it is a directory that is
// not empty, moves it into top.
func (r *remover) lift(in *os.File, name string) error {
	dir, err := r.unlinkOrOpen(in, name)
	if err != nil || dir == nil {
		return err
	}
	dir.Close()
	for {
		err := unix.Unlinkat(int(in.Fd()), name, unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) {
			err = unix.Renameat2(int(in.Fd()), name, int(r.top.Fd()), number(r.next), unix.RENAME_NOREPLACE)
			r.next++
		}
		if !errors.Is(err, fs.ErrExist) { // else what has this number goes with its turn
			return gone(err)
		}
	}
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// unlinkOrOpen removes an entry, or opens it if it is a directory, after taking
// off what is mounted on it.
func (r *remover) unlinkOrOpen(in *os.File, name string) (*os.File, error) {
	for range maxStacked {
		err := unix.Unlinkat(int(in.Fd()), name, 0)
		if r.between != nil {
			r.between()
		}
		if errors.Is(err, unix.EISDIR) {
			var dir *os.File
			dir, err = openat(int(in.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0, exactly|unix.RESOLVE_NO_XDEV)
			if err == nil {
				return dir, nil
			}
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EXDEV) {
			return nil, gone(err)
		}
		if err := unmountAt(in, name); err != nil {
			return nil, gone(err)
		}
	}
	return nil, fmt.Errorf("%s: %w", name, unix.EBUSY)
}

// gone takes what is not there any more for removed.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// each calls f for the names in a directory. Those that come meanwhile may be
// left out.
func each(dir *os.File, f func(name string) error) error {
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		names, err := dir.Readdirnames(removeBatch)
		for _, n := range names {
			if err := f(n); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
