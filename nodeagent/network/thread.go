package network

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// onDiscardedThread runs f on an operating system thread that ends with it, so
// that f may leave the thread in any namespace.
func onDiscardedThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The process's first thread cannot end, and /proc/self shows its
			// namespaces as the process's. Held here, it cannot be picked again.
			done <- onDiscardedThread(f)
			runtime.UnlockOSThread()
			return
		}
		done <- f() // never unlocked: the runtime ends the thread
	}()
	return <-done
}
