package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent/dirfd"
	"fairlead/nodeagent/podman"
	"fairlead/nodeagent/proxy"
)

// probeTimeout bounds each program asked for its version.
const probeTimeout = 10 * time.Second

// conmonPlaces is where distributions put it beside the PATH.
var conmonPlaces = []string{"/usr/libexec/podman/conmon", "/usr/lib/podman/conmon", "/usr/local/libexec/podman/conmon"}

// Examine looks at the host, of which dir is to hold what is kept and runtime is the
// OCI runtime that is configured, "" for none. It changes nothing: features are tried
// in namespaces that vanish with the attempt.
func Examine(dir, runtime string) Facts {
	f := Facts{
		Root:         os.Geteuid() == 0,
		Cgroups:      cgroupMode(),
		CgroupsFail:  failure(tryCgroups()),
		Storage:      nearest(dir),
		Runtime:      runtime,
		SysResource:  hasCapability(unix.CAP_SYS_RESOURCE),
		OpenFiles:    hardLimit(unix.RLIMIT_NOFILE),
		Threads:      hardLimit(unix.RLIMIT_NPROC),
		Programs:     make(map[string]Program),
		Forwarding:   isOne(forwardFile),
		BridgeFilter: isOne("/proc/sys/net/bridge/bridge-nf-call-iptables"),
		TakenSlots:   takenSlots(),
		FreeSlot:     freeSlot(),
	}
	f.Routes, _ = hostRoutes() // none readable: no clash to report
	for _, name := range []string{"podman", "conmon", "nft", "git"} {
		f.Programs[name] = lookAt(name, exec.LookPath)
	}
	for _, name := range []string{"runc", "crun", runtime} {
		if name != "" {
			f.Programs[name] = lookAt(name, podman.FindRuntime)
		}
	}
	f.StorageFail = failure(tryStorage(f.Storage))
	for _, try := range f.trials() {
		f.Features = append(f.Features, Feature{Name: try.name, Failure: failure(onFreshThread(try.try))})
	}
	return f
}

// trial tries a feature of the kernel.
type trial struct {
	name string
	try  func() error
}

// trials are those that say something of the kernel: two need a directory that takes
// files.
func (f Facts) trials() []trial {
	out := []trial{
		{"network and mount namespaces", func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWNET) }},
		{"veth", func() error { return tryLink(&netlink.Veth{LinkAttrs: named("fl-try0"), PeerName: "fl-try1"}) }},
		{"bridge", func() error { return tryLink(&netlink.Bridge{LinkAttrs: named("fl-try0")}) }},
		{"nf_tables", tryTables},
	}
	if f.StorageFail != "" {
		return out
	}
	return append(out,
		trial{"overlay", func() error { return tryOverlay(f.Storage) }},
		trial{"openat2", func() error { return tryDescriptors(f.Storage) }})
}

func failure(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// nearest is dir, or the directory nearest above it that is there.
func nearest(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// storageTried is how much is written to see whether a directory takes anything.
const storageTried = 64 << 10

func tryStorage(dir string) error {
	f, err := os.CreateTemp(dir, ".fairlead-try-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, storageTried))
	return errors.Join(err, f.Close())
}

// neededHierarchies are those of cgroups v1 in which each container has one.
var neededHierarchies = []string{"cpu", "cpu,cpuacct", "memory", "pids"}

// tryCgroups makes a cgroup wherever a container needs one.
func tryCgroups() error {
	for _, root := range hierarchies() {
		if root != cgroupRoot && !slices.Contains(neededHierarchies, filepath.Base(root)) {
			continue
		}
		dir, err := os.MkdirTemp(root, "fairlead-try-")
		if err != nil {
			return err
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}

func named(name string) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return attrs
}

func tryLink(link netlink.Link) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	return netlink.LinkAdd(link)
}

// tryTables does what an agent does, which needs no program for it.
func tryTables() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	p, err := proxy.Open()
	if err != nil {
		return err
	}
	defer p.Close()
	pods := netip.MustParsePrefix(podRange)
	_, err = p.Set(proxy.Table{Node: "try", NodeIP: pods.Addr().Next(), PodCIDR: pods, ClusterPodCIDR: pods})
	return err
}

// scratch makes a directory in a mount namespace of the thread's own.
func scratch(below string) (dir string, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", err
	}
	return os.MkdirTemp(below, ".fairlead-try-")
}

func tryOverlay(below string) error {
	dir, err := scratch(below)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(at(name), 0o700); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work"))
	if err := unix.Mount("overlay", at("merged"), "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay in %s: %w", below, err)
	}
	return unix.Unmount(at("merged"), 0)
}

// tryDescriptors does what keeps containers from leading the agent elsewhere.
func tryDescriptors(below string) error {
	dir, err := scratch(below)
	if err != nil {
		return err
	}
	defer dirfd.RemoveAll(dir)
	d, err := dirfd.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	f, err := d.Make("from", 0o700)
	if err != nil {
		return err
	}
	defer f.Close()
	return dirfd.Bind(f, filepath.Join(dir, "to"))
}

func lookAt(name string, find func(string) (string, error)) Program {
	path, err := find(name)
	if err != nil && name == "conmon" {
		for _, place := range conmonPlaces {
			if _, statErr := os.Stat(place); statErr == nil {
				path, err = place, nil
				break
			}
		}
	}
	if err != nil {
		return Program{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, "--version").Output()
	return Program{Path: path, Version: versionIn(string(out))}
}

// versionIn finds the version in a program's first line: its first word that
// begins with a digit, or with v and a digit.
func versionIn(output string) string {
	line, _, _ := strings.Cut(output, "\n")
	for word := range strings.FieldsSeq(line) {
		if v := strings.TrimPrefix(word, "v"); v != "" && v[0] >= '0' && v[0] <= '9' {
			return v
		}
	}
	return ""
}

func hasCapability(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

func hardLimit(resource int) uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(resource, &limit); err != nil {
		return 0
	}
	return limit.Max
}

func isOne(file string) bool {
	data, err := os.ReadFile(file)
	return err == nil && bytes.Equal(bytes.TrimSpace(data), []byte("1"))
}
