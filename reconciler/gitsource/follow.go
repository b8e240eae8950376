package gitsource

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// Watch calls hint when branch of the bare repository at dir, or of the git
// directory of any other, may have moved. It returns nil when ctx ends, and an
// error when the directory cannot be watched (any more). hint must not block.
func Watch(ctx context.Context, dir, branch string, hint func()) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	defer watcher.Close()
	f := follower{watcher: watcher, dir: dir, ref: filepath.Join("refs", "heads", filepath.FromSlash(branch))}
	if err := f.watch(); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	// It may have moved before it was watched.
	hint()
	return f.run(ctx, hint)
}

type follower struct {
	watcher *fsnotify.Watcher
	dir     string
	ref     string // path of the loose ref below dir
}

func (f *follower) run(ctx context.Context, hint func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, ok := <-f.watcher.Events:
			if !ok {
				return fmt.Errorf("watch %s: the watch ended", f.dir)
			}
			if !f.concerns(event.Name) {
				continue
			}
		case <-f.watcher.Errors:
			// Events were lost: look, as if one had come.
		}
		hint()
		// Directories of the ref come and go with packing: watch those there are.
		if err := f.watch(); err != nil {
			return fmt.Errorf("watch %s: %w", f.dir, err)
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
	return rel == "." || rel == "packed-refs" || rel == f.ref || strings.HasPrefix(f.ref, rel+string(filepath.Separator))
}
