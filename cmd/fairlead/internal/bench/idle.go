package main

import (
	"context"
	"fmt"
	"time"
)

const (
	// settlePause lets a new cluster come to rest.
	settlePause = 15 * time.Second
	// idleWindow is how long CPU time is counted.
	idleWindow = 30 * time.Second
)

// idle measures P17 on a cluster that has nothing to do.
func (c *cluster) idle(ctx context.Context) ([]row, error) {
	if err := pause(ctx, settlePause); err != nil {
		return nil, err
	}
	type daemon struct {
		name   string
		memory quantity
		cpu    quantity
	}
	daemons := []daemon{
		{"master", quantity{60, "MB"}, quantity{1, "%"}},
		{"n1/agent", quantity{20, "MB"}, quantity{0.3, "%"}},
		{"n1/dns", quantity{12, "MB"}, quantity{}},
	}
	before := make([]time.Duration, len(daemons))
	for i, d := range daemons {
		var err error
		if before[i], err = cpuOf(c.pids[d.name]); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	if err := pause(ctx, idleWindow); err != nil {
		return nil, err
	}
	var rows []row
	for i, d := range daemons {
		after, err := cpuOf(c.pids[d.name])
		if err != nil {
			return nil, err
		}
		share := float64(after-before[i]) / float64(time.Since(start))
		held, err := memoryOf(c.pids[d.name])
		if err != nil {
			return nil, err
		}
		rows = append(rows,
			row{bar: "P17", what: fmt.Sprintf("%s idle, %d nodes: anonymous memory", d.name, clusterSize), measured: megabytes(held.anonymous), goal: goal{most: d.memory},
				note: fmt.Sprintf("resident: %s", megabytes(held.resident))},
			row{bar: "P17", what: d.name + " idle: CPU over 30 s", measured: percent(share), goal: goal{most: d.cpu}})
	}
	return rows, nil
}
