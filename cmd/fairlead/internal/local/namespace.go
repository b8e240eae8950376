package local

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ensurePins makes the directory that namespaces are pinned in a mount of its
// own without propagation: the kernel refuses to bind a mount namespace on a
// shared mount.
func ensurePins(c Cluster) error {
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		return fmt.Errorf("make run directory: %w", err)
	}
	if !isMountPoint(c.RunDir) {
		if err := unix.Mount(c.RunDir, c.RunDir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s on itself: %w", c.RunDir, err)
		}
	}
	if err := unix.Mount("", c.RunDir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make %s private: %w", c.RunDir, err)
	}
	return nil
}

// ensureNamespaces makes and pins the node's network and mount namespaces
// where they are not pinned already. It reports whether it had to: processes
// of earlier namespaces then have to go.
func (n Node) ensureNamespaces() (made bool, err error) {
	for _, pin := range []struct {
		file string
		make func(file string) error
	}{{n.NetNS, pinNetwork}, {n.MntNS, func(file string) error { return pinMounts(n, file) }}} {
		if isFilesystem(pin.file, unix.NSFS_MAGIC) {
			continue
		}
		if err := makePinFile(pin.file); err != nil {
			return made, fmt.Errorf("node %s: pin namespace: %w", n.Name, err)
		}
		if err := pin.make(pin.file); err != nil {
			return made, fmt.Errorf("node %s: pin namespace: %w", n.Name, err)
		}
		made = true
	}
	return made, nil
}

func makePinFile(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o400)
	if err != nil {
		return err
	}
	return f.Close()
}

func pinNetwork(file string) error {
	return onFreshThread(func() error {
		// CLONE_NEWNET does not touch mounts: the bind lands in the host's.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		return unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, "")
	})
}

// pinMounts binds the namespace from outside, while a thread inside waits: the
// pin must stand in the host's mounts, not in the new ones.
func pinMounts(n Node, file string) error {
	inside, pinned := make(chan int), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- onFreshThread(func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("new mount namespace: %w", err)
			}
			if err := arrangeMounts(n); err != nil {
				return err
			}
			inside <- unix.Gettid()
			<-pinned
			return nil
		})
	}()
	select {
	case err := <-done:
		return err
	case tid := <-inside:
		err := unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/mnt", tid), file, "", unix.MS_BIND, "")
		close(pinned)
		<-done
		return err
	}
}

// arrangeMounts gives the calling thread's mount namespace what a node has of
// its own: nothing it mounts shows on the host, no mount of the host's
// containers is held busy, and /run and /dev/shm, where Podman keeps its locks
// and its idea of the boot, start empty.
func arrangeMounts(n Node) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	mounts, err := mountPoints()
	if err != nil {
		return err
	}
	slices.Reverse(mounts) // the last mounted first
	for _, m := range mounts {
		if below(m, "/run") || below(m, "/dev/shm") || below(m, "/var/lib/containers") {
			_ = unix.Unmount(m, unix.MNT_DETACH) // stays visible at worst
		}
	}
	for _, t := range []struct{ path, options string }{{"/run", "mode=755"}, {"/dev/shm", "mode=1777"}} {
		if err := unix.Mount("tmpfs", t.path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, t.options); err != nil {
			return fmt.Errorf("mount %s: %w", t.path, err)
		}
	}
	for _, dir := range []string{"/run/lock", "/run/fairlead"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return placeResolvConf(filepath.Join(n.Dir, "resolv.conf"))
}

// placeResolvConf shows the prepared file as /etc/resolv.conf. A link into
// /run, as systemd-resolved makes, now dangles: its target is written.
func placeResolvConf(prepared string) error {
	target, err := os.Readlink("/etc/resolv.conf")
	if err == nil {
		if !filepath.IsAbs(target) {
			target = filepath.Join("/etc", target)
		}
		if below(target, "/run") || below(target, "/var/run") {
			data, err := os.ReadFile(prepared)
			if err != nil {
				return fmt.Errorf("place resolv.conf: %w", err)
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return fmt.Errorf("place resolv.conf: %w", err)
			}
			return os.WriteFile(target, data, 0o644)
		}
	}
	if _, err := os.Stat("/etc/resolv.conf"); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := unix.Mount(prepared, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("place resolv.conf: %w", err)
	}
	return nil
}

// resolvConf is a host's resolv.conf as a node can use it: without name
// servers on loopback, which the node's own loopback does not have. fallback
// is asked when that leaves none (systemd-resolved keeps the real ones beside).
func resolvConf(host, fallback []byte) []byte {
	usable, servers := withoutLoopback(host)
	if servers == 0 {
		if better, n := withoutLoopback(fallback); n > 0 {
			return better
		}
	}
	return usable
}

func withoutLoopback(conf []byte) (out []byte, servers int) {
	for line := range strings.Lines(string(conf)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "nameserver" {
			if ip, err := netip.ParseAddr(fields[1]); err == nil && ip.IsLoopback() {
				continue
			}
			servers++
		}
		out = append(out, line...)
	}
	return out, servers
}

// enter moves the calling thread into the node's namespaces. The thread must
// be thrown away afterwards.
func (n Node) enter() error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter node %s: %w", n.Name, err)
	}
	// The network first: its pin is not visible from inside.
	for _, ns := range []struct {
		file string
		kind int
	}{{n.NetNS, unix.CLONE_NEWNET}, {n.MntNS, unix.CLONE_NEWNS}} {
		if err := setns(ns.file, ns.kind); err != nil {
			return fmt.Errorf("enter node %s: %w", n.Name, err)
		}
	}
	return nil
}

func setns(file string, kind int) error {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, kind); err != nil {
		return fmt.Errorf("join %s: %w", file, err)
	}
	return nil
}

// Enter runs f on a thread inside the node's namespaces: what f opens, dials
// and starts belongs to the node.
func (n Node) Enter(f func() error) error {
	return onFreshThread(func() error {
		if err := n.enter(); err != nil {
			return err
		}
		return f()
	})
}

// inNetwork runs f on a thread inside the node's network namespace alone.
func (n Node) inNetwork(f func() error) error {
	return onFreshThread(func() error {
		if err := setns(n.NetNS, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// members returns the processes that live in the node's pinned namespaces,
// whatever their cgroup.
func (n Node) members() []Process {
	pins := make(map[string]uint64)
	for kind, file := range map[string]string{"net": n.NetNS, "mnt": n.MntNS} {
		var st unix.Stat_t
		if isFilesystem(file, unix.NSFS_MAGIC) && unix.Stat(file, &st) == nil {
			pins[kind] = st.Ino
		}
	}
	found := make(map[int]bool)
	if len(pins) == 0 {
		return nil
	}
	for _, pid := range allPIDs() {
		for kind, inode := range pins {
			var st unix.Stat_t
			if unix.Stat(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), &st) == nil && st.Ino == inode {
				found[pid] = true
			}
		}
	}
	return living(found)
}

// removePins unmounts everything below the run directory and removes it.
func removePins(c Cluster) error {
	mounts, err := mountPoints()
	if err != nil {
		return err
	}
	slices.Reverse(mounts)
	for _, m := range mounts {
		if below(m, c.RunDir) {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", m, err)
			}
		}
	}
	return os.RemoveAll(c.RunDir)
}

// below reports whether path is dir or inside it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

func isMountPoint(path string) bool {
	mounts, err := mountPoints()
	return err == nil && slices.Contains(mounts, path)
}

// mountPoints lists the calling thread's mounts in the order of mountinfo,
// proc_pid_mountinfo(5): parents before what is mounted on them.
func mountPoints() ([]string, error) {
	data, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var out []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			out = append(out, unescapeMount.Replace(fields[4]))
		}
	}
	return out, lines.Err()
}

var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
