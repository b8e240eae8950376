package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"fairlead/cmd/fairlead/internal/local"
)

const (
	burstPods   = 40
	burstRounds = 3
	burstPause  = 3 * time.Second
	rawWorkers  = 8
	// playApart is this program running `podman kube play` in namespaces of its own.
	playApart = "play"
)

// burst measures P4: 40 pods of one container each on two nodes by one push,
// in turn with the same containers through the nodes' Podman services; and
// `podman kube play` of the same manifest at the end.
func (c *cluster) burst(ctx context.Context) ([]row, error) {
	kept := replicas + 1
	var ours, raw samples
	for i := range burstRounds {
		start, err := c.push(ctx, "burst", files{"burst.yaml": pods(burstPods)})
		if err != nil {
			return nil, err
		}
		last, _, err := c.awaitRunning(ctx, burstPods)
		if err != nil {
			return nil, err
		}
		ours = append(ours, last.Sub(start))
		if err := c.settled(ctx); err != nil {
			return nil, err
		}
		if _, err := c.push(ctx, fmt.Sprintf("burst over\n\nFairlead-Allow-Prune: %d\n", burstPods), nil, "burst.yaml"); err != nil {
			return nil, err
		}
		if err := c.awaitPods(ctx, kept); err != nil {
			return nil, err
		}
		if err := pause(ctx, burstPause); err != nil {
			return nil, err
		}
		took, err := c.rawBurst(ctx, i)
		if err != nil {
			return nil, err
		}
		raw = append(raw, took)
		if err := pause(ctx, burstPause); err != nil {
			return nil, err
		}
	}
	rows := []row{{bar: "P4", what: fmt.Sprintf("%d one-container pods on %d nodes, push to all running", burstPods, clusterSize), measured: duration(ours.median()),
		goal: goal{mostRatio: 1.3}, against: fmt.Sprintf("raw API, %d workers", rawWorkers), baseline: duration(raw.median())}}
	played, err := c.bench.apart(ctx, playApart)
	if err != nil {
		return rows, err
	}
	return append(rows, row{bar: "P4", what: "the same, against kube play", measured: duration(ours.median()), goal: goal{mostRatio: 1. / 3}, against: "podman kube play", baseline: played[0].measured, note: played[0].note}), nil
}

// rawBurst runs the containers of the burst through both nodes' services.
func (c *cluster) rawBurst(ctx context.Context, round int) (time.Duration, error) {
	name := func(i int) string { return fmt.Sprintf("bench-%d-%d", round, i) }
	var logs [burstPods]string
	start := time.Now()
	run, runCtx := errgroup.WithContext(ctx)
	run.SetLimit(rawWorkers)
	for i := range burstPods {
		run.Go(func() (err error) {
			logs[i], err = c.raw[i%clusterSize].run(runCtx, name(i))
			return err
		})
	}
	if err := run.Wait(); err != nil {
		return 0, err
	}
	last := start
	for _, log := range logs {
		at, err := awaitLog(ctx, log)
		if err != nil {
			return 0, err
		}
		if at.After(last) {
			last = at
		}
	}
	remove, removeCtx := errgroup.WithContext(ctx)
	remove.SetLimit(rawWorkers)
	for i := range burstPods {
		remove.Go(func() error { return c.raw[i%clusterSize].remove(removeCtx, name(i)) })
	}
	return last.Sub(start), remove.Wait()
}

// play runs the pods of the burst with `podman kube play`, in the process's own
// mount and network namespaces and a storage of its own. The pods use that
// network as it is: Podman's own bridges need a plugin that may be missing, and
// take longer.
func (b *bench) play(ctx context.Context) ([]row, error) {
	dir := filepath.Join(b.work, "play")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	for _, path := range []string{"/run", "/dev/shm"} {
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
			return nil, fmt.Errorf("mount %s: %w", path, err)
		}
	}
	environment, err := b.podmanConfiguration(dir)
	if err != nil {
		return nil, err
	}
	podman := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "podman", args...)
		cmd.Env = append(os.Environ(), environment...)
		_, err := output(cmd)
		return err
	}
	defer removeCgroups("/" + filepath.Base(b.work))
	one, all := filepath.Join(dir, "one.yaml"), filepath.Join(dir, "all.yaml")
	if err := os.WriteFile(one, []byte(hostNetwork(1)), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(all, []byte(hostNetwork(burstPods)), 0o600); err != nil {
		return nil, err
	}
	// The first pod ever makes what the others find.
	if err := podman("kube", "play", one); err != nil {
		return nil, err
	}
	if err := podman("pod", "rm", "--all", "--force", "--time", "1"); err != nil {
		return nil, err
	}
	took, err := timed(func() error { return podman("kube", "play", all) })
	if err != nil {
		return nil, err
	}
	return []row{{measured: duration(took), note: fmt.Sprintf("with host network, which spares Podman the plugin; once, %.1f pods a second", burstPods/took.Seconds())}},
		podman("pod", "rm", "--all", "--force", "--time", "1")
}

// hostNetwork is the burst's manifest with pods in the network of who starts them.
func hostNetwork(n int) string {
	return strings.ReplaceAll(pods(n), "spec:\n", "spec:\n  hostNetwork: true\n")
}

// podmanConfiguration writes what a Podman apart from the host's needs and
// returns the environment that leads to it.
func (b *bench) podmanConfiguration(dir string) ([]string, error) {
	var files, procs unix.Rlimit
	if err := errors.Join(unix.Getrlimit(unix.RLIMIT_NOFILE, &files), unix.Getrlimit(unix.RLIMIT_NPROC, &procs)); err != nil {
		return nil, err
	}
	procs.Max, files.Max = min(procs.Max, 32768), min(files.Max, 1<<20)
	runtime, _ := local.ChooseRuntime(local.Examine(local.DefaultDir, ""))
	conf := fmt.Sprintf(`[containers]
default_ulimits = ["nofile=%[1]d:%[1]d", "nproc=%[2]d:%[2]d"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = %[3]q
infra_image = %[4]q
infra_command = "/program"
`, files.Max, procs.Max, runtime, image)
	storage := fmt.Sprintf(`[storage]
driver = "overlay"
graphroot = %q
runroot = "/run/bench"
[storage.options]
additionalimagestores = ["/var/lib/containers/storage"]
`, filepath.Join(dir, "storage"))
	confPath, storagePath := filepath.Join(dir, "containers.conf"), filepath.Join(dir, "storage.conf")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return []string{"CONTAINERS_CONF=" + confPath, "CONTAINERS_STORAGE_CONF=" + storagePath},
		errors.Join(os.WriteFile(confPath, []byte(conf), 0o600), os.WriteFile(storagePath, []byte(storage), 0o600))
}
