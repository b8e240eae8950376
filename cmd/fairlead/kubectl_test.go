package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindKubectl(t *testing.T) {
	beside, onPath := t.TempDir(), t.TempDir()
	t.Setenv("PATH", onPath)
	if path, err := findKubectl(beside); err == nil || !strings.Contains(err.Error(), filepath.Join(beside, ownKubectl)) {
		t.Errorf("nowhere: %q, %v", path, err)
	}
	theirs, own := filepath.Join(onPath, "kubectl"), filepath.Join(beside, ownKubectl)
	for _, path := range []string{theirs, own} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got, err := findKubectl(beside); got != path || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, path)
		}
	}
}
