package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config is what OpenEtcd needs; all of it is required.
type Config struct {
	Dir       string        // the data, made if missing; disposable
	SocketDir string        // for etcd's unix socket, made if missing; etcd.sock in it serves etcdctl
	Log       *logrus.Entry // etcd's warnings and errors go here too, those of its start at level debug
	Now       time.Time     // where a new store's resourceVersion starts

	startTimeout time.Duration // a test's; 0 is the constant
}

// Etcd is the durable store: an etcd of one member in this process.
type Etcd struct {
	ledger
	client *clientv3.Client
	server *embed.Etcd
	lock   *os.File
}

// Bounds of the embedded member.
const (
	// bootTimeout covers opening the database, giving its free pages back and
	// reading the write-ahead log, with the largest file on a slow disk. Whatever
	// is wrong with them shows at once, not by the time it takes.
	bootTimeout = 5 * time.Minute
	// closeTimeout is how long an etcd that does not come to serve may take to
	// stop: it may wait for what never comes.
	closeTimeout = 4 * time.Second
	// quotaBytes bounds the database file; past it etcd refuses writes.
	quotaBytes = 4 << 30
	// snapshotCount bounds the write-ahead log that a start reads back, up to
	// maxTransactionBytes an entry, and as many entries are kept in memory before
	// they can go (measured with 10,000 objects: 500 cost 75 MB more than 100, and
	// batches of 128 are written as fast). Beyond them etcd keeps at most a hundred
	// and those for followers to catch up with, which this member has none of (0
	// would mean etcd's default, 5,000).
	snapshotCount        = 100
	snapshotCatchUpCount = 1
	// defragmentAbove is how many free megabytes in the file are given back at
	// the next start.
	defragmentAbove = 64
	// maxSocketPath is what fits into sockaddr_un with its final zero.
	maxSocketPath = 107
	// tick and electionTicks: a member that is alone still waits for up to so
	// many ticks at its start before it elects itself (measured: 120 ms on
	// average; etcd's own 100 ms ticks take 300 ms). Faster ticks cost an idle
	// master more, 0.5 % of a core at 25 ms.
	tick          = 40 * time.Millisecond
	electionTicks = 5
	// writers is how many transactions of a round are under way at once.
	writers = 8
	// pageKeys is how many keys one read fetches.
	pageKeys = 2_000
)

// startTimeout covers what comes after booting and takes a member that is alone a
// fraction of a second: electing itself and applying the log's last entries.
const startTimeout = 25 * time.Second

// OpenEtcd locks the directory, starts etcd on it and waits until it serves.
// Load comes next. A directory in use by another process is refused at once.
func OpenEtcd(ctx context.Context, c Config) (*Etcd, error) {
	socket := filepath.Join(c.SocketDir, "etcd.sock")
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("open store: socket path %s has %d bytes, at most %d are possible: choose a shorter run directory", socket, len(socket), maxSocketPath)
	}
	for _, dir := range []string{c.Dir, c.SocketDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("open store: %w", usable(dir, err))
		}
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	server, err := startEtcd(ctx, c, socket)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("open store %s: %w", c.Dir, err)
	}
	e := &Etcd{client: v3client.New(server.Server), server: server, lock: lock}
	e.ledger = ledger{engine: &etcdEngine{e.client}, now: c.Now, log: c.Log, writers: writers}
	return e, nil
}

// lockDir holds an advisory lock until the file is closed or the process ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, usable(dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another process", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

func startEtcd(ctx context.Context, c Config, socket string) (*embed.Etcd, error) {
	// The lock says that nobody else is here: a socket in the way is a dead
	// process's.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := missingLog(c.Dir); err != nil {
		return nil, err
	}
	log := newLogrusCore(c.Log)
	server, err := bootEtcd(ctx, etcdConfig(c, socket, log), log)
	if err != nil {
		return nil, advised(c.Dir, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cmp.Or(c.startTimeout, startTimeout), errNotReady)
	defer cancel()
	select {
	case <-server.Server.ReadyNotify():
		log.start.Store(nil)
		if err = os.WriteFile(filepath.Join(c.Dir, served), nil, 0o600); err == nil {
			return server, nil
		}
	case err = <-server.Err():
	case err = <-log.start.Load().died:
		return nil, advised(c.Dir, err) // what it left half done would make Close wait
	case <-server.Server.StopNotify():
		err = errors.New("etcd stopped")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	closed := make(chan struct{})
	go func() {
		server.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
	return nil, advised(c.Dir, err)
}

// bootEtcd starts etcd on its files. Where they are damaged etcd does not return an
// error: it logs one as fatal or panics, and would take the process with it before
// anybody is told what to do.
func bootEtcd(ctx context.Context, cfg *embed.Config, log *logrusCore) (*embed.Etcd, error) {
	booted := make(chan *embed.Etcd, 1)
	start := log.start.Load()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				start.die(fmt.Errorf("etcd cannot read its files (%v)", p))
			}
		}()
		server, err := embed.StartEtcd(cfg)
		if err != nil {
			start.die(err)
			return
		}
		booted <- server
	}()
	select {
	case server := <-booted:
		return server, nil
	case err := <-start.died:
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(bootTimeout):
		return nil, errNotReady
	}
}

var errNotReady = errors.New("etcd did not become ready; its write-ahead log may be older than its database")

// served is the file that tells a store which served before from one whose first
// start was cut off: that one may have a database and no log yet, and begins again.
const served = "served"

// missingLog refuses a database without its write-ahead log. Etcd would begin a new
// log, in which nothing is as new as the database already is, and wait for ever.
func missingLog(dir string) error {
	member := filepath.Join(dir, "data", "member")
	for _, file := range []string{filepath.Join(dir, served), filepath.Join(member, "snap", "db")} {
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	logs, err := filepath.Glob(filepath.Join(member, "wal", "*.wal"))
	if err != nil || len(logs) > 0 {
		return err
	}
	return advised(dir, errors.New("etcd's write-ahead log is gone"))
}

// usable tells what to do about a directory that cannot be written to. Any other error is
// of its path, which it names.
func usable(dir string, err error) error {
	for _, known := range []error{os.ErrPermission, syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, known) {
			return advised(dir, err)
		}
	}
	return err
}

// advised tells what to do about a store that does not start.
func advised(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return fmt.Errorf("%w: make room on the disk and start the master again", err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: the master runs as user %d, to whom %s and all in it must belong; change the owner, or start the master as the one they belong to", err, os.Geteuid(), dir)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: mount the file system of %s for writing and start the master again", err, dir)
	case errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("%w: if the disk is sound, move %s away, keep git and pki beside it, and start the master again; the nodes bring the cluster's state back (docs/operations.md)", err, dir)
}

func etcdConfig(c Config, socket string, log *logrusCore) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "fairlead"
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.Dir = filepath.Join(c.Dir, "data")
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ListenPeerUrls = nil // alone: the advertised peer address is a name nobody dials
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(log, zap.WithFatalHook(log.end(zapcore.WriteThenFatal)), zap.WithPanicHook(log.end(zapcore.WriteThenPanic))))
	cfg.TickMs = uint(tick.Milliseconds())
	cfg.ElectionMs = electionTicks * cfg.TickMs
	cfg.QuotaBackendBytes = quotaBytes
	cfg.MaxTxnOps = MaxWritesPerTransaction + 3 // the round, the counters, and what was missing
	cfg.MaxRequestBytes = MaxObjectBytes + maxTransactionBytes
	cfg.SnapshotCount = snapshotCount
	cfg.SnapshotCatchUpEntries = snapshotCatchUpCount
	cfg.MaxSnapFiles = 2
	cfg.MaxWalFiles = 2
	cfg.BootstrapDefragThresholdMegabytes = defragmentAbove
	return cfg
}

// Close stops etcd and gives the directory free. Closing again does nothing.
func (e *Etcd) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server == nil {
		return nil
	}
	e.loaded = false
	_ = e.client.Close() // says only that its context, which this ends, was ended
	e.server.Close()
	e.server = nil
	if err := e.lock.Close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// etcdEngine is etcd's client as an engine.
type etcdEngine struct{ client *clientv3.Client }

func (e *etcdEngine) apply(ctx context.Context, when condition, ops []op) (bool, int64, error) {
	var compare []clientv3.Cmp
	switch {
	case when == condition{}:
	case when.value == "":
		compare = append(compare, clientv3.Compare(clientv3.CreateRevision(when.key), "=", 0))
	default:
		compare = append(compare, clientv3.Compare(clientv3.Value(when.key), "=", when.value))
	}
	then := make([]clientv3.Op, len(ops))
	for i, o := range ops {
		if o.value == nil {
			then[i] = clientv3.OpDelete(o.key)
		} else {
			then[i] = clientv3.OpPut(o.key, "")
			then[i].WithValueBytes(o.value)
		}
	}
	resp, err := e.client.Txn(ctx).If(compare...).Then(then...).Commit()
	if err != nil {
		return false, 0, err
	}
	return resp.Succeeded, resp.Header.Revision, nil
}

func (e *etcdEngine) get(ctx context.Context, key string) (entry, bool, error) {
	resp, err := e.client.Get(ctx, key)
	if err != nil || len(resp.Kvs) == 0 {
		return entry{}, false, err
	}
	kv := resp.Kvs[0]
	return entry{key, kv.Value, kv.ModRevision}, true, nil
}

func (e *etcdEngine) scan(ctx context.Context, prefix string, revision int64, keysOnly bool, visit func(entry) error) error {
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageKeys), clientv3.WithRev(revision)}
		if keysOnly {
			opts = append(opts, clientv3.WithKeysOnly())
		}
		resp, err := e.page(ctx, from, opts)
		if err != nil {
			return err
		}
		for _, kv := range resp.Kvs {
			if err := visit(entry{string(kv.Key), kv.Value, kv.ModRevision}); err != nil {
				return err
			}
		}
		if !resp.More {
			return nil
		}
		revision = resp.Header.Revision
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

func (e *etcdEngine) page(ctx context.Context, from string, opts []clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return e.client.Get(ctx, from, opts...)
}

func (e *etcdEngine) compact(ctx context.Context, revision int64) error {
	_, err := e.client.Compact(ctx, revision)
	return err
}
