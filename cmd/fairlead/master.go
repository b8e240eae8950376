package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/cmd/fairlead/internal/place"
	"fairlead/reconciler"
	"fairlead/reconciler/api"
	"fairlead/reconciler/control"
	"fairlead/reconciler/gitsource"
	"fairlead/reconciler/gitsource/hook"
	"fairlead/reconciler/progress"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/reconciler/store"
	"fairlead/reconciler/trust"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/wire"
)

func masterCommand() *cobra.Command {
	path := "/etc/fairlead/master.yaml"
	cmd := &cobra.Command{
		Use:   "master",
		Short: "Run the master: follows Git, decides, serves the API",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.ReadMaster(path)
			if err != nil {
				return err
			}
			log := logrus.WithField("daemon", "master")
			m, err := newMaster(cmd.Context(), c, log)
			if err != nil {
				return err
			}
			defer m.close()
			return m.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&path, "config", path, "configuration file")
	return cmd
}

// master is the daemon's parts, wired.
type master struct {
	config    config.Master
	log       *logrus.Entry
	authority *trust.Authority
	store     *store.Etcd
	feed      *state.Feed
	loop      *reconciler.Loop
	follower  *reconciler.Follower
	keeper    *work.Keeper
	refusals  sync.Map     // by node: why what it kept was not taken
	aside     atomic.Int64 // records that could not be read
	cue       *load.CUE
	kustomize *load.Kustomize
	loaded    *load.Cache
	api       *api.Server
	sources   *sources
}

func newMaster(ctx context.Context, c config.Master, log *logrus.Entry) (m *master, err error) {
	m = &master{config: c, log: log, cue: load.NewCUE(load.CUEConfig{Keep: true}), kustomize: load.NewKustomize(load.CUEConfig{Keep: true}), loaded: load.NewCache(0)}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	podCIDR, err := netip.ParsePrefix(c.PodCIDRs.First())
	if err != nil {
		return m, fmt.Errorf("configuration: podCIDR: %w", err)
	}
	serviceCIDR, err := netip.ParsePrefix(c.ServiceCIDRs.First())
	if err != nil {
		return m, fmt.Errorf("configuration: serviceCIDR: %w", err)
	}
	m.authority, err = trust.Open(filepath.Join(c.Dir, "pki"), trust.Config{Advertise: c.Hosts(), PodCIDR: podCIDR, ServiceCIDR: serviceCIDR, Now: time.Now})
	if err != nil {
		return m, err
	}
	controlConfig, err := controlConfig(c)
	if err != nil {
		return m, err
	}
	m.store, err = store.OpenEtcd(ctx, store.Config{Dir: filepath.Join(c.Dir, "etcd"), SocketDir: c.RunDir, Log: log, Now: time.Now()})
	if err != nil {
		return m, err
	}
	if m.sources, err = newSources(c, m.hookSocket(), m.authority, log); err != nil {
		return m, err
	}
	if err := m.openLoop(ctx, settle.NewEngine(controlConfig)); err != nil {
		return m, err
	}
	m.sources.loop, m.sources.feed, m.sources.follower = m.loop, m.feed, m.follower
	if err := m.sources.prepare(ctx, m.feed.Snapshot()); err != nil {
		return m, err
	}
	return m, m.openAPI()
}

func controlConfig(c config.Master) (control.Config, error) {
	var out control.Config
	var err error
	if out.ServiceCIDR, err = netip.ParsePrefix(c.ServiceCIDRs.First()); err != nil {
		return out, fmt.Errorf("configuration: serviceCIDR: %w", err)
	}
	if out.DNS, err = netip.ParseAddr(c.DNS.First()); err != nil {
		return out, fmt.Errorf("configuration: dns: %w", err)
	}
	out.EvictionAfter = c.EvictionAfter.Duration
	out.NodePortFirst, out.NodePortLast, err = c.NodePortRange()
	return out, err
}

func (m *master) hookSocket() string { return filepath.Join(m.config.RunDir, "hook.sock") }

func (m *master) openLoop(ctx context.Context, engine *settle.Engine) error {
	loaded, err := m.store.Load(ctx)
	if err != nil {
		return err
	}
	snapshot, unreadable := reconciler.Restore(loaded.Records, state.Counters{ResourceVersion: loaded.ResourceVersion, Creations: loaded.Creations})
	machine := reconciler.NewMachine(engine, snapshot, m.sources.configured)
	if err := m.setAside(ctx, machine, loaded.Aside, append(loaded.Unreadable, unreadable...)); err != nil {
		return err
	}
	if loaded.Round == 0 {
		machine.Recover(m.registered())
	}
	m.keeper = work.NewKeeper(m.authority.SealKey())
	m.feed = state.NewFeed(snapshot)
	m.loop = reconciler.NewLoop(reconciler.LoopConfig{
		Machine: machine, Store: m.store, Feed: m.feed, Round: loaded.Round, Log: m.log, Now: time.Now,
	})
	m.follower = &reconciler.Follower{Loop: m.loop, Feed: m.feed, Engine: engine, Load: m.load, Vault: reconciler.NewVault(m.authority.SealKey()), Now: time.Now}
	return nil
}

// load judges a tree as part of this cluster: it may lean on ConfigMaps and
// Secrets of other sources.
func (m *master) load(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
	first, last, _ := m.config.NodePortRange()
	services, _ := netip.ParsePrefix(m.config.ServiceCIDRs.First()) // it was parsed at the start
	snapshot := m.feed.Snapshot()
	var applied schema.Commit
	if src, ok := state.Source(snapshot, source); ok {
		applied = src.Status.Applied.Commit
	}
	r := load.Load(ctx, tree, spec, load.Options{
		CUE: m.cue, Kustomize: m.kustomize, Cache: m.loaded, Applied: applied, Source: source, Rights: &rights, KnownNamespaces: namespaces, NodePorts: load.PortRange{First: int32(first), Last: int32(last)},
		ServiceRange: services, Known: reconciler.KnownOutside(snapshot, source), Holder: reconciler.HolderOutside(snapshot, source),
	})
	return r.Objects, r.Diagnostics
}

func (m *master) openAPI() error {
	c := m.config
	var origin schema.Origin
	if first := m.sources.configured; len(first) > 0 {
		origin = schema.Origin{Source: schema.SourceName(first[0].Name), Path: first[0].Spec.Path}
	}
	var err error
	m.api, err = api.New(api.Config{
		Feed: m.feed, TLS: m.authority.ServerTLS(), Identify: m.identify, Origin: origin, Version: version, Log: m.log, Plan: m.plan,
		Beside: m.sources.beside(), Ready: m.recovered,
		Rounds: func() api.Rounds { return api.Rounds(m.loop.Rounds()) }, Aside: func() int { return int(m.aside.Load()) },
		Door: api.DoorConfig{
			Cluster:    wire.ClusterInfo{ID: m.authority.ClusterID(), PodCIDRs: c.PodCIDRs, ServiceCIDRs: c.ServiceCIDRs, DNS: c.DNS, Domain: c.ClusterDomain},
			OpenSecret: m.openSecret,
			Join:       m.join,
			Renew: func(_ context.Context, node schema.NodeName, req wire.RenewRequest) (wire.JoinResponse, error) {
				return m.authority.Renew(node, req)
			},
			Refused: trust.ErrJoinRefused,
			Report:  m.report,
			Keeper:  m.keeper, Recovering: m.recovered() != nil, Recover: m.recover,
		},
	})
	return err
}

func (m *master) identify(cs *tls.ConnectionState) (kind, name string) {
	k, name := trust.Identity(cs)
	switch k {
	case trust.Node:
		if _, ok := m.authority.Node(schema.NodeName(name)); ok {
			return api.CallerNode, name
		}
	case trust.Reader:
		return api.CallerReader, name
	}
	return "", ""
}

func (m *master) openSecret(namespace, name string) (map[string][]byte, bool) {
	return m.follower.Vault.OpenAt(m.feed.Snapshot(), namespace, name)
}

func (m *master) report(ctx context.Context, node schema.NodeName, r wire.Report) error {
	record, err := m.authority.SettleAddress(node, r.NodeIPs)
	in := reconciler.NodeReport{PodCIDR: record.PodCIDR.String(), Labels: record.Labels, Report: r}
	switch {
	case errors.Is(err, trust.ErrJoinRefused): // the node is told of with it
		in.NoAddress = err.Error()
	case err != nil:
		return err
	default:
		in.Address = record.Address.String()
	}
	return m.loop.Submit(ctx, in)
}

// plan answers a client that sends a tree or asks about nodes.
func (m *master) plan(ctx context.Context, req api.PlanRequest) (any, error) {
	q := reconciler.Question{Source: req.Source, Against: req.Against, Drain: req.Drain, Lose: req.Lose}
	if len(req.Files) > 0 || len(req.Drain)+len(req.Lose) == 0 {
		q.Tree = &schema.Tree{Commit: schema.CommitObject{Hash: req.Commit}, Faults: req.Faults}
	}
	if q.Tree != nil {
		m.putFiles(q.Tree, req)
	}
	if f := m.sources.get(req.Source); f != nil {
		if repo := f.repository(); repo != nil {
			q.Git = repo
		}
	}
	p, err := m.follower.Answer(ctx, q)
	if errors.Is(err, reconciler.ErrBadQuestion) {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return p, err
}

// putFiles puts the files of a request, and what is refused, into its tree: what is
// outside of the source's path is there for kustomizations below it.
func (m *master) putFiles(tree *schema.Tree, req api.PlanRequest) {
	reads := ""
	if src, ok := state.Get[*schema.Source](m.feed.Snapshot(), "", string(req.Source)); ok {
		reads = place.SourcePath(src.Spec)
	}
	outside := make(map[string]schema.Tree)
	at := func(name string, put func(*schema.Tree)) {
		of := outside[path.Dir(name)]
		put(&of)
		outside[path.Dir(name)] = of
	}
	for _, f := range req.Files {
		file := schema.File{Path: f.Path, Blob: &schema.Blob{Size: int64(len(f.Data)), Open: func() ([]byte, error) { return f.Data, nil }}}
		if place.Holds(reads, f.Path) {
			tree.Files = append(tree.Files, file)
		} else {
			at(f.Path, func(t *schema.Tree) { t.Files = append(t.Files, file) })
		}
	}
	for _, d := range req.Refused {
		if place.Holds(reads, d.Path) {
			tree.Refused = append(tree.Refused, d)
		} else {
			at(d.Path, func(t *schema.Tree) { t.Refused = append(t.Refused, d) })
		}
	}
	if len(outside) > 0 {
		tree.Outside = schema.NewOutside(reads, func(dir string) (schema.Tree, error) { return outside[dir], nil })
	}
}

// run serves until ctx ends or a part fails; then everything ends.
func (m *master) run(ctx context.Context) error {
	listener, err := net.Listen("tcp", m.config.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	hooks, err := gitsource.Listen(gitsource.ServerConfig{Socket: m.hookSocket(), Remote: m.sources.remote, Judge: m, Programs: &m.sources.programs, Log: m.log})
	if err != nil {
		listener.Close()
		return err
	}
	at := m.feed.Snapshot().Counters().ResourceVersion
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.loop.Run(ctx) })
	g.Go(func() error { return m.api.Run(ctx, listener) })
	g.Go(func() error { return m.passAcknowledgements(ctx) })
	g.Go(func() error { return m.tellRecovery(ctx) })
	g.Go(func() error { m.keepJournal(ctx, at); return nil })
	g.Go(func() error { return m.sources.run(ctx) })
	g.Go(func() error { return hooks.Run(ctx) })
	m.log.WithFields(logrus.Fields{"listen": m.config.Listen, "objects": m.countObjects()}).Info("master runs")
	return g.Wait()
}

func (m *master) close() {
	if m.sources != nil {
		m.sources.close()
	}
	m.cue.Close()
	m.kustomize.Close()
	if m.store != nil {
		if err := m.store.Close(); err != nil {
			m.log.WithError(err).Warn("close store")
		}
	}
}

// passAcknowledgements tells the loop what nodes have programmed.
func (m *master) passAcknowledgements(ctx context.Context) error {
	passed := map[schema.NodeName]uint64{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.api.AckMoved():
		}
		for node := range state.All[*corev1.Node](m.feed.Snapshot(), "") {
			name := schema.NodeName(node.Name)
			version := m.api.Acked(name)
			if version == passed[name] {
				continue
			}
			passed[name] = version
			if err := m.loop.Post(ctx, reconciler.Acknowledgement{Node: name, Version: version}); err != nil {
				return nil
			}
		}
	}
}

// Judge answers git's hooks: before a push is taken it is judged and its plan
// told; after, it is handed to the loop and, if asked, followed.
func (m *master) Judge(ctx context.Context, p gitsource.Push, out io.Writer) error {
	if err := m.recovered(); err != nil {
		return err
	}
	if p.Phase == hook.Pre {
		return m.judgePush(ctx, p, out)
	}
	p.Doing("handing it to the cluster")
	if err := m.sources.took(ctx, p); err != nil {
		return err
	}
	p.Doing("") // from here on the rollout tells of itself
	return m.tellPush(ctx, p, out)
}

// tellPush tells what became of a pushed revision: whether it is rolled out, and where
// it is waited for, how that ends.
func (m *master) tellPush(ctx context.Context, p gitsource.Push, out io.Writer) error {
	revision := schema.RevisionOf(p.Source, p.Tip())
	look := reconciler.InFeed(m.feed, revision)
	v, err := look(ctx)
	if err == nil && p.Wait() {
		v, err = reconciler.Follow(ctx, look, time.Now, out)
	}
	if err != nil {
		v.Source, _ = state.Source(m.feed.Snapshot(), p.Source)
	}
	pushed := progress.Pushed{Name: revision, Commit: p.Tip(), Waited: p.Wait(), Source: v.Source, Revision: v.Revision, Err: err}
	if last := pushed.Last(); last != "" {
		fmt.Fprintln(out, last)
		return nil
	}
	reconciler.Tell(v, out)
	return nil
}

func (m *master) judgePush(ctx context.Context, p gitsource.Push, out io.Writer) error {
	m.sources.note(p)
	cand, err := m.follower.JudgeCommit(ctx, p.Source, p.Repo, p.Tip(), p.Doing)
	if err != nil {
		return err
	}
	if err := cand.Plan.Refusal(); err != nil {
		return err
	}
	cand.Plan.WriteBrief(out)
	return nil
}
