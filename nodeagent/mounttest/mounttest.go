// Package mounttest keeps what tests mount away from the machine. A test that is
// killed unmounts nothing: what it mounted where everybody sees it stays, and
// nobody can remove the directory beneath.
package mounttest

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownMark says to the program that it has its own mounts already, and to the
// programs it starts that they have them too.
const ownMark = "FAIRLEAD_TEST_OWN_MOUNTS"

// Own gives this process a mount namespace of its own, which goes with its last
// process, however that ends. TestMain calls it first: a namespace belongs to a
// thread, so the program starts again from the beginning in the thread that has it.
// It is the same process then, with the same arguments and descriptors. Where that
// cannot be, as for want of rights, it panics.
func Own() {
	if os.Getenv(ownMark) != "" {
		return
	}
	panic(startAgain())
}

// startAgain returns only on an error.
func startAgain() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("take a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts from the machine: %w", err)
	}
	return fmt.Errorf("start again: %w", unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), ownMark+"=1")))
}
