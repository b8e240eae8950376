package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// authority is a CA made for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate whose common name is "kind:name".
func (a *authority) issue(t testing.TB, cn string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func identifyTest(cs *tls.ConnectionState) (kind, name string) {
	if cs == nil || len(cs.VerifiedChains) == 0 {
		return "", ""
	}
	kind, name, _ = strings.Cut(cs.VerifiedChains[0][0].Subject.CommonName, ":")
	return kind, name
}

// patience is how long a test waits for what must come. It takes a second on an idle
// machine, and a minute on one that is busy with other tests.
const patience = 5 * time.Minute

// testServer is a running server over a cluster the test changes.
type testServer struct {
	*Server
	t    testing.TB
	ca   *authority
	feed *state.Feed
	url  string
	end  func()

	mu sync.Mutex // guards publishing
}

// startServer runs a server over the sample cluster until the test ends.
func startServer(t testing.TB, change ...func(*Config)) *testServer {
	t.Helper()
	ts := &testServer{t: t, ca: newAuthority(t), feed: state.NewFeed(sampleCluster())}
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg := Config{
		Feed: ts.feed, Identify: identifyTest, Version: "v0.1.0", Log: log, Origin: schema.Origin{Source: "main", Path: "."},
		TLS: &tls.Config{
			Certificates: []tls.Certificate{ts.ca.issue(t, "server:master")}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ts.ca.pool(),
		},
		Now: func() time.Time { return sampleNow },
		Door: DoorConfig{
			Cluster: wire.ClusterInfo{ID: "test", Domain: "cluster.local"},
			OpenSecret: func(_, name string) (map[string][]byte, bool) {
				return map[string][]byte{"password": []byte("clear-" + name)}, true
			},
			Report: func(context.Context, schema.NodeName, wire.Report) error { return nil },
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	if ts.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ts.url = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ts.Run(ctx, l) }()
	ts.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(ts.end)
	return ts
}

// withWaits changes how long a test's server waits.
func withWaits(change func(*waits)) func(*Config) {
	return func(c *Config) {
		w := usualWaits()
		change(&w)
		c.waits = &w
	}
}

// withDoor changes one door of a test's server.
func withDoor(door *Limit, change func(*Limit)) func(*Config) {
	return func(c *Config) {
		if c.doors == nil {
			c.doors = map[*Limit]Limit{}
		}
		own := *door
		change(&own)
		c.doors[door] = own
	}
}

// client speaks with the certificate of cn, or without one.
func (ts *testServer) client(cn string) *http.Client {
	cfg := &tls.Config{RootCAs: ts.ca.pool()}
	if cn != "" {
		cfg.Certificates = []tls.Certificate{ts.ca.issue(ts.t, cn)}
	}
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	ts.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// publish changes the cluster as the master's loop would.
func (ts *testServer) publish(change func(tx *state.Txn)) uint64 {
	ts.t.Helper()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	tx := ts.feed.Snapshot().Begin()
	change(tx)
	changes := tx.Changes()
	s := tx.Commit()
	ts.feed.Publish(s, changes)
	return s.Counters().ResourceVersion
}

// do sends one request and returns the code and the body.
func do(t testing.TB, c *http.Client, method, url string, body []byte, header ...string) (int, []byte, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return resp.StatusCode, data, resp.Header
}

// get reads JSON and fails on any code but 200.
func get[T any](t testing.TB, c *http.Client, url string, header ...string) T {
	t.Helper()
	code, body, _ := do(t, c, http.MethodGet, url, nil, header...)
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", url, code, body)
	}
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("GET %s: %v in %s", url, err, body)
	}
	return v
}

// await looks until the condition holds.
func await(t testing.TB, holds func() bool) {
	t.Helper()
	late := time.After(patience)
	for !holds() {
		select {
		case <-time.After(time.Millisecond):
		case <-late:
			t.Fatalf("waited %s in vain", patience)
		}
	}
}
