package dirfd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxStacked bounds how often one place is unmounted: a crash can leave it
// mounted over once or twice, never deeper.
const maxStacked = 8

// Bind mounts what f has open, with all that is mounted below it, at target, a
// path that no container can change and where nothing is yet.
func Bind(f *os.File, target string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("bind %s: %w", target, err)
	}
	if info.IsDir() {
		err = os.Mkdir(target, 0o700)
	} else {
		err = os.WriteFile(target, nil, 0o600)
	}
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	tree, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("bind %s: %w", target, err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %s: %w", target, err)
	}
	return nil
}

// Unmount takes off whatever is mounted at a path that no container can change,
// with all that is mounted in it; nothing is no error. Other places that show
// the same keep it.
func Unmount(target string) error {
	for range maxStacked {
		// Else what goes here would go where it was bound from, too.
		err := unix.Mount("", target, "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Unmount(target, unix.MNT_DETACH)
		}
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist): // nothing is mounted
			return nil
		case err != nil:
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	return fmt.Errorf("unmount %s: mounted over more than %d times", target, maxStacked)
}

// unmountAt unmounts what is mounted on an entry of an open directory.
func unmountAt(dir *os.File, name string) error {
	f, err := openat(int(dir.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW, 0, exactly)
	if err != nil {
		return err
	}
	defer f.Close()
	return Unmount("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
}
