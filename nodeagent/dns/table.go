package dns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"fairlead/schema/wire"
)

// TablePath is where the agent whose directory is dir keeps the name table.
func TablePath(dir string) string { return filepath.Join(dir, "dns", "table.json") }

// table is what the file holds: of the work only what names depend on.
type table struct {
	Cluster  wire.ClusterInfo        `json:"cluster"`
	Services map[string]wire.Service `json:"services"`
}

func tableOf(work *wire.Work) table {
	t := table{Cluster: work.Cluster, Services: make(map[string]wire.Service, len(work.Services))}
	for name, s := range work.Services {
		if !s.Headless {
			s.Endpoints = nil // so that their coming and going is no change
		}
		t.Services[name] = s
	}
	return t
}

// WriteTable replaces the table at path by what work says, at once, and leaves
// it alone if it says the same. The directory is made if missing. The file
// follows from work, so a crash may lose it: the agent writes it again.
func WriteTable(path string, work *wire.Work) error {
	data, err := json.Marshal(tableOf(work)) // map keys come sorted
	if err != nil {
		return fmt.Errorf("write name table: %w", err)
	}
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, data) {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return fmt.Errorf("write name table: %w", err)
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, 0o644); err != nil {
		return fmt.Errorf("write name table: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write name table: %w", err)
	}
	return nil
}

func readTable(path string) (table, error) {
	var t table
	data, err := os.ReadFile(path)
	if err != nil {
		return t, fmt.Errorf("name table: %w", err)
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("name table %s: %w", path, err)
	}
	return t, nil
}
