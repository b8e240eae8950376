package dirfd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent/mounttest"
)

func TestMain(m *testing.M) {
	mounttest.Own()
	if path := os.Getenv(findInEnv); path != "" {
		findAndTell(path)
	}
	goleak.VerifyTestMain(m)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func opened(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := Open(dir)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

// What is open stays open: its path may lead anywhere by then.
func TestADirIsNotItsPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	d := opened(t, dir)
	must(t, os.Rename(dir, dir+".moved"))
	must(t, os.Symlink("/", dir))
	f, err := d.Make("sub/new", 0o750)
	must(t, err)
	defer f.Close()
	want, err := os.Stat(dir + ".moved/sub/new")
	must(t, err)
	if got, err := f.Stat(); err != nil || !os.SameFile(got, want) || got.Mode().Perm() != 0o750 {
		t.Errorf("made %v, %v", got, err)
	}
}

func TestOpenFollowsNoLinkAtTheEnd(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink("/", link))
	if d, err := Open(link); err == nil {
		d.Close()
		t.Error("a link was opened")
	}
}

// A reader must not wait for what is no file, nor read what a link leads to.
func TestReadTakesRegularFilesAlone(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600))
	must(t, os.Symlink("file", filepath.Join(dir, "link")))
	must(t, os.Symlink(".", filepath.Join(dir, "here")))
	must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "out")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	d := opened(t, dir)
	f, err := d.Read("file")
	must(t, err)
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "text" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, name := range []string{"link", "here/file", "out", "pipe", ".", "../" + filepath.Base(dir) + "/file"} {
		if f, err := d.Read(name); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
	}
}

// Several make the same directories, as the containers of a pod's starts do.
func TestMakeIsDoneByWhoeverIsFirst(t *testing.T) {
	dir := t.TempDir()
	d := opened(t, dir)
	d.Between = func() { must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o711)) }
	f, err := d.Make("a/b/c", 0o755)
	must(t, err)
	defer f.Close()
	if info, err := os.Stat(filepath.Join(dir, "a/b/c")); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("got %v, %v: what another made keeps its permissions", info, err)
	}
}

// Whoever moves directories all the time gets an error and no directory outside.
func TestFindEndsThoughEverythingMoves(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "other"), 0o755))
	must(t, os.Symlink("a/b/c/../../b/../..", filepath.Join(dir, "x")))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(filepath.Join(dir, "a/b"), filepath.Join(dir, "other/b"))
			_ = os.Rename(filepath.Join(dir, "other/b"), filepath.Join(dir, "a/b"))
		}
	}()
	d := opened(t, dir)
	root, err := os.Stat(dir)
	must(t, err)
	for range 500 {
		f, err := d.Find("x")
		if err != nil {
			continue
		}
		if got, err := f.Stat(); err != nil || !os.SameFile(got, root) {
			t.Errorf("found %v, %v", got, err)
		}
		f.Close()
	}
	close(stop)
	<-stopped
}

func TestRemoveAll(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep")
	must(t, os.MkdirAll(filepath.Join(keep, "sub"), 0o755))
	for name, make := range map[string]func(t *testing.T, dir string){
		"nothing":  func(*testing.T, string) {},
		"a file":   func(t *testing.T, dir string) { must(t, os.WriteFile(dir, nil, 0o644)) },
		"a link":   func(t *testing.T, dir string) { must(t, os.Symlink(keep, dir)) },
		"empty":    func(t *testing.T, dir string) { must(t, os.Mkdir(dir, 0o000)) },
		"many":     func(t *testing.T, dir string) { fill(t, dir, 3*removeBatch) },
		"wide":     func(t *testing.T, dir string) { wide(t, dir) },
		"numbered": func(t *testing.T, dir string) { wide(t, dir); must(t, os.MkdirAll(filepath.Join(dir, "0/1/2"), 0o755)) },
		"deep":     func(t *testing.T, dir string) { deep(t, dir) },
		"a mount": func(t *testing.T, dir string) {
			must(t, os.Mkdir(dir, 0o755))
			must(t, unix.Mount(keep, dir, "", unix.MS_BIND, ""))
		},
		"two there": func(t *testing.T, dir string) { wide(t, dir); twice(t, filepath.Join(dir, "mount"), keep) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			make(t, dir)
			if err := RemoveAll(dir); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("still there: %v", err)
			}
			if _, err := os.Stat(filepath.Join(keep, "sub")); err != nil {
				t.Error(err)
			}
		})
	}
	must(t, RemoveAll(filepath.Join(keep, "no/such/parent")))
}

func fill(t *testing.T, dir string, n int) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	for i := range n {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), nil, 0o644))
	}
}

func wide(t *testing.T, dir string) {
	t.Helper()
	for i := range 10 {
		must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i), "a/b"), 0o755))
		must(t, os.MkdirAll(filepath.Join(dir, fmt.Sprint(i), "c"), 0o755))
		must(t, os.Symlink("/", filepath.Join(dir, fmt.Sprint(i), "a/root")))
	}
}

// deep makes more directories in each other than the process may have open, with
// a path longer than the kernel takes.
func deep(t *testing.T, dir string) {
	t.Helper()
	const depth = 600
	must(t, os.Mkdir(dir, 0o755))
	at, err := unix.Open(dir, unix.O_PATH, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(at, "directory", 0o755))
		next, err := unix.Openat(at, "directory", unix.O_PATH, 0)
		must(t, err)
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 256, Max: limit.Max}))
	t.Cleanup(func() { must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) })
}

func twice(t *testing.T, at, keep string) {
	t.Helper()
	must(t, os.Mkdir(at, 0o755))
	for range 2 {
		must(t, unix.Mount(keep, at, "", unix.MS_BIND, ""))
	}
}

// While directories are removed, one is swapped for a link, or mounted over.
func TestRemoveAllIsSwapped(t *testing.T) {
	for name, swap := range map[string]func(t *testing.T, path, keep string){
		"link": func(t *testing.T, path, keep string) {
			link := path + ".link"
			must(t, os.Symlink(keep, link))
			must(t, unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE))
		},
		"mount": func(t *testing.T, path, keep string) { must(t, unix.Mount(keep, path, "", unix.MS_BIND, "")) },
	} {
		for _, victim := range []string{"a", "a/b", "a/b/c"} {
			t.Run(strings.Join([]string{name, victim}, " "), func(t *testing.T) {
				keep, dir := t.TempDir(), filepath.Join(t.TempDir(), "dir")
				must(t, os.MkdirAll(filepath.Join(keep, "sub/sub"), 0o755))
				must(t, os.MkdirAll(filepath.Join(dir, "a/b/c/d"), 0o755))
				done := false
				r := &remover{between: func() {
					if _, err := os.Lstat(filepath.Join(dir, victim)); err == nil && !done {
						done = true
						swap(t, filepath.Join(dir, victim), keep)
					}
				}}
				if err := r.removeAll(dir); err != nil {
					t.Error(err)
				}
				if _, err := os.Stat(filepath.Join(keep, "sub/sub")); err != nil || !done {
					t.Errorf("swapped %v: %v", done, err)
				}
				if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("still there: %v", err)
				}
			})
		}
	}
}
