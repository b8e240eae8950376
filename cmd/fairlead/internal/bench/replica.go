package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	replicas     = 20
	replicaPause = time.Second
	// replicaOver is what may be added to a raw create and start, from push to
	// running, at the median and for the slowest.
	replicaOver   = 25 * time.Millisecond
	replicaOver99 = 40 * time.Millisecond
)

// replica measures P5: a Deployment gets one more replica by a push, and after
// each, on the idle cluster, a node's Podman service is asked for the same
// container.
func (c *cluster) replica(ctx context.Context) ([]row, error) {
	if _, err := c.push(ctx, "one", files{"replica.yaml": deployment(1)}); err != nil {
		return nil, err
	}
	if _, _, err := c.awaitRunning(ctx, 1); err != nil {
		return nil, err
	}
	var ours, pushes, known, asked, podman samples
	for i := range replicas {
		if err := pause(ctx, replicaPause); err != nil {
			return nil, err
		}
		start, err := c.push(ctx, "one more", files{"replica.yaml": deployment(2 + i)})
		if err != nil {
			return nil, err
		}
		pushes = append(pushes, time.Since(start))
		at, log, err := c.awaitRunning(ctx, 1)
		if err != nil {
			return nil, err
		}
		ours = append(ours, at.Sub(start))
		// The agent makes the directory of the container's logs before it asks
		// Podman, and the pod's when it learns of the pod.
		logs := filepath.Dir(log)
		for _, step := range []struct {
			took *samples
			path string
		}{{&asked, logs}, {&known, filepath.Dir(filepath.Dir(logs))}} {
			if made, ok := born(step.path); ok {
				*step.took = append(*step.took, made.Sub(start))
			}
		}
		if err := pause(ctx, replicaPause); err != nil {
			return nil, err
		}
		took, err := rawOnce(ctx, c.raw[0], fmt.Sprintf("bench-one-%d", i))
		if err != nil {
			return nil, err
		}
		podman = append(podman, took)
	}
	rows := []row{
		{bar: "P5", what: "one more replica, push to running, p50", measured: duration(ours.median()), goal: goal{most: duration(podman.median() + replicaOver)}, against: "raw create + start", baseline: duration(podman.median())},
		{bar: "P5", what: "the same, p99", measured: duration(ours.at(99)), goal: goal{most: duration(podman.at(99) + replicaOver99)}, against: "raw create + start", baseline: duration(podman.at(99))},
		{bar: "P5", what: "meanwhile the push until git returns, p50", measured: duration(pushes.median())},
	}
	if len(known) == len(ours) && len(asked) == len(ours) {
		rows = append(rows,
			row{bar: "P5", what: "of it until the node's agent has the pod, p50", measured: duration(known.median())},
			row{bar: "P5", what: "of it until Podman is asked, p50", measured: duration(asked.median())})
	}
	return rows, nil
}

// born is when a directory was made; false on a file system that does not keep it.
func born(path string) (time.Time, bool) {
	var info unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &info); err != nil || info.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}, false
	}
	return time.Unix(info.Btime.Sec, int64(info.Btime.Nsec)), true
}

// rawOnce is how long one container takes through the API until it speaks.
func rawOnce(ctx context.Context, raw *rawPodman, name string) (time.Duration, error) {
	start := time.Now()
	log, err := raw.run(ctx, name)
	if err != nil {
		return 0, err
	}
	at, err := awaitLog(ctx, log)
	if err != nil {
		return 0, err
	}
	return at.Sub(start), raw.remove(ctx, name)
}

func awaitLog(ctx context.Context, log string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, runningTimeout)
	defer cancel()
	for {
		if at, ok := spoke(log); ok {
			return at, nil
		}
		if err := pause(ctx, logPoll); err != nil {
			return time.Time{}, fmt.Errorf("%s says nothing: %w", log, err)
		}
	}
}
