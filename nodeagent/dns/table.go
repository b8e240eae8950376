package dns

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

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

// TableFile is the name table as a file, which its owner alone writes.
type TableFile struct {
	path string
	from *wire.Work  // what it was written from
	file fs.FileInfo // of what was written
}

// NewTableFile is the table at path; nothing is written before Write.
func NewTableFile(path string) *TableFile { return &TableFile{path: path} }

// Write replaces the table by what work says, at once, and leaves it alone if it
// says the same. The directory is made if missing. The file follows from work, so a
// crash may lose it: the agent writes it again. Work must not change afterwards.
func (f *TableFile) Write(work *wire.Work) error {
	if f.from != nil && sameNames(f.from, work) && f.intact() {
		return nil
	}
	if err := f.replace(work); err != nil {
		return fmt.Errorf("write name table: %w", err)
	}
	return nil
}

// intact reports whether the file is the one that was written.
func (f *TableFile) intact() bool {
	now, err := os.Stat(f.path)
	return err == nil && os.SameFile(now, f.file) && now.Size() == f.file.Size() && now.ModTime().Equal(f.file.ModTime())
}

func (f *TableFile) replace(work *wire.Work) error {
	data, err := json.Marshal(tableOf(work)) // map keys come sorted
	if err != nil {
		return err
	}
	old, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(filepath.Dir(f.path), 0o755)
	}
	if err == nil && !bytes.Equal(old, data) {
		err = writeAtOnce(f.path, data)
	}
	if err != nil {
		return err
	}
	f.file, err = os.Stat(f.path)
	f.from = work
	return err
}

func writeAtOnce(path string, data []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// sameNames reports whether both make the same table, without encoding them.
func sameNames(a, b *wire.Work) bool {
	if !reflect.DeepEqual(a.Cluster, b.Cluster) || len(a.Services) != len(b.Services) {
		return false
	}
	for name, s := range b.Services {
		if was, ok := a.Services[name]; !ok || !sameName(was, s) {
			return false
		}
	}
	return true
}

func sameName(a, b wire.Service) bool {
	return slices.Equal(a.ClusterIPs, b.ClusterIPs) && a.Headless == b.Headless && same(a.Ports, b.Ports) && (!b.Headless || same(a.Endpoints, b.Endpoints))
}

// same compares two lists; those that share their memory are not looked into.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || reflect.DeepEqual(a, b))
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
