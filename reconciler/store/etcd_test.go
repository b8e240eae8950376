package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"fairlead/schema/wire"
)

// TestMain lets the test binary be the writer that is killed in the middle of a
// round.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_WRITER"); dir != "" {
		writeUntilKilled(dir)
	}
	if dir := os.Getenv("STORE_TEST_OPENER"); dir != "" {
		openAndExit(dir)
	}
	goleak.VerifyTestMain(m)
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// socketDir is short, whatever the test's name.
func socketDir(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openEtcd(tb testing.TB, dir string) *Etcd {
	tb.Helper()
	e, err := OpenEtcd(context.Background(), Config{Dir: dir, SocketDir: socketDir(tb), Log: quiet(), Now: start})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { e.Close() })
	return e
}

// faulty is an engine with Memory's faults.
type faulty struct {
	*etcdEngine
	writers int // of the ledgers on it

	mu    sync.Mutex
	fault func(keys int) Fault
	late  []transaction
}

func (f *faulty) apply(ctx context.Context, when condition, ops []op) (bool, int64, error) {
	fault := NoFault
	f.mu.Lock()
	if f.fault != nil {
		fault = f.fault(len(ops))
	}
	if fault == FaultLate {
		f.late = append(f.late, transaction{when, slices.Clone(ops)})
	}
	f.mu.Unlock()
	switch fault {
	case FaultLost, FaultLate:
		return false, 0, errFault
	case FaultSent:
		_, _, err := f.etcdEngine.apply(ctx, when, ops)
		return false, 0, errors.Join(errFault, err)
	}
	return f.etcdEngine.apply(ctx, when, ops)
}

type etcdHandle struct {
	*ledger
	faulty *faulty
}

func (h etcdHandle) another() handleUnderTest {
	return etcdHandle{&ledger{engine: h.faulty, now: start, log: quiet(), writers: h.faulty.writers}, h.faulty}
}

func (h etcdHandle) inject(f func(keys int) Fault) { h.faulty.fault = f }

func (h etcdHandle) raw() engine { return h.faulty.etcdEngine }

func (h etcdHandle) deliver() {
	for _, t := range h.faulty.late {
		if _, _, err := h.faulty.etcdEngine.apply(context.Background(), t.when, t.ops); err != nil {
			panic(err)
		}
	}
	h.faulty.late = nil
}

// etcdBackend empties one etcd for each store that a test opens.
func etcdBackend(t *testing.T, writers int) backend {
	engine := openEtcd(t, t.TempDir()).engine.(*etcdEngine)
	return backend{func(t *testing.T) handleUnderTest {
		emptyEtcd(t, engine)
		return etcdHandle{faulty: &faulty{etcdEngine: engine, writers: writers}}.another()
	}}
}

func emptyEtcd(t *testing.T, e *etcdEngine) {
	t.Helper()
	if _, err := e.client.Delete(context.Background(), prefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
}

func TestEtcdContract(t *testing.T) { runContract(t, etcdBackend(t, writers)) }

func TestEtcdModel(t *testing.T) { runModel(t, etcdBackend(t, writers)) }

// A round is kept the same way when its transactions happen one after the other.
func TestEtcdContractInOrder(t *testing.T) { runContract(t, etcdBackend(t, 1)) }

// writeUntilKilled commits a round of three transactions and is killed by the
// kernel where its parent said: after the second was applied.
func writeUntilKilled(dir string) {
	ctx := context.Background()
	e, err := OpenEtcd(ctx, Config{Dir: dir, SocketDir: dir, Log: quiet(), Now: start})
	if err != nil {
		panic(err)
	}
	l, err := e.Load(ctx)
	if err != nil {
		panic(err)
	}
	if l.Round == 0 {
		b := upheaval(l)
		for i := range 300 {
			b.Writes = append(b.Writes, put("Pod", "d", fmt.Sprintf("p%d", i), l.ResourceVersion))
		}
		if err := e.Commit(ctx, b); err != nil {
			panic(err)
		}
		l = after(l, b)
	}
	k := &killing{engine: e.engine}
	k.left.Store(2)
	e.engine = k
	fmt.Println("committing", l.Round+1)
	if err := e.Commit(ctx, upheaval(l)); err != nil {
		panic(err)
	}
}

type killing struct {
	engine
	left atomic.Int32
}

func (k *killing) apply(ctx context.Context, when condition, ops []op) (bool, int64, error) {
	held, revision, err := k.engine.apply(ctx, when, ops)
	if k.left.Add(-1) == 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return held, revision, err
}

func TestWriterKilledInTheMiddleOfARound(t *testing.T) {
	dir := socketDir(t)
	for range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+dir)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || !strings.Contains(string(out), "committing 2") {
			t.Fatalf("the writer was not killed in round 2: %v\n%s", err, out)
		}
	}
	e := openEtcd(t, dir)
	got, err := e.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Round != 1 || len(got.Records) != 400 || got.Term != 3 {
		t.Errorf("got round %d, %d records, term %d, want round 1, 400 records, term 3", got.Round, len(got.Records), got.Term)
	}
	for _, r := range got.Records {
		if r.ResourceVersion > got.ResourceVersion {
			t.Errorf("%s has resourceVersion %d, the counter is %d", r.Key, r.ResourceVersion, got.ResourceVersion)
		}
	}
}

func TestReopen(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	e := openEtcd(t, dir)
	fill(t, etcdHandle{ledger: &e.ledger}, 500)
	want := load(t, etcdHandle{ledger: &e.ledger})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Commit(t.Context(), wire.Batch{Round: 9}); !errors.Is(err, ErrNotLoaded) {
		t.Errorf("after Close: got %v, want ErrNotLoaded", err)
	}
	again := openEtcd(t, dir)
	want.Term++
	diff(t, load(t, etcdHandle{ledger: &again.ledger}), want)
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	dir := t.TempDir()
	openEtcd(t, dir)
	_, err := OpenEtcd(t.Context(), Config{Dir: dir, SocketDir: socketDir(t), Log: quiet(), Now: start})
	if err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("got %v, want that the directory is in use", err)
	}
}

func TestSocketPathTooLong(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", maxSocketPath))
	_, err := OpenEtcd(t.Context(), Config{Dir: t.TempDir(), SocketDir: long, Log: quiet(), Now: start})
	if err == nil || !strings.Contains(err.Error(), "at most 107") {
		t.Errorf("got %v, want a word on the limit", err)
	}
}

// A store in use listens on its unix socket and nowhere else.
func TestNoNetworkPorts(t *testing.T) {
	before := listening(t)
	e := openEtcd(t, t.TempDir())
	if got := listening(t); !slices.Equal(got, before) {
		t.Errorf("this process listens on %v, before the store was opened on %v", got, before)
	}
	if _, err := os.Stat(e.server.Clients[0].Addr().String()); err != nil {
		t.Error(err)
	}
}

// listening finds the TCP ports this process listens on.
func listening(t *testing.T) []string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]bool{}
	for _, fd := range fds {
		link, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			ours[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var out []string
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for scan := bufio.NewScanner(f); scan.Scan(); {
			const stateListen = "0A"
			if fields := strings.Fields(scan.Text()); len(fields) > 9 && fields[3] == stateListen && ours[fields[9]] {
				out = append(out, fields[1])
			}
		}
	}
	return out
}

// etcd writes nothing by itself either: once it has told itself of its own start
// (its member's name, the cluster's version), its applied index stands still.
func TestIdleWritesNothing(t *testing.T) {
	e := openEtcd(t, t.TempDir())
	fill(t, etcdHandle{ledger: &e.ledger}, 10)
	const quiet = 300 * time.Millisecond
	before := e.server.Server.AppliedIndex()
	for deadline := time.Now().Add(10 * time.Second); ; {
		time.Sleep(quiet)
		after := e.server.Server.AppliedIndex()
		if after == before && e.server.Server.ClusterVersion() != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log still grows, from %d to %d in %s", before, after, quiet)
		}
		before = after
	}
}

func TestEtcdWarnsInOurLog(t *testing.T) {
	var out strings.Builder
	log := logrus.New()
	log.SetOutput(&out)
	core := newLogrusCore(logrus.NewEntry(log))
	z := zap.New(core).With(zap.String("member", "m"))
	z.Warn("chatter")
	core.start.Store(nil)
	z.Info("chatter")
	z.Warn("slow disk", zap.Duration("took", time.Second))
	z.Error("bad disk")
	got := out.String()
	for _, want := range []string{`level=warning msg="slow disk" component=etcd member=m took=1s`, `level=error msg="bad disk"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	if strings.Contains(got, "chatter") {
		t.Errorf("chatter came through:\n%s", got)
	}
}

// BenchmarkCommit writes batches of 128 pods of 1 KB, each durable before the
// next.
func BenchmarkCommit(b *testing.B) {
	e := openEtcd(b, b.TempDir())
	l, err := e.Load(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	object := []byte(strings.Repeat("x", 1_000))
	round := uint64(0)
	for b.Loop() {
		round++
		batch := wire.Batch{Round: round, ResourceVersion: l.ResourceVersion, Writes: make([]wire.Write, MaxWritesPerTransaction)}
		for i := range batch.Writes {
			w := put("Pod", "bench", fmt.Sprint(round*128%20_000+uint64(i)), l.ResourceVersion)
			w.Record.Object = object
			batch.Writes[i] = w
		}
		if err := e.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(round*MaxWritesPerTransaction)/b.Elapsed().Seconds(), "writes/s")
}

// BenchmarkOpen starts on 10,000 objects until they are loaded.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	e := openEtcd(b, dir)
	l, err := e.Load(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	batch := wire.Batch{Round: 1, ResourceVersion: l.ResourceVersion}
	for i := range 10_000 {
		w := put("Pod", "bench", fmt.Sprint(i), l.ResourceVersion)
		w.Record.Object = []byte(strings.Repeat("x", 1_000))
		batch.Writes = append(batch.Writes, w)
	}
	if err := e.Commit(b.Context(), batch); err != nil {
		b.Fatal(err)
	}
	e.Close()
	for b.Loop() {
		e := openEtcd(b, dir)
		if l, err := e.Load(b.Context()); err != nil || len(l.Records) != 10_000 {
			b.Fatal(len(l.Records), err)
		}
		b.StopTimer()
		e.Close()
		b.StartTimer()
	}
}
