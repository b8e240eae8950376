package podman

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/bindings/images"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"fairlead/nodeagent"
	"fairlead/nodeagent/mounttest"
	"fairlead/schema"
)

const testImage = "localhost/fairlead-test/program:1"

var (
	testRoot    string // everything on disk
	testProgram string // the image's one file
)

func TestMain(m *testing.M) {
	if isFuzzing() {
		os.Exit(m.Run()) // no fuzz target needs Podman
	}
	mounttest.Own()
	os.Exit(inside(m))
}

// isFuzzing reports whether this process fuzzes or is one that go test made for it.
func isFuzzing() bool {
	return slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz") })
}

// inside runs the tests with a program for their image, below a directory that goes
// with all that Podman mounted there.
func inside(m *testing.M) (code int) {
	fail := func(err error) int { fmt.Fprintln(os.Stderr, err); return 1 }
	var err error
	if testRoot, err = os.MkdirTemp("", "fl-podman-"); err != nil {
		return fail(err)
	}
	defer func() {
		if err := unmountAll(testRoot); err != nil {
			code = fail(err)
		}
		if err := os.RemoveAll(testRoot); err != nil {
			code = fail(err)
		}
	}()
	testProgram = filepath.Join(testRoot, "program")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", testRoot+"/", "fairlead/nodeagent/runtimetest/program", "fairlead/cmd/fairlead-oci")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("build the test program: %w: %s", err, out))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(c int) { code = c }))
	return code
}

// unmountAll takes away what Podman left mounted below dir, deepest first.
func unmountAll(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	lines := bytes.Split(mounts, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		f := bytes.Fields(lines[i])
		if len(f) > 4 && bytes.HasPrefix(f[4], []byte(dir+"/")) {
			if err := unix.Unmount(string(f[4]), unix.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", f[4], err)
			}
		}
	}
	return nil
}

// service starts a Podman with storage of its own and the test image in it.
func service(t *testing.T, name string, change func(*Config)) *Podman {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg := Config{
		Node: schema.NodeName(name), StorageDir: filepath.Join(testRoot, name, "storage"), RunDir: filepath.Join(testRoot, name, "run"),
		CgroupParent: fmt.Sprintf("/fairlead/test-%d/%s", os.Getpid(), name), Helper: filepath.Join(testRoot, "fairlead-oci"),
		NoImage: nodeagent.ErrNoImage, NoRegistry: nodeagent.ErrNoRegistry, Denied: nodeagent.ErrDenied, NodeFails: nodeagent.ErrNode, Unavailable: nodeagent.ErrUnavailable, Log: logrus.NewEntry(log),
	}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, p)
	t.Cleanup(func() { sweep(t, p) })
	return p
}

// run keeps the service up until the test ends.
func run(t *testing.T, p *Podman) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	await(t, "the service answers", func() bool { _, err := p.List(ctx); return err == nil })
	return stop
}

func sweep(t *testing.T, p *Podman) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := p.List(ctx)
	if err != nil {
		t.Errorf("sweep: %v", err)
	}
	for _, f := range list {
		if err := p.Remove(ctx, f.ID); err != nil {
			t.Errorf("sweep: %v", err)
		}
	}
	if err := p.cgroup.remove(ctx, p.cfg.CgroupParent, releaseWait); err != nil {
		t.Errorf("sweep: %v", err)
	}
	_ = p.cgroup.remove(ctx, filepath.Dir(p.cfg.CgroupParent), 0) // other tests may use it still
}

// importImage makes an image of the test program alone.
func importImage(t *testing.T, p *Podman) {
	t.Helper()
	c, err := p.call(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(testProgram)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "program", Mode: 0o755, Size: int64(len(data))})
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = images.Import(c, &b, new(images.ImportOptions).WithReference(testImage).WithChanges([]string{`ENTRYPOINT ["/program"]`}))
	if err != nil {
		t.Fatalf("import: %v", err)
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
