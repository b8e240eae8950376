package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/client"
)

const (
	// supervisorGrace is short: on SIGTERM it only returns.
	supervisorGrace = 3 * time.Second
	// containerGrace is what containers get between SIGTERM and SIGKILL: `down`
	// switches the machine off rather than draining it.
	containerGrace = 2 * time.Second
	// sweepTimeout bounds the hunt for what is left.
	sweepTimeout = 20 * time.Second
	// cgroupTimeout bounds how long the kernel may take to let go of cgroups
	// whose last process has ended.
	cgroupTimeout = 10 * time.Second
)

// Down takes a cluster off this machine: processes, containers, namespaces,
// links, nft table, mounts, cgroups. Data stay unless purge is set. It works
// on whatever is left of a cluster, also of one that died halfway up, and a
// second time does nothing. progress is called with what is being done.
func Down(dir string, purge bool, progress func(string)) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		held, err := lockDir(dir)
		if err != nil {
			return err
		}
		defer held.Close()
	}
	c, found, err := findCluster(dir)
	if err != nil {
		return err
	}
	if found {
		if err := c.stopAll(progress); err != nil {
			return err
		}
		if err := c.removeAll(progress); err != nil {
			return err
		}
	} else {
		progress("no cluster in " + dir)
	}
	if purge {
		progress("removing " + dir)
		return os.RemoveAll(dir)
	}
	return nil
}

// findCluster trusts the directory first and the held slot second.
func findCluster(dir string) (c Cluster, found bool, err error) {
	c, err = Open(dir)
	if err == nil {
		if owner := slotOwner(c.Settings.Slot); owner != "" && owner != dir {
			return c, false, nil // the slot went to another cluster since
		}
		return c, true, nil
	}
	if !errors.Is(err, ErrNoCluster) {
		return c, false, err
	}
	c, found = findHeld(dir)
	return c, found, nil
}

// stopAll ends every process of the cluster: the supervisor first, since it
// would start the others again, then daemons in their own time, then all that
// is left in the cluster's namespaces and cgroups.
func (c Cluster) stopAll(progress func(string)) error {
	progress("stopping the supervisor")
	// Found by cgroup too: it may have died, or be killed, before it wrote.
	for _, p := range append(cgroupMembers(c.supervisorCgroup()), readState(c).Supervisor) {
		if err := p.stop(supervisorGrace); err != nil {
			return err
		}
	}
	progress("stopping agents and master")
	if err := stopTogether(readState(c).Children); err != nil {
		return err
	}
	progress("stopping containers")
	return c.sweep()
}

func stopTogether(children map[string]ChildState) error {
	errs := make(chan error, len(children))
	var stopping sync.WaitGroup
	for _, child := range children {
		if p := child.process(); p.alive() {
			stopping.Go(func() { errs <- p.stop(stopGrace) })
		}
	}
	stopping.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// processes are the cluster's processes, found by where they live: never by
// name.
func (c Cluster) processes() []Process {
	seen := make(map[Process]bool)
	out := cgroupMembers(c.Cgroup)
	for _, p := range out {
		seen[p] = true
	}
	for _, n := range c.Nodes {
		for _, p := range n.members() {
			if !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// sweep ends containers, their monitors and Podman's services: politely once,
// then with SIGKILL until no process is left. Dying containers start cleaners,
// so it looks again each time.
func (c Cluster) sweep() error {
	left := c.processes()
	for _, p := range left {
		if err := p.signal(unix.SIGTERM); err != nil {
			return err
		}
	}
	polite := time.Now().Add(containerGrace)
	for _, p := range left {
		p.await(time.Until(polite))
	}
	deadline := time.Now().Add(sweepTimeout)
	for left = c.processes(); len(left) > 0; left = c.processes() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes do not end after SIGKILL, the first is %d", len(left), left[0].PID)
		}
		for _, p := range left {
			if err := p.signal(unix.SIGKILL); err != nil {
				return err
			}
		}
		for _, p := range left {
			p.await(time.Until(deadline))
		}
	}
	return nil
}

// removeAll removes what the cluster made on the machine, once no process is
// left in it.
func (c Cluster) removeAll(progress func(string)) error {
	progress("removing namespaces, links and cgroups")
	slots, err := lockSlots()
	if err != nil {
		return err
	}
	defer slots.Close()
	var errs []error
	errs = append(errs,
		removeHost(c),
		removeCgroup(c.Cgroup, cgroupTimeout),
		forget(c.stateFile()),
		releaseCurrent(c),
	)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// Last, since it frees the slot.
	if err := removePins(c); err != nil {
		return err
	}
	if len(takenSlots()) > 0 {
		return nil
	}
	if err := restoreForwarding(); err != nil {
		return err
	}
	_ = os.Remove(runRoot) // others may keep sockets there
	return nil
}

func forget(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// makeCurrent makes the cluster the one that clients find.
func makeCurrent(c Cluster) error {
	link, err := client.CurrentPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return err
	}
	next := link + ".next"
	if err := forget(next); err != nil {
		return err
	}
	if err := os.Symlink(c.Kubeconfig(), next); err != nil {
		return err
	}
	return os.Rename(next, link)
}

// releaseCurrent removes the link if it leads to this cluster.
func releaseCurrent(c Cluster) error {
	link, err := client.CurrentPath()
	if err != nil {
		return nil // without a home there is none
	}
	if target, err := os.Readlink(link); err != nil || target != c.Kubeconfig() {
		return nil
	}
	return os.Remove(link)
}
