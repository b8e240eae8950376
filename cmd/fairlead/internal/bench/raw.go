package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// podmanAPI is the version of the calls, Podman 4's.
const podmanAPI = "http://podman/v4.0.0/libpod"

const (
	rawSocket  = "/run/fairlead/bench.sock" // in the node's mount namespace
	rawTimeout = 10 * time.Second           // until it answers
)

// rawPodman speaks to a Podman service of a node, with nothing between.
type rawPodman struct {
	http   *http.Client
	parent string // cgroup
	logs   string // directory
	end    func()
}

// startRaw starts a Podman service beside the one that the agent with this pid keeps,
// in the same namespaces over the same storage. It has the real runtime: the agent's
// own service takes only what the agent made.
func startRaw(ctx context.Context, agent int, runtime, parent, logs string) (*rawPodman, error) {
	service, environment, err := serviceOf(agent)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(service), "--mount", "--net", "--",
		"podman", "--runtime", runtime, "system", "service", "--time", "0", "unix://"+rawSocket)
	cmd.Env = environment
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	socket := fmt.Sprintf("/proc/%d/root%s", service, rawSocket)
	p := &rawPodman{
		parent: parent, logs: logs,
		end: func() { _ = cmd.Process.Kill(); _ = cmd.Wait() },
		http: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: rawWorkers,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", socket)
			},
		}},
	}
	ctx, cancel := context.WithTimeout(ctx, rawTimeout)
	defer cancel()
	for {
		err := p.do(ctx, http.MethodGet, "/info", nil, nil)
		if err == nil {
			return p, nil
		}
		if paused := pause(ctx, logPoll); paused != nil {
			p.end()
			return nil, fmt.Errorf("start a Podman service beside the agent's: %w", err)
		}
	}
}

// serviceOf finds the Podman service that an agent keeps, and its environment.
func serviceOf(agent int) (pid int, environment []string, err error) {
	var children []byte
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		children = append(append(children, ' '), more...)
	}
	for _, child := range strings.Fields(string(children)) {
		line, _ := os.ReadFile("/proc/" + child + "/cmdline")
		if !strings.Contains(string(line), "system\x00service") {
			continue
		}
		data, err := os.ReadFile("/proc/" + child + "/environ")
		if err != nil {
			return 0, nil, err
		}
		pid, err := strconv.Atoi(child)
		return pid, strings.Split(strings.Trim(string(data), "\x00"), "\x00"), err
	}
	return 0, nil, errors.Join(err, fmt.Errorf("the agent %d keeps no Podman service", agent))
}

func (p *rawPodman) do(ctx context.Context, method, path string, body, answer any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, podmanAPI+path, reader)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("podman: %s %s: %s: %s", method, path, res.Status, data)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(data, answer)
}

// run creates and starts one container of the kind the agent makes, in
// namespaces that Podman makes, and returns the path of its log.
func (p *rawPodman) run(ctx context.Context, name string) (log string, err error) {
	log = filepath.Join(p.logs, name+".log")
	spec := map[string]any{
		"name": name, "image": image, "labels": map[string]string{"bench": name},
		"restart_policy": "no", "systemd": "false", "sdnotifyMode": "ignore", "cgroup_parent": p.parent,
		"use_image_hosts": true, "use_image_resolve_conf": true,
		"netns":             map[string]string{"nsmode": "none"},
		"log_configuration": map[string]any{"driver": "k8s-file", "path": log, "size": 16 << 20},
	}
	if status, _ := os.ReadFile("/proc/self/status"); !strings.Contains(string(status), "\nSeccomp:") {
		spec["seccomp_profile_path"] = "unconfined"
	}
	var made struct{ ID string }
	if err := p.do(ctx, http.MethodPost, "/containers/create", spec, &made); err != nil {
		return "", err
	}
	return log, p.do(ctx, http.MethodPost, "/containers/"+made.ID+"/start", nil, nil)
}

func (p *rawPodman) remove(ctx context.Context, name string) error {
	return p.do(ctx, http.MethodDelete, "/containers/"+name+"?force=true&timeout=1", nil, nil)
}

// spoke is when the container's program said that it runs, as its monitor noted
// it in the log; false while it has not.
func spoke(log string) (time.Time, bool) {
	data, err := os.ReadFile(log)
	if err != nil {
		return time.Time{}, false
	}
	first, _, _ := strings.Cut(string(data), " ")
	at, err := time.Parse(time.RFC3339Nano, first)
	return at, err == nil
}
