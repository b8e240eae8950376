package main

import (
	"context"
	"fmt"
	"time"
)

const (
	replicas     = 20
	replicaPause = time.Second
)

// replica measures P5: a Deployment gets one more replica by a push, and after
// each, on the idle cluster, a node's Podman service is asked for the same
// container.
func (c *cluster) replica(ctx context.Context) ([]row, error) {
	raw, err := c.raw(0)
	if err != nil {
		return nil, err
	}
	if _, err := c.push(ctx, "one", files{"replica.yaml": deployment(1)}); err != nil {
		return nil, err
	}
	if _, err := c.awaitRunning(ctx, 1); err != nil {
		return nil, err
	}
	var ours, pushes, podman samples
	for i := range replicas {
		if err := pause(ctx, replicaPause); err != nil {
			return nil, err
		}
		start, err := c.push(ctx, "one more", files{"replica.yaml": deployment(2 + i)})
		if err != nil {
			return nil, err
		}
		pushes = append(pushes, time.Since(start))
		at, err := c.awaitRunning(ctx, 1)
		if err != nil {
			return nil, err
		}
		ours = append(ours, at.Sub(start))
		if err := pause(ctx, replicaPause); err != nil {
			return nil, err
		}
		took, err := rawOnce(ctx, raw, fmt.Sprintf("bench-one-%d", i))
		if err != nil {
			return nil, err
		}
		podman = append(podman, took)
	}
	return []row{
		{bar: "P5", what: "one more replica, push to running, p50", measured: duration(ours.median()), goal: goal{most: duration(200 * time.Millisecond)}, against: "raw create + start", baseline: duration(podman.median())},
		{bar: "P5", what: "the same, p99", measured: duration(ours.at(99)), goal: goal{most: duration(300 * time.Millisecond)}, against: "raw create + start", baseline: duration(podman.at(99))},
		{bar: "P5", what: "of it the push until git returns, p50", measured: duration(pushes.median())},
	}, nil
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
