package nodeagent

import (
	"bytes"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"fairlead/schema/wire"
)

// Work on disk is refused, or comes back the same after it was saved again.
func FuzzWorkFile(f *testing.F) {
	dir := f.TempDir()
	work, err := openWorkFile(filepath.Join(dir, "work"), filepath.Join(dir, "key"))
	if err != nil {
		f.Fatal(err)
	}
	if err := work.save(7, wire.Items{"node": []byte(`{"node":"n1"}`), "secrets/a/b": []byte(`{"k":"eA=="}`)}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(work.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte(`{"version":1,"items":null,"sealed":"AAAA"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(work.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		version, items, err := work.load()
		if err != nil {
			if items != nil {
				t.Error("items beside an error")
			}
			return
		}
		if err := work.save(version, maps.Clone(items)); err != nil {
			t.Fatal(err)
		}
		sameVersion, same, err := work.load()
		if err != nil || sameVersion != version || same.Hash() != items.Hash() {
			t.Errorf("version %d with %d items, then %d with %d, %v", version, len(items), sameVersion, len(same), err)
		}
	})
}

// A pod's record is read or forgotten, and never another pod's.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"uid":"other","containers":{"a":{}}}`))
	f.Add([]byte(`{"containers":null}`))
	f.Add([]byte{})
	dirs := podDirs(f.TempDir())
	if err := os.MkdirAll(dirs.pod("uid-1"), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(dirs.record("uid-1"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		records, err := dirs.loadRecords()
		if err != nil || len(records) != 1 || records[0].UID != "uid-1" || records[0].Containers == nil {
			t.Fatalf("%+v, %v", records, err)
		}
		if err := dirs.saveRecord(&records[0]); err != nil {
			return // a time beyond what JSON has
		}
		once, err := os.ReadFile(dirs.record("uid-1"))
		if err != nil {
			t.Fatal(err)
		}
		if records, err = dirs.loadRecords(); err != nil {
			t.Fatal(err)
		}
		if err := dirs.saveRecord(&records[0]); err != nil {
			t.Fatal(err)
		}
		if twice, err := os.ReadFile(dirs.record("uid-1")); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s, then %s, %v", once, twice, err)
		}
	})
}

// Addresses on disk are refused or are addresses.
func FuzzAddresses(f *testing.F) {
	path := filepath.Join(f.TempDir(), "addresses")
	if err := newAddresses().save(path); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"given":{"uid-1":"10.112.4.1"},"resting":{"10.112.4.2":"2026-01-02T03:04:05Z"},"next":"::1"}`))
	f.Add([]byte(`{"given":{"uid-1":"nowhere"}}`))
	f.Add([]byte(`{"given":null,"resting":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := loadAddresses(path)
		if err != nil {
			return
		}
		had := len(a.Given)
		ip, err := a.give("uid-new", netip.MustParsePrefix("10.112.4.0/22"), start)
		if err == nil && (a.Given["uid-new"] != ip || len(a.Given) > had+1) {
			t.Errorf("gave %s: %+v", ip, a)
		}
		if err := a.save(path); err != nil {
			return // a time beyond what JSON has
		}
		if _, err := loadAddresses(path); err != nil {
			t.Error(err)
		}
	})
}
