package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// machine is what the figures are of, and how busy it was when they were taken.
type machine struct {
	CPUs   int       `json:"cpus"`
	Model  string    `json:"model"`
	Kernel string    `json:"kernel"`
	Load   []float64 `json:"load"` // one minute's average before each section, and at the end
}

func (m machine) String() string {
	return fmt.Sprintf("%d x %s, Linux %s, load %s", m.CPUs, m.Model, m.Kernel, strings.Trim(fmt.Sprintf("%.2f", m.Load), "[]"))
}

func thisMachine() machine {
	m := machine{CPUs: runtime.NumCPU(), Model: "unknown CPU", Kernel: firstWord("/proc/sys/kernel/osrelease")}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.Model = strings.TrimSpace(value)
		}
	}
	return m
}

func firstWord(path string) string {
	data, _ := os.ReadFile(path)
	word, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	return word
}

func loadAverage() float64 {
	l, _ := strconv.ParseFloat(firstWord("/proc/loadavg"), 64)
	return l
}

// memory is what a process occupies, in bytes.
type memory struct{ anonymous, resident int64 }

func memoryOf(pid int) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		kb, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "RssAnon:":
			m.anonymous = kb << 10
		case "VmRSS:":
			m.resident = kb << 10
		}
	}
	return m, nil
}

// cpuOf is the time a process and its ended threads have been running. The
// kernel counts it in ticks of 10 ms; living threads tell it in nanoseconds,
// which an idle process needs.
func cpuOf(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d: no threads found", pid)
	}
	var sum time.Duration
	for _, f := range files {
		ns, _ := strconv.ParseInt(firstWord(f), 10, 64)
		sum += time.Duration(ns)
	}
	return sum, nil
}

// children lists the processes whose parent is pid.
func children(pid int) []int {
	var out []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		stat, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			out = append(out, child)
		}
	}
	return out
}

// samples are durations of one and the same thing.
type samples []time.Duration

// at is the percentile p, by the nearest rank.
func (s samples) at(p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	i := int(float64(len(sorted))*p/100+0.999999) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

func (s samples) median() time.Duration { return s.at(50) }

// timed is how long f takes.
func timed(f func() error) (time.Duration, error) {
	start := time.Now()
	err := f()
	return time.Since(start), err
}

// removeCgroups removes the empty cgroups at and below path in every hierarchy.
func removeCgroups(path string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(root, path), func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil
		})
		slices.Reverse(dirs)
		for _, d := range dirs {
			_ = os.Remove(d) // one that holds processes is not ours any more
		}
	}
}
