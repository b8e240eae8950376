package main

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler"
	"fairlead/reconciler/api"
	"fairlead/reconciler/gitsource"
	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/load"
	"fairlead/schema/wire"
)

const (
	applicationCount    = 1_000
	applicationReplicas = 2
	applicationNodes    = 10
	applicationRounds   = 3
	applicationTimeout  = 2 * time.Minute
)

// application is a Deployment, its Service and the ConfigMap it reads.
func application(i int) files {
	name := fmt.Sprintf("app-%04d", i)
	return files{
		name + "/deployment.yaml": fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
      - name: main
        image: localhost/app:1
        args: [serve, --port=8080]
        ports: [{name: http, containerPort: 8080}]
        envFrom: [{configMapRef: {name: %[1]s}}]
        readinessProbe: {httpGet: {path: /healthz, port: http}}
        resources:
          requests: {cpu: 10m, memory: 16Mi}
          limits: {memory: 64Mi}
`, name, applicationReplicas),
		name + "/service.yaml": fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {app: %[1]s}
  ports: [{name: http, port: 80, targetPort: http}]
`, name),
		name + "/config.yaml": fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: %s}
data: {LEVEL: info, GREETING: hello}
`, name),
	}
}

// applications measures P12: a commit of many applications, until the cluster
// says that it is healthy.
func applications(ctx context.Context, b *bench) ([]row, error) {
	ctx, cancel := context.WithTimeout(ctx, applicationTimeout)
	defer cancel()
	var all []passed
	for round := range applicationRounds {
		p, err := rollAll(ctx, filepath.Join(b.work, fmt.Sprint("applications-", round)))
		if err != nil {
			return nil, fmt.Errorf("P12: %w", err)
		}
		all = append(all, p)
	}
	first := all[0]
	slices.SortFunc(all, func(x, y passed) int { return cmp.Compare(x.healthy, y.healthy) })
	p := all[len(all)/2]
	return []row{
		{bar: "P12", what: "1,000 applications (Deployment, Service, ConfigMap; 2,000 pods): commit to healthy", measured: duration(p.healthy), goal: goal{most: duration(time.Second)},
			note: fmt.Sprintf("the median of %d clusters, one after the other in a process; %d model agents at the master's own door over TLS say at once that a pod is ready; they keep and verify nothing; %s", applicationRounds, applicationNodes, p.rounds)},
		{bar: "P12", what: "of it until planned and applied", measured: duration(p.applied)},
		{bar: "P12", what: "of it until the last pod is bound", measured: duration(p.bound)},
		{bar: "P12", what: "the first of the clusters, in a process that has no memory yet", measured: duration(first.healthy)},
	}, nil
}

// rollAll rolls all applications out on a new cluster.
func rollAll(ctx context.Context, dir string) (p passed, err error) {
	c, err := openControlPlane(ctx, dir)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	tree := files{}
	for i := range applicationCount {
		for path, text := range application(i) {
			tree[path] = text
		}
	}
	if err := c.remote.commit(ctx, "many", tree); err != nil {
		return p, err
	}
	counted := c.store.sinceThen()
	p, err = c.roll(ctx)
	p.rounds = counted()
	return p, err
}

// passed is when, counted from the commit, each thing had happened, and in how
// many rounds.
type passed struct {
	applied, bound, healthy time.Duration
	rounds                  string
}

// controlPlane is all of a master around one source, and its model agents.
type controlPlane struct {
	*plane
	follower *reconciler.Follower
	upstream *gitsource.Upstream
	remote   *repository
	cache    *load.Cache
	parts    *errgroup.Group
	end      context.CancelFunc
}

func openControlPlane(ctx context.Context, dir string) (c *controlPlane, err error) {
	c = &controlPlane{cache: load.NewCache(0)}
	if c.remote, err = newRepository(ctx, filepath.Join(dir, "remote.git")); err != nil {
		return nil, err
	}
	if err := c.remote.commit(ctx, "nothing yet", files{"README": "empty"}); err != nil {
		return nil, err
	}
	url := "file://" + c.remote.dir
	if c.upstream, err = gitsource.OpenUpstream(ctx, gitsource.UpstreamConfig{Dir: filepath.Join(dir, "cache.git"), URL: url, Branch: "main"}); err != nil {
		return nil, err
	}
	if c.plane, err = openPlane(ctx, dir, url); err != nil {
		return nil, err
	}
	c.follower = &reconciler.Follower{Loop: c.loop, Feed: c.feed, Engine: c.engine, Load: c.load, Vault: reconciler.NewVault([]byte("bench")), Now: time.Now}
	ctx, c.end = context.WithCancel(ctx)
	c.parts, ctx = errgroup.WithContext(ctx)
	if err := c.openDoor(ctx); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (c *controlPlane) close() error {
	c.end()
	return errors.Join(c.parts.Wait(), c.plane.close())
}

func (c *controlPlane) load(ctx context.Context, source schema.SourceName, tree schema.Tree, spec schema.SourceSpec, rights schema.Rights, namespaces []string) ([]*schema.Desired, schema.Diagnostics) {
	r := load.Load(ctx, tree, spec, load.Options{Source: source, Rights: &rights, KnownNamespaces: namespaces, Cache: c.cache})
	return r.Objects, r.Diagnostics
}

// openDoor serves the agents' door and connects the model agents to it. Who
// calls is told by the server name that the client asks for, instead of by a
// certificate.
func (c *controlPlane) openDoor(ctx context.Context) error {
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	server, err := api.New(api.Config{
		Feed: c.feed, TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}, Log: quietLog(),
		Identify: func(cs *tls.ConnectionState) (kind, name string) { return api.CallerNode, cs.ServerName },
		Door: api.DoorConfig{
			Cluster: wire.ClusterInfo{ID: "bench"}, Keeper: work.NewKeeper([]byte("bench")),
			Report: func(ctx context.Context, node schema.NodeName, r wire.Report) error {
				return c.loop.Submit(ctx, reconciler.NodeReport{PodCIDR: agentRange(node).String(), Address: r.NodeIPs.First(), Report: r})
			},
		},
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c.parts.Go(func() error { return server.Run(ctx, listener) })
	for i := range applicationNodes {
		a := newModelAgent(i, listener.Addr().String())
		if err := a.report(ctx); err != nil {
			return err
		}
		c.parts.Go(func() error { return a.run(ctx) })
	}
	return nil
}

// agentRange is the pod range of a model agent's node.
func agentRange(node schema.NodeName) netip.Prefix {
	var i int
	_, _ = fmt.Sscanf(string(node), "n%d", &i)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 112, byte(4 * i), 0}), 22)
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// roll takes the branch's tip to the loop and follows it until it is healthy.
func (c *controlPlane) roll(ctx context.Context) (p passed, err error) {
	version := c.feed.Snapshot().Counters().ResourceVersion
	start := time.Now()
	tip, err := lookAt(ctx, c.follower, c.upstream)
	if err != nil {
		return p, err
	}
	p.applied = time.Since(start)
	name := schema.RevisionOf(sourceName, tip)
	bound := map[string]bool{}
	var ended *schema.Revision
	err = c.follow(ctx, version, func(ch state.Change) bool {
		if pod, ok := ch.New.(*corev1.Pod); ok && pod.Spec.NodeName != "" && !bound[pod.Name] {
			bound[pod.Name] = true
			p.bound = time.Since(start)
		}
		if rev, ok := ch.New.(*schema.Revision); ok && schema.RevisionName(rev.Name) == name && rev.Status.Phase != schema.PhaseRollingOut && rev.Status.Phase != schema.PhasePlanned {
			ended = rev
		}
		return ended != nil
	})
	p.healthy = time.Since(start)
	switch {
	case err != nil:
		return p, fmt.Errorf("%d pods are bound: %w", len(bound), err)
	case ended.Status.Phase != schema.PhaseHealthy || len(bound) != applicationCount*applicationReplicas:
		return p, fmt.Errorf("%s with %d pods bound: %v", ended.Status.Phase, len(bound), ended.Status.Phases)
	}
	return p, nil
}
