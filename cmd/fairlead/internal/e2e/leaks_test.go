package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// traces is what of the host is compared as a whole, before up and after down.
type traces struct {
	tables  []string // nft
	forward string
	cgroups []string // the top of each hierarchy
}

func (t *traces) take() error {
	tables, err := output(exec.Command("nft", "list", "tables"))
	if err != nil {
		return err
	}
	t.tables = strings.Split(strings.TrimSpace(tables), "\n")
	forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err != nil {
		return err
	}
	t.forward = string(bytes.TrimSpace(forward))
	t.cgroups, err = filepath.Glob("/sys/fs/cgroup/*/*/")
	return err
}

// remember notes, while the cluster stands, the names that must be gone later.
func (c *cluster) remember() error {
	data, err := os.ReadFile(filepath.Join(c.dir, "up.json"))
	if err != nil {
		return err
	}
	var settings struct {
		Slot   int    `json:"slot"`
		Subnet string `json:"subnet"`
	}
	if err := json.Unmarshal(data, &settings); err != nil {
		return err
	}
	c.slot = settings.Slot
	routes, err := output(exec.Command("ip", "-o", "route", "show", settings.Subnet))
	if err != nil {
		return err
	}
	fields := strings.Fields(routes)
	if i := slices.Index(fields, "dev"); i >= 0 {
		bridge := fields[i+1]
		links, err := output(exec.Command("ip", "-o", "link", "show", "master", bridge))
		if err != nil {
			return err
		}
		c.links = []string{bridge}
		for line := range strings.Lines(links) {
			name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
			c.links = append(c.links, strings.TrimSuffix(name, ":"))
		}
	}
	return nil
}

// left lists what is still on the machine of a cluster that was taken down; nothing of a
// slot that `up` chose and that another cluster of the machine holds since.
func (c *cluster) left() (out []string, err error) {
	if owner, err := os.ReadFile(fmt.Sprintf("/run/fairlead/%d/dir", c.slot)); err == nil && !sameFile(strings.TrimSpace(string(owner)), c.dir) {
		return nil, nil
	}
	parent := fmt.Sprintf("/fairlead/%d", c.slot)
	out = append(out, processesLeft(c.dir, parent)...)

	links, err := output(exec.Command("ip", "-o", "link"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(links) {
		name, _, _ := strings.Cut(strings.TrimSuffix(strings.Fields(line)[1], ":"), "@")
		if slices.Contains(c.links, name) {
			out = append(out, "link "+name)
		}
	}
	for _, n := range c.Nodes {
		route, err := output(exec.Command("ip", "-o", "route", "get", n.Address))
		if err == nil && len(c.links) > 0 && strings.Contains(route, "dev "+c.links[0]) {
			out = append(out, "route "+strings.TrimSpace(route))
		}
	}

	run := fmt.Sprintf("/run/fairlead/%d", c.slot)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+run+"/") || strings.Contains(line, " "+run+" ") || strings.Contains(line, c.dir) {
			out = append(out, "mount "+strings.TrimSpace(line))
		}
	}
	if _, err := os.Stat(run); err == nil {
		out = append(out, run)
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasSuffix(path, parent) {
			out = append(out, "cgroup "+path)
		}
		return nil
	})
	return append(out, c.changed()...), nil
}

func sameFile(a, b string) bool {
	at, errA := os.Stat(a)
	bt, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(at, bt)
}

// changed compares what is the host's as a whole. Other clusters may come and
// go meanwhile; what is theirs is left out.
func (c *cluster) changed() (out []string) {
	var after traces
	if err := after.take(); err != nil {
		return []string{err.Error()}
	}
	for _, table := range after.tables {
		if strings.HasSuffix(table, fmt.Sprintf(" fairlead-up-%d", c.slot)) {
			out = append(out, table)
		}
	}
	for _, cgroup := range after.cgroups {
		if strings.HasSuffix(cgroup, "/libpod_parent/") && !slices.Contains(c.before.cgroups, cgroup) {
			out = append(out, "cgroup "+cgroup)
		}
	}
	if others, _ := filepath.Glob("/run/fairlead/*/dir"); len(others) == 0 && after.forward != c.before.forward {
		out = append(out, fmt.Sprintf("ip_forward is %s, was %s", after.forward, c.before.forward))
	}
	return out
}

// processesLeft finds living processes that were started with the cluster's
// directory or stand in its cgroups. A zombie is dead.
func processesLeft(dir, parent string) (out []string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		at := func(file string) string {
			data, _ := os.ReadFile(filepath.Join("/proc", e.Name(), file)) // it may end meanwhile
			return string(data)
		}
		if stat := at("stat"); stat == "" || strings.Contains(stat[strings.LastIndex(stat, ")"):], ") Z ") {
			continue
		}
		command := strings.ReplaceAll(at("cmdline"), "\x00", " ")
		if strings.Contains(command, dir) || strings.Contains(at("cgroup"), ":"+parent+"/") {
			out = append(out, fmt.Sprintf("process %d: %s", pid, command))
		}
	}
	return out
}

// daemons reads the supervisor's file: name -> pid.
func (c *cluster) daemons() (map[string]int, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, "supervisor.json"))
	if err != nil {
		return nil, err
	}
	var state struct {
		Supervisor struct {
			PID int `json:"pid"`
		} `json:"supervisor"`
		Children map[string]struct {
			PID int `json:"pid"`
		} `json:"children"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return nil, err
	}
	out := map[string]int{"supervisor": state.Supervisor.PID}
	for name, child := range state.Children {
		out[name] = child.PID
	}
	return out, nil
}
