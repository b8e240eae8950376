package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"fairlead/nodeagent/podman/handover"
)

// runtime becomes the real runtime. A container that it is to create gets its
// environment and arguments before.
func runtime(dir handover.Dir, args []string) error {
	if slices.Contains(args, "create") {
		var err error
		if args, err = handOver(dir, args); err != nil {
			return err
		}
	}
	real, err := os.Readlink(dir.Runtime())
	if err != nil {
		return fmt.Errorf("find the runtime: %w", err)
	}
	if err := syscall.Exec(real, append([]string{filepath.Base(real)}, args...), os.Environ()); err != nil {
		return fmt.Errorf("execute %s: %w", real, err)
	}
	return nil
}

// handOver makes the container's bundle in memory and names it in the place of
// Podman's. Nothing else of a bundle is read: Podman gives absolute paths.
func handOver(dir handover.Dir, args []string) ([]string, error) {
	at := slices.IndexFunc(args, func(a string) bool { return a == "--bundle" || a == "-b" })
	if at < 0 || at+2 >= len(args) {
		return nil, errors.New("create without --bundle")
	}
	id := args[len(args)-1]
	data, err := os.ReadFile(dir.Process(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("container %s has no environment in memory: the node agent did not make it since the machine booted", id)
	}
	if err != nil {
		return nil, fmt.Errorf("read the environment: %w", err)
	}
	var p handover.Process
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("read the environment: %w", err)
	}
	config, err := os.ReadFile(filepath.Join(args[at+1], "config.json"))
	if err != nil {
		return nil, fmt.Errorf("read the container's configuration: %w", err)
	}
	self, err := os.Readlink(dir.Shim())
	if err != nil {
		return nil, fmt.Errorf("find myself: %w", err)
	}
	if config, err = handover.Config(config, p, self); err != nil {
		return nil, err
	}
	if err := os.WriteFile(dir.ConfigFile(id), config, 0o600); err != nil {
		return nil, fmt.Errorf("write the container's configuration: %w", err)
	}
	args = slices.Clone(args)
	args[at+1] = dir.Bundle(id)
	return args, nil
}
