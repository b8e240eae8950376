package gitsource

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5"
	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
	"github.com/go-git/go-git/v5/storage/filesystem/dotgit"
)

// maxIdleStores is how many opened stores are kept for the next reader, each
// with its pack indexes in memory and its packs open.
const maxIdleStores = 4

// objects reads one objects directory for many goroutines: go-git's store
// serves one at a time and sees the packs that were there when it was opened,
// so each reader borrows a store, and a store that does not find something is
// thrown away and a fresh one asked again.
type objects struct {
	fs      billy.Filesystem
	changes bool // whether git may add packs while it is open
	cache   cache.Object

	mu   sync.Mutex
	era  int // raised when the stores opened before are out of date
	idle []*filesystem.ObjectStorage
}

func newObjects(at billy.Filesystem, changes bool) *objects {
	return &objects{fs: at, changes: changes, cache: cache.NewObjectLRU(objectCacheSize)}
}

func (o *objects) read(t plumbing.ObjectType, h plumbing.Hash) (plumbing.EncodedObject, error) {
	var obj plumbing.EncodedObject
	err := o.borrow(func(s *filesystem.ObjectStorage) (err error) {
		obj, err = s.EncodedObject(t, h)
		return err
	})
	return obj, err
}

func (o *objects) size(h plumbing.Hash) (int64, error) {
	var size int64
	err := o.borrow(func(s *filesystem.ObjectStorage) (err error) {
		size, err = s.EncodedObjectSize(h)
		return err
	})
	return size, err
}

// borrow runs f on a store, and once more on a fresh one when it fails: git may
// have added the pack it lacks, or removed the pack it knows.
func (o *objects) borrow(f func(*filesystem.ObjectStorage) error) error {
	store, era := o.take()
	err := f(store)
	if err != nil && o.changes {
		store.Close()
		store, era = o.renew(era)
		err = f(store)
	}
	if err != nil && !errors.Is(err, plumbing.ErrObjectNotFound) {
		store.Close()
		return err
	}
	o.give(store, era)
	if err != nil {
		return ErrNotFound
	}
	return nil
}

func (o *objects) take() (*filesystem.ObjectStorage, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.idle); n > 0 {
		store := o.idle[n-1]
		o.idle = o.idle[:n-1]
		return store, o.era
	}
	return o.open(), o.era
}

// open makes a store; it touches the disk only when it is used.
func (o *objects) open() *filesystem.ObjectStorage {
	return filesystem.NewObjectStorageWithOptions(dotgit.New(o.fs), o.cache, filesystem.Options{KeepDescriptors: true})
}

// renew is a store that opens now; those of the era that failed are closed.
func (o *objects) renew(failed int) (*filesystem.ObjectStorage, int) {
	o.mu.Lock()
	var old []*filesystem.ObjectStorage
	if o.era == failed {
		old, o.idle = o.idle, nil
		o.era++
	}
	era := o.era
	o.mu.Unlock()
	for _, s := range old {
		s.Close()
	}
	return o.open(), era
}

func (o *objects) give(store *filesystem.ObjectStorage, era int) {
	o.mu.Lock()
	keep := era == o.era && len(o.idle) < maxIdleStores
	if keep {
		o.idle = append(o.idle, store)
	}
	o.mu.Unlock()
	if !keep {
		store.Close()
	}
}

func (o *objects) close() {
	o.mu.Lock()
	old := o.idle
	o.idle = nil
	o.mu.Unlock()
	for _, s := range old {
		s.Close()
	}
}

// acceptedOnly is a repository at dir without the quarantines in it: go-git
// would look into whichever it finds, and see pushes that may be refused.
type acceptedOnly struct{ billy.Filesystem }

func (a acceptedOnly) ReadDir(name string) ([]os.FileInfo, error) {
	all, err := a.Filesystem.ReadDir(name)
	return slices.DeleteFunc(all, func(i os.FileInfo) bool {
		return strings.HasPrefix(i.Name(), "tmp_objdir-") || strings.HasPrefix(i.Name(), "incoming-")
	}), err
}

// objectsAt is a repository that has nothing but objects, those in dir.
func objectsAt(dir string) billy.Filesystem { return objectsOnly{osfs.New(dir)} }

// objectsOnly shows an objects directory where go-git looks for it: at
// "objects" in a repository.
type objectsOnly struct{ billy.Filesystem }

func inside(p string) (string, error) {
	p = path.Clean("/" + p)
	if p == "/objects" {
		return "/", nil
	}
	if rest, ok := strings.CutPrefix(p, "/objects/"); ok {
		return rest, nil
	}
	return "", &fs.PathError{Op: "open", Path: p, Err: os.ErrNotExist}
}

func (o objectsOnly) Open(name string) (billy.File, error) {
	p, err := inside(name)
	if err != nil {
		return nil, err
	}
	return o.Filesystem.Open(p)
}

func (o objectsOnly) Stat(name string) (os.FileInfo, error) {
	p, err := inside(name)
	if err != nil {
		return nil, err
	}
	return o.Filesystem.Stat(p)
}

func (o objectsOnly) ReadDir(name string) ([]os.FileInfo, error) {
	p, err := inside(name)
	if err != nil {
		return nil, err
	}
	return o.Filesystem.ReadDir(p)
}
