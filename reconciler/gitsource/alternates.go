package gitsource

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
)

// Bounds on borrowing, git's own for the depth.
const (
	maxAlternatesDepth = 5
	maxAlternates      = 64
)

// openStores opens an objects directory and those that it borrows objects from
// (gitrepository-layout(5), info/alternates), each once, the nearest first.
func openStores(dir string) ([]*objects, error) {
	found := []string{dir}
	level := found
	for range maxAlternatesDepth {
		var next []string
		for _, d := range level {
			named, err := alternates(d)
			if err != nil {
				return nil, err
			}
			for _, n := range named {
				if !slices.Contains(found, n) {
					found, next = append(found, n), append(next, n)
				}
			}
		}
		level = next
	}
	if len(level) > 0 || len(found) > maxAlternates {
		return nil, fmt.Errorf("it borrows objects over more than %d steps or from more than %d directories", maxAlternatesDepth, maxAlternates)
	}
	stores := make([]*objects, len(found))
	for i, d := range found {
		stores[i] = newObjects(osfs.New(d), true)
	}
	return stores, nil
}

// alternates are the directories that one objects directory names.
func alternates(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "info", "alternates"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '"' {
			if line, err = strconv.Unquote(line); err != nil {
				return nil, fmt.Errorf("info/alternates: %w", err)
			}
		}
		if !filepath.IsAbs(line) {
			line = filepath.Join(dir, line)
		}
		out = append(out, filepath.Clean(line))
	}
	return out, nil
}
