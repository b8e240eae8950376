package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler/store"
	"fairlead/schema"
)

const (
	masterStarts = 5
	readyTimeout = 30 * time.Second
	readyPoll    = 2 * time.Millisecond
	pushTimeout  = 3 * time.Minute
	endTimeout   = 10 * time.Second
	// memoryPause lets a process give back what its start needed.
	memoryPause = 10 * time.Second
	// storeApart is this program holding a store open and nothing else.
	storeApart = "store"
)

// starts measures P18, and P17 with 10,000 objects, on masters without nodes.
func starts(ctx context.Context, b *bench) ([]row, error) {
	var fresh, freshStore samples
	for i := range masterStarts {
		m := b.newMaster(fmt.Sprintf("fresh-%d", i))
		if err := m.start(ctx); err != nil {
			return nil, err
		}
		fresh = append(fresh, m.ready)
		if err := m.end(); err != nil {
			return nil, err
		}
		store, err := b.storeAlone(ctx, filepath.Join(b.work, fmt.Sprintf("store-%d", i)))
		if err != nil {
			return nil, err
		}
		freshStore = append(freshStore, store.took)
	}
	m := b.newMaster("full")
	filled, err := m.fill(ctx, b)
	if err != nil {
		return nil, err
	}
	var full, fullStore samples
	var idle memory
	var alone storeFigures
	for i := range masterStarts {
		if err := m.start(ctx); err != nil {
			return nil, err
		}
		full = append(full, m.ready)
		if i == 0 {
			if err := pause(ctx, memoryPause); err != nil {
				return nil, errors.Join(err, m.end())
			}
			var err error
			if idle, err = memoryOf(m.cmd.Process.Pid); err != nil {
				return nil, errors.Join(err, m.end())
			}
		}
		if err := m.end(); err != nil {
			return nil, err
		}
		var err error
		if alone, err = b.storeAlone(ctx, m.dir); err != nil {
			return nil, err
		}
		fullStore = append(fullStore, alone.took)
	}
	note := fmt.Sprintf("10,000 objects in Git, %d in the store", alone.records)
	return []row{
		{bar: "P18", what: "master ready, fresh", measured: duration(fresh.median()), goal: goal{mostRatio: 1.5}, against: "its store alone", baseline: duration(freshStore.median())},
		{bar: "P18", what: "master ready, 10,000 objects", measured: duration(full.median()), goal: goal{mostRatio: 1.5}, against: "its store alone", baseline: duration(fullStore.median()), note: note},
		{bar: "P17", what: "master, 10,000 objects: anonymous memory", measured: megabytes(idle.anonymous), goal: goal{most: quantity{200, "MB"}}, against: "its store alone", baseline: megabytes(alone.idle.anonymous),
			note: fmt.Sprintf("after a start; resident, with the file pages of the binary and the store: %s", megabytes(idle.resident))},
		{bar: "P17", what: "the same, after the push that brought them", measured: megabytes(filled.anonymous), goal: goal{most: quantity{200, "MB"}},
			note: fmt.Sprintf("%v after it came to rest; what its files were decoded to is kept for the next push; resident: %s", memoryPause, megabytes(filled.resident))},
	}, nil
}

// masterProcess is one `fairlead master` in a directory of its own.
type masterProcess struct {
	dir, binary, address string
	cmd                  *exec.Cmd
	log                  *os.File
	ready                time.Duration // from the start of the process to its first answer
}

func (b *bench) newMaster(name string) *masterProcess {
	return &masterProcess{dir: filepath.Join(b.work, name), binary: filepath.Join(b.bin, "fairlead")}
}

// start returns when the master answers that it is ready.
func (m *masterProcess) start(ctx context.Context) error {
	if err := m.configure(); err != nil {
		return err
	}
	var err error
	if m.log, err = os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	m.cmd = exec.CommandContext(ctx, m.binary, "master", "--config", filepath.Join(m.dir, "config.yaml"))
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	began := time.Now()
	if err := m.cmd.Start(); err != nil {
		return err
	}
	if err := m.awaitReady(ctx); err != nil {
		log, _ := os.ReadFile(m.log.Name())
		return errors.Join(err, fmt.Errorf("the master says: %s", log), m.end())
	}
	m.ready = time.Since(began)
	return nil
}

func (m *masterProcess) configure() error {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.address = l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(m.dir, "run"), 0o700); err != nil {
		return err
	}
	return config.Write(filepath.Join(m.dir, "config.yaml"), config.Master{
		Dir: m.dir, RunDir: filepath.Join(m.dir, "run"), Listen: m.address, Advertise: m.address,
		PodCIDRs: schema.List[string]{"10.112.0.0/12"}, ServiceCIDRs: schema.List[string]{"10.96.0.0/16"}, DNS: schema.List[string]{"10.96.0.10"}, NodePorts: "30000-32767", ClusterDomain: "cluster.local",
		Sources: []config.Source{{Name: sourceName, Spec: schema.SourceSpec{Embedded: true}}},
	})
}

func (m *masterProcess) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	// Whose certificate it is does not matter here: nobody else has the port.
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+m.address+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(readyPoll):
		case <-ctx.Done():
			return fmt.Errorf("the master is not ready: %w", ctx.Err())
		}
	}
}

func (m *masterProcess) end() error { return errors.Join(endProcess(m.cmd), m.log.Close()) }

// endProcess asks a process to end and insists after a while.
func endProcess(cmd *exec.Cmd) error {
	insist := time.AfterFunc(endTimeout, func() { _ = cmd.Process.Kill() })
	defer insist.Stop()
	err := cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	_ = cmd.Wait() // how it ended is not measured
	return err
}

// fill pushes 10,000 objects, waits until the master has nothing more to do with
// them, and ends it. It returns what the master occupied then.
func (m *masterProcess) fill(ctx context.Context, b *bench) (held memory, err error) {
	if err := m.start(ctx); err != nil {
		return held, err
	}
	defer func() { err = errors.Join(err, m.end()) }()
	r, err := newRepository(ctx, filepath.Join(b.work, "objects.git"))
	if err != nil {
		return held, err
	}
	if err := r.commit(ctx, "all", manyObjects(10_000)); err != nil {
		return held, err
	}
	pushing, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	if _, err := r.git(pushing, "push", "--quiet", filepath.Join(m.dir, "git", sourceName+".git"), "main"); err != nil {
		return held, err
	}
	if err := errors.Join(m.awaitRest(ctx), pause(ctx, memoryPause)); err != nil {
		return held, err
	}
	return memoryOf(m.cmd.Process.Pid)
}

// awaitRest waits until the master burns no more time.
func (m *masterProcess) awaitRest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	for last := time.Duration(-1); ; {
		now, err := cpuOf(m.cmd.Process.Pid)
		if err != nil {
			return err
		}
		if last >= 0 && now-last < restPause/10 {
			return nil
		}
		last = now
		select {
		case <-time.After(2 * restPause):
		case <-ctx.Done():
			return fmt.Errorf("the master does not come to rest: %w", ctx.Err())
		}
	}
}

// storeFigures are of a process that opens a store and reads it.
type storeFigures struct {
	took    time.Duration // until everything is read
	records int
	idle    memory // when what was read is forgotten again
}

// storeAlone measures the store in dir/etcd without the rest of a master.
func (b *bench) storeAlone(ctx context.Context, dir string) (f storeFigures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		return f, err
	}
	cmd := exec.CommandContext(ctx, self, "-apart", storeApart, "-work", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return f, err
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, endProcess(cmd)) }()
	lines := bufio.NewReader(out)
	if _, err := fmt.Fscanln(lines, &f.records); err != nil {
		return f, fmt.Errorf("store alone: %w", err)
	}
	f.took = time.Since(began)
	var idle string
	if _, err := fmt.Fscanln(lines, &idle); err != nil {
		return f, fmt.Errorf("store alone: %w", err)
	}
	f.idle, err = memoryOf(cmd.Process.Pid)
	return f, err
}

// serveStore is the other side of storeAlone.
func (b *bench) serveStore(ctx context.Context) error {
	log := logrus.New()
	log.SetLevel(logrus.ErrorLevel)
	s, err := store.OpenEtcd(ctx, store.Config{Dir: filepath.Join(b.work, "etcd"), SocketDir: filepath.Join(b.work, "run"), Log: logrus.NewEntry(log), Now: time.Now()})
	if err != nil {
		return err
	}
	loaded, err := s.Load(ctx)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	fmt.Println(len(loaded.Records))
	loaded.Records = nil
	debug.FreeOSMemory()
	fmt.Println("idle")
	<-ctx.Done()
	return s.Close()
}
