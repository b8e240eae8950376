package podman

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// databaseWait is how long Podman's own calls, which lock the database for
// milliseconds each, are let go first.
const databaseWait = 10 * time.Second

func (p *Podman) databasePath() string {
	return filepath.Join(p.cfg.StorageDir, "libpod", "bolt_state.db")
}

// wipe overwrites what Podman's database has of containers that are gone. Earlier
// versions gave Podman their environment, and the pages of what is deleted keep
// their content until they are used again. Podman opens the database for each
// call anew and waits for its lock meanwhile.
func (p *Podman) wipe() error {
	if _, err := os.Stat(p.databasePath()); errors.Is(err, fs.ErrNotExist) {
		return nil // a new node, or a Podman with a database of another kind, which never had any
	}
	if err := wipeFreePages(p.databasePath(), databaseWait); err != nil {
		return fmt.Errorf("wipe podman's database: %w", err)
	}
	return nil
}

// wipeFreePages writes zeros over the pages of a bbolt database that hold nothing
// any more, and over what lies behind the last. No page in use has rests of
// others: bbolt writes pages whole, from zeroed memory. A crash on the way harms
// nothing: nobody reads these pages before writing them. A file that is damaged,
// which bbolt may meet with a panic or by reading behind its end, is an error.
func wipeFreePages(path string, wait time.Duration) (err error) {
	var opened *os.File // bbolt's own: a panic in Open leaves it locked, also by its map in memory
	defer func() {
		if r := recover(); r != nil {
			if opened != nil { // what is closed already only says so
				_ = unix.Flock(int(opened.Fd()), unix.LOCK_UN)
				opened.Close()
			}
			err = fmt.Errorf("the database is damaged: %v", r)
		}
	}()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: wait, OpenFile: func(path string, flag int, mode os.FileMode) (f *os.File, err error) {
		opened, err = os.OpenFile(path, flag, mode)
		return opened, err
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }() // which unlocks: not before the file is wiped
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(db.Info().PageSize)
	free, end, err := freePages(db)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	for at := end * size; at < info.Size(); at += size {
		free = append(free, at/size)
	}
	zero, page, changed := make([]byte, size), make([]byte, size), false
	for _, id := range free {
		n, err := file.ReadAt(page, id*size)
		if n == 0 {
			return err
		}
		if bytes.Equal(page[:n], zero[:n]) {
			continue
		}
		changed = true
		if _, err := file.WriteAt(zero[:n], id*size); err != nil {
			return err
		}
	}
	if changed {
		return file.Sync()
	}
	return nil
}

// freePages lists the pages that hold nothing, and the first that was never used.
func freePages(db *bbolt.DB) (free []int64, end int64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		for {
			page, err := tx.Page(int(end))
			if err != nil || page == nil {
				return err
			}
			if page.Type != "free" {
				end += 1 + int64(page.OverflowCount)
				continue
			}
			free = append(free, end)
			end++
		}
	})
	return free, end, err
}
