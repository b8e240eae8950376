package dirfd

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Of linux/auto_fs.h: a request to mount, and what answers it.
const (
	autofsReady   = 0x9360 // AUTOFS_IOC_READY
	autofsDirect  = 5      // autofs_ptype_missing_direct
	autofsPacket  = 304    // sizeof(struct autofs_v5_packet)
	findInEnv     = "DIRFD_FIND"
	automountTime = time.Minute // for a process on a busy machine
)

// findAndTell is the process that opens a directory: who is in the process group of
// whoever mounts would see it as it is.
func findAndTell(path string) {
	host, err := OpenHost()
	if err == nil {
		var f *os.File
		if f, err = host.Find(path); err == nil {
			_, err = os.Stat(fmt.Sprintf("/proc/self/fd/%d/inside", f.Fd()))
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// What is mounted when it is used is mounted when a volume shows it, not an empty
// directory shown.
func TestFindMountsWhatIsMountedOnUse(t *testing.T) {
	runtime.LockOSThread() // and never let go: the thread's mounts end with it
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	requests, kernels, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer requests.Close()
	dir := filepath.Join(t.TempDir(), "auto")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", kernels.Fd(), unix.Getpgrp())
	if err := unix.Mount("auto", dir, "autofs", 0, options); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	kernels.Close()
	control, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()

	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), findInEnv+"="+dir)
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	child.Stdout = os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- child.Wait()
		requests.SetReadDeadline(time.Now()) // nothing more is asked for
	}()
	requests.SetReadDeadline(time.Now().Add(automountTime))
	packet := make([]byte, autofsPacket)
	if _, err := requests.Read(packet); err != nil {
		t.Errorf("nothing was asked for: %v", err)
	} else if kind := binary.NativeEndian.Uint32(packet[4:]); kind != autofsDirect {
		t.Errorf("a request of type %d", kind)
	} else {
		answer(t, dir, control, int(binary.NativeEndian.Uint32(packet[8:])))
	}
	if err := <-ended; err != nil {
		t.Errorf("what is mounted was not opened: %v", err)
	}
}

// answer mounts what was asked for, which has a file "inside".
func answer(t *testing.T, dir string, control *os.File, token int) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "inside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetInt(int(control.Fd()), autofsReady, token); err != nil {
		t.Fatal(err)
	}
}
