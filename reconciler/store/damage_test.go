package store

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead/schema/wire"
)

// openAndExit is the child process of TestDamagedStore: it does what a master does
// with its store first, and ends as it would.
func openAndExit(dir string) {
	if os.Getenv("STORE_TEST_SMALL_DISK") != "" {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
			panic(err)
		}
	}
	if os.Getenv("STORE_TEST_NOBODY") != "" {
		if err := syscall.Setuid(nobody); err != nil {
			panic(err)
		}
	}
	c := Config{Dir: dir, SocketDir: os.Getenv("STORE_TEST_SOCKETS"), Log: quiet(), Now: start}
	if os.Getenv("STORE_TEST_IMPATIENT") != "" {
		c.startTimeout = time.Second
	}
	e, err := OpenEtcd(context.Background(), c)
	if err == nil {
		var l wire.Loaded
		if l, err = e.Load(context.Background()); err == nil {
			fmt.Println("records:", len(l.Records))
			os.Exit(0)
		}
	}
	fmt.Println("error:", err)
	os.Exit(1)
}

// nobody is a user to whom nothing belongs.
const nobody = 65534

// A store whose files are another user's ends the start at once and says whose they must
// be, and nobody is sent to move them away.
func TestStoreOfAnotherUser(t *testing.T) {
	whole := t.TempDir()
	fillStore(t, whole)
	for _, c := range []struct {
		name  string
		owned []string // by nobody, who opens it; below the store
	}{
		{"all of it", nil},
		{"its data", []string{".", "lock"}},
		{"its member", []string{".", "lock", "data"}},
		{"its database", []string{".", "lock", "served", "data", "data/member", "data/member/snap", "data/member/wal"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "store")
			must(t, err)
			t.Cleanup(func() { removeAll(t, dir) })
			must(t, os.CopyFS(dir, os.DirFS(whole)))
			for _, name := range c.owned {
				must(t, os.Chown(filepath.Join(dir, name), nobody, -1))
			}
			began := time.Now()
			code, out := opened(t, dir, "STORE_TEST_NOBODY=1")
			if code != 1 || !strings.Contains(out, "permission denied") || !strings.Contains(out, "the master runs as user 65534, to whom "+dir) || strings.Contains(out, "away") || strings.Contains(out, "goroutine ") {
				t.Errorf("ended with code %d: %s", code, out)
			}
			if took := time.Since(began); took > bootTimeout {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestDamagedStore damages a store's files in the ways in which disks and people
// do: opening it ends with what is wrong and what to do, without a stack, and never
// with a cluster that is missing something.
func TestDamagedStore(t *testing.T) {
	whole := t.TempDir()
	fillStore(t, whole)
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, member string)
		env    string
		want   string
	}{
		{name: "nothing", damage: func(*testing.T, string) {}, want: "records: 1"},
		{name: "the log's directory is gone", damage: func(t *testing.T, member string) { removeAll(t, member+"/wal") }, want: "write-ahead log is gone"},
		{name: "the log's files are gone", damage: func(t *testing.T, member string) { removeAll(t, files(t, member, "wal/*.wal")...) }, want: "write-ahead log is gone"},
		{name: "the log is cut", damage: func(t *testing.T, member string) { cut(t, 100, files(t, member, "wal/*.wal")...) }, env: "STORE_TEST_IMPATIENT=1", want: "may be older than its database"},
		{name: "the log is empty", damage: func(t *testing.T, member string) { cut(t, 0, files(t, member, "wal/*.wal")...) }},
		{name: "the log is zeroes", damage: func(t *testing.T, member string) { overwrite(t, 0, files(t, member, "wal/*.wal")...) }},
		{name: "the log is something else", damage: func(t *testing.T, member string) { overwrite(t, 0x5a, files(t, member, "wal/*.wal")...) }},
		{name: "the log is a directory", damage: func(t *testing.T, member string) {
			for _, f := range files(t, member, "wal/*.wal") {
				removeAll(t, f)
				must(t, os.Mkdir(f, 0o700))
			}
		}},
		{name: "the database is gone", damage: func(t *testing.T, member string) { removeAll(t, member+"/snap/db") }},
		{name: "the database is empty, its log whole", damage: func(t *testing.T, member string) { cut(t, 0, member+"/snap/db") }},
		{name: "the database is cut", damage: func(t *testing.T, member string) { cut(t, 5_000, member+"/snap/db") }},
		{name: "the database is something else", damage: func(t *testing.T, member string) { overwrite(t, 0x5a, member+"/snap/db") }},
		{name: "the snapshots are gone", damage: func(t *testing.T, member string) { removeAll(t, files(t, member, "snap/*.snap")...) }},
		{name: "the directory is a file", damage: func(t *testing.T, member string) {
			removeAll(t, member)
			must(t, os.WriteFile(member, nil, 0o600))
		}, want: "not a directory"},
		{name: "the disk is full", damage: func(t *testing.T, member string) { removeAll(t, filepath.Dir(member)) }, env: "STORE_TEST_SMALL_DISK=1", want: "make room on the disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			must(t, os.CopyFS(dir, os.DirFS(whole)))
			c.damage(t, filepath.Join(dir, "data", "member"))
			code, out := opened(t, dir, c.env)
			switch {
			case strings.Contains(out, "goroutine ") || code > 1:
				t.Errorf("ended with code %d: %s", code, out)
			case c.want != "" && !strings.Contains(out, c.want):
				t.Errorf("%q is not in %s", c.want, out)
			case c.want == "" && code == 1 && !strings.Contains(out, "move "+dir+" away"):
				t.Errorf("says nothing of what to do: %s", out)
			case code == 0 && !strings.Contains(out, "records: 1\n"):
				t.Errorf("records were lost in silence: %s", out)
			}
		})
	}
}

// A first start that is cut off between its database and its log is begun again.
func TestAStoreThatWasBegunIsBegunAgain(t *testing.T) {
	dir := t.TempDir()
	if code, out := opened(t, dir, "STORE_TEST_SMALL_DISK=1"); code != 1 || len(files(t, dir, "data/member/snap/db")) != 1 || len(files(t, dir, "data/member/wal/*.wal")) != 0 {
		t.Fatalf("the start was not cut off there: %d %s", code, out)
	}
	if code, out := opened(t, dir, ""); code != 0 || out != "records: 0\n" {
		t.Errorf("%d: %s", code, out)
	}
}

// opened is what a process of its own says that opens a store, and its exit code.
func opened(t *testing.T, dir, env string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	sockets := socketDir(t)
	if env == "STORE_TEST_NOBODY=1" {
		must(t, os.Chown(sockets, nobody, -1))
	}
	cmd.Env = append(os.Environ(), "STORE_TEST_OPENER="+dir, "STORE_TEST_SOCKETS="+sockets, env)
	said, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(said)
}

// fillStore makes a store of one record that was changed often enough for etcd to
// have made a snapshot and thrown its oldest log entries away.
func fillStore(t *testing.T, dir string) {
	t.Helper()
	e := openEtcd(t, dir)
	l, err := e.Load(t.Context())
	must(t, err)
	for round := range uint64(2 * snapshotCount) {
		must(t, e.Commit(t.Context(), wire.Batch{Round: round + 1, ResourceVersion: l.ResourceVersion, Writes: []wire.Write{put("Pod", "d", "p", l.ResourceVersion)}}))
	}
	must(t, e.Close())
	if len(files(t, filepath.Join(dir, "data", "member"), "snap/*.snap")) == 0 {
		t.Fatal("etcd has made no snapshot")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func files(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	must(t, err)
	return found
}

func removeAll(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		must(t, os.RemoveAll(p))
	}
}

func cut(t *testing.T, size int64, paths ...string) {
	t.Helper()
	for _, p := range paths {
		must(t, os.Truncate(p, size))
	}
}

// overwrite keeps a file's length.
func overwrite(t *testing.T, with byte, paths ...string) {
	t.Helper()
	for _, p := range paths {
		info, err := os.Stat(p)
		must(t, err)
		must(t, os.WriteFile(p, slices.Repeat([]byte{with}, int(info.Size())), 0o600))
	}
}
