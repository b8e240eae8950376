package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// podmanAPI is the version of the calls, Podman 4's.
const podmanAPI = "http://podman/v4.0.0/libpod"

// rawPodman speaks to the Podman service of a node, with nothing between.
type rawPodman struct {
	http   *http.Client
	parent string // cgroup
	logs   string // directory
}

// openRaw connects to the service that the agent with this pid keeps, whose
// socket is in that agent's mount namespace.
func openRaw(agent int, parent, logs string) *rawPodman {
	socket := fmt.Sprintf("/proc/%d/root/run/fairlead/podman.sock", agent)
	return &rawPodman{parent: parent, logs: logs, http: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: rawWorkers,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
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
