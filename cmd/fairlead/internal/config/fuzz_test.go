package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// A configuration is refused with its file's name, or is the same when it is
// read again after it was written.
func FuzzMaster(f *testing.F) {
	f.Add([]byte("dir: /var/lib/fairlead\nnodePorts: 30000-32767\nevictionAfter: 5m\nsources:\n  - name: main\n    spec: {embedded: true, interval: 30s}\n"))
	f.Add([]byte("dirr: /x\n"))
	f.Add([]byte("dir: /x\ndir: /y\n"))
	f.Add([]byte("- a\n"))
	fuzz(f, ReadMaster)
}

func FuzzAgent(f *testing.F) {
	f.Add([]byte("server: https://master:6443\nnodeName: n1\ncapacity: {cpu: 2, memory: 4Gi}\ntaints: [{key: a, effect: NoSchedule, timeAdded: 2026-01-02T03:04:05Z}]\npodman: {additionalStores: [/x]}\n"))
	f.Add([]byte("capacity: {cpu: many}\n"))
	f.Add([]byte("labels: {a: 1}\n"))
	fuzz(f, ReadAgent)
}

func fuzz[C any](f *testing.F, read func(string) (C, error)) {
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := read(path)
		if err != nil {
			if !bytes.Contains([]byte(err.Error()), []byte(path)) {
				t.Errorf("%v does not name %s", err, path)
			}
			return
		}
		if err := Write(path, c); err != nil {
			return // a time or a quantity beyond what can be written
		}
		again, err := read(path)
		if err != nil {
			t.Fatal(err)
		}
		once, _ := json.Marshal(c)
		if twice, _ := json.Marshal(again); !bytes.Equal(once, twice) {
			t.Errorf("%s, then %s", once, twice)
		}
	})
}
