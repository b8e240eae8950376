package podman

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// A damaged database is Podman's trouble, which the agent tells and outlives.
func TestADamagedDatabaseIsAnError(t *testing.T) {
	for _, size := range []int64{0, 100, 4 << 10, 12 << 10} {
		path := filepath.Join(t.TempDir(), "bolt_state.db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			err := db.Update(func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("ctr"))
				if err != nil {
					return err
				}
				return b.Put(fmt.Appendf(nil, "key-%d", i), make([]byte, 5000))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if err := wipeFreePages(path, time.Minute); err == nil && size > 0 { // an empty one is a new one
			t.Errorf("cut to %d bytes: no error", size)
		}
		// Whoever puts it right finds it unlocked.
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			t.Errorf("a database of %d bytes stays locked: %v", size, err)
		}
		file.Close()
	}
}

// What is deleted from a database, however long it was, is gone from its file, and
// what is left is there.
func TestWipedPagesAreEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bolt_state.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	bucket := []byte("ctr")
	change := func(f func(*bbolt.Bucket) error) {
		t.Helper()
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucket)
			if err != nil {
				return err
			}
			return f(b)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 60 {
		change(func(b *bbolt.Bucket) error {
			value := bytes.Repeat([]byte(canary), 1+i*20)
			if i%3 == 0 {
				value = []byte("kept")
			}
			return b.Put(fmt.Appendf(nil, "key-%d", i), value)
		})
	}
	change(func(b *bbolt.Bucket) error {
		for i := range 60 {
			if i%3 != 0 {
				if err := b.Delete(fmt.Appendf(nil, "key-%d", i)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(path); !bytes.Contains(data, []byte(canary)) {
		t.Fatal("nothing is left to wipe")
	}
	if err := wipeFreePages(path, time.Minute); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || bytes.Contains(data, []byte(canary)) {
		t.Errorf("the file still has it, %v", err)
	}
	if db, err = bbolt.Open(path, 0o600, nil); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		if n := tx.Bucket(bucket).Stats().KeyN; n != 20 {
			t.Errorf("%d keys are left, want 20", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
