package gitsource

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Follow calls notify once at the start, when the branch may have moved, and at
// every interval; it returns when ctx ends or the repository cannot be watched.
// Changes seen while notify runs are one more call. A call is a hint to look:
// the branch may be where it was.
func Follow(ctx context.Context, repo *Repo, branch string, interval time.Duration, notify func()) error {
	dir := repo.Dir()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow %s: %w", dir, err)
	}
	defer watcher.Close()
	f := follower{watcher: watcher, dir: dir, ref: filepath.Join("refs", "heads", filepath.FromSlash(branch))}
	if err := f.watch(); err != nil {
		return fmt.Errorf("follow %s: %w", dir, err)
	}
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range wake {
			notify()
		}
	}()
	defer func() { close(wake); <-done }()
	return f.run(ctx, interval, wake)
}

type follower struct {
	watcher *fsnotify.Watcher
	dir     string
	ref     string // path of the loose ref below dir
}

func (f *follower) run(ctx context.Context, interval time.Duration, wake chan<- struct{}) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-f.watcher.Events:
			if !ok {
				return fmt.Errorf("follow %s: the watch ended", f.dir)
			}
			if !f.concerns(event.Name) {
				continue
			}
		case <-f.watcher.Errors:
			// Events were lost: look, as if one had come.
		case <-tick.C:
		}
		// Directories of the ref come and go with packing: watch those there are.
		if err := f.watch(); err != nil {
			return fmt.Errorf("follow %s: %w", f.dir, err)
		}
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}

// watch makes sure that every directory on the way to the loose ref is watched,
// and the repository itself for packed-refs. Watching twice is once.
func (f *follower) watch() error {
	if err := f.watcher.Add(f.dir); err != nil {
		return err
	}
	at := f.dir
	for _, part := range strings.Split(filepath.Dir(f.ref), string(filepath.Separator)) {
		at = filepath.Join(at, part)
		if err := f.watcher.Add(at); err != nil {
			if os.IsNotExist(err) {
				return nil
			}
			return err
		}
	}
	return nil
}

// concerns reports whether a changed path is packed-refs, the ref or a
// directory on the way to it; locks and other branches are not.
func (f *follower) concerns(name string) bool {
	rel, err := filepath.Rel(f.dir, name)
	if err != nil {
		return true
	}
	return rel == "packed-refs" || rel == f.ref || strings.HasPrefix(f.ref, rel+string(filepath.Separator))
}
