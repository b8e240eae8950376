package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/control"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/store"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// timedStore tells what went to the disk.
type timedStore struct {
	*store.Etcd
	rounds, nanoseconds atomic.Int64
}

func (s *timedStore) Commit(ctx context.Context, b wire.Batch) error {
	start := time.Now()
	err := s.Etcd.Commit(ctx, b)
	s.rounds.Add(1)
	s.nanoseconds.Add(int64(time.Since(start)))
	return err
}

// sinceThen begins to count; the returned function says how many rounds there
// were and how long they were on their way to the disk.
func (s *timedStore) sinceThen() func() string {
	rounds, ns := s.rounds.Load(), s.nanoseconds.Load()
	return func() string {
		return fmt.Sprintf("%d rounds, %s of it on their way to the disk", s.rounds.Load()-rounds, duration(time.Duration(s.nanoseconds.Load()-ns)))
	}
}

// plane is a master's loop over its real store, in this process.
type plane struct {
	store  *timedStore
	feed   *state.Feed
	engine *settle.Engine
	loop   *reconciler.Loop
	stop   context.CancelFunc
	ended  chan error
}

// quietLog is for parts that also call it an error to be closed.
func quietLog() *logrus.Entry {
	log := logrus.New()
	log.SetLevel(logrus.FatalLevel)
	return logrus.NewEntry(log)
}

// openStore opens an empty store on the disk.
func openStore(ctx context.Context, dir string) (*store.Etcd, wire.Loaded, error) {
	s, err := store.OpenEtcd(ctx, store.Config{Dir: filepath.Join(dir, "etcd"), SocketDir: filepath.Join(dir, "run"), Log: quietLog(), Now: time.Now()})
	if err != nil {
		return nil, wire.Loaded{}, err
	}
	loaded, err := s.Load(ctx)
	if err != nil {
		return nil, loaded, errors.Join(err, s.Close())
	}
	return s, loaded, nil
}

func openPlane(ctx context.Context, dir, url string) (*plane, error) {
	s, loaded, err := openStore(ctx, dir)
	if err != nil {
		return nil, err
	}
	p := &plane{store: &timedStore{Etcd: s}, ended: make(chan error, 1)}
	p.engine = settle.NewEngine(control.Config{
		ServiceCIDR: netip.MustParsePrefix("10.96.0.0/16"), DNS: netip.MustParseAddr("10.96.0.10"), NodePortFirst: 30000, NodePortLast: 32767,
	})
	snapshot := state.Empty(state.Counters{ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations})
	p.feed = state.NewFeed(snapshot)
	src := schema.Source{ObjectMeta: metav1.ObjectMeta{Name: sourceName}, Spec: schema.OwnSourceSpec(schema.SourceSpec{URL: url})}
	schema.Default(&src)
	p.loop = reconciler.NewLoop(reconciler.LoopConfig{
		Machine: reconciler.NewMachine(p.engine, snapshot, []schema.Source{src}), Store: p.store, Feed: p.feed, Round: loaded.Round, Log: quietLog(), Now: time.Now,
	})
	ctx, p.stop = context.WithCancel(ctx)
	go func() { p.ended <- p.loop.Run(ctx) }()
	<-p.loop.Begun()
	return p, nil
}

func (p *plane) close() error {
	p.stop()
	return errors.Join(<-p.ended, p.store.Close())
}

// follow hands every change after version to look, in order, until look says
// that it has seen enough.
func (p *plane) follow(ctx context.Context, version uint64, look func(state.Change) (enough bool)) error {
	for {
		changes, snapshot, moved, ok := p.feed.Since(version)
		if !ok {
			return fmt.Errorf("version %d is forgotten: the watcher does not keep up", version)
		}
		for _, c := range changes {
			if look(c) {
				return nil
			}
		}
		version = snapshot.Counters().ResourceVersion
		select {
		case <-moved:
		case err := <-p.ended:
			p.ended <- err
			return errors.Join(errors.New("the loop ended"), err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// modelRange is the range of the i-th model node.
func modelRange(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 112 + byte(i>>14), byte(i >> 6), byte(i << 2)}), 30)
}

func modelNode(i int) schema.NodeName { return schema.NodeName(fmt.Sprintf("n%04d", i)) }

// modelNodeReport is that with what a registry would say of the node.
func modelNodeReport(i int) reconciler.NodeReport {
	r := modelReport(i)
	return reconciler.NodeReport{PodCIDR: modelRange(i).String(), Address: r.NodeIPs.First(), Report: r}
}

// modelReport is what the agent of the i-th model node says while nothing runs.
func modelReport(i int) wire.Report {
	room := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("16"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("250"),
	}
	return wire.Report{Node: modelNode(i), BootID: "bench", NodeIPs: schema.List[string]{fmt.Sprintf("172.16.%d.%d", i>>8, i&255)}, Capacity: room, Allocatable: room, Pods: []wire.PodReport{}}
}
