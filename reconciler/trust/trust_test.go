package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// clock is a settable Now.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func config(c *clock) Config {
	return Config{Advertise: []string{"10.0.0.1:6443", "master.example"}, PodCIDR: netip.MustParsePrefix("10.112.0.0/12"), Now: c.now}
}

func open(tb testing.TB, dir string, cfg Config) *Authority {
	tb.Helper()
	a, err := Open(dir, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func csr(tb testing.TB, key *ecdsa.PrivateKey, cn string) []byte {
	tb.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{
		CommonName: cn, Organization: []string{OrgReaders}, // asked for, not given
	}}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})
}

func join(tb testing.TB, a *Authority, token string, node schema.NodeName, key *ecdsa.PrivateKey) (wire.JoinResponse, error) {
	tb.Helper()
	return a.Join(wire.JoinRequest{Token: token, Node: node, CSR: csr(tb, key, "node:"+string(node))})
}

func mustJoin(tb testing.TB, a *Authority, token string, node schema.NodeName, key *ecdsa.PrivateKey) wire.JoinResponse {
	tb.Helper()
	resp, err := join(tb, a, token, node, key)
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

func newTokenFor(tb testing.TB, a *Authority, uses int) string {
	tb.Helper()
	token, err := a.NewToken(JoinGrant{Uses: uses}, time.Hour)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func parse(tb testing.TB, data []byte) *x509.Certificate {
	tb.Helper()
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// contents is every file of a directory but the lock, which holds nothing.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func TestOpenIsIdempotentAndPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	c := &clock{start}
	a := open(t, dir, config(c))
	first := contents(t, dir)
	for _, name := range []string{fileCA, fileSeal, fileServer, fileNodes} {
		if first[name] == "" {
			t.Errorf("%s was not made", name)
		}
	}
	b := open(t, dir, config(c))
	second := contents(t, dir)
	for name := range second {
		if first[name] != second[name] {
			t.Errorf("%s was changed by opening again", name)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", name, info.Mode(), err)
		}
	}
	if a.ClusterID() != b.ClusterID() || len(a.ClusterID()) != 16 || !bytes.Equal(a.SealKey(), b.SealKey()) || len(a.SealKey()) != 32 {
		t.Errorf("identities differ: %s %x, %s %x", a.ClusterID(), a.SealKey(), b.ClusterID(), b.SealKey())
	}
}

// A crash leaves the files made so far, and perhaps one half written beside its
// place. The next Open completes them and keeps those.
func TestOpenCompletesWhatACrashLeft(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "pki")
	open(t, whole, config(&clock{start}))
	made := contents(t, whole)
	order := []string{fileCA, fileSeal, fileNodes, fileServer}
	for n := range order {
		dir := t.TempDir()
		for _, name := range order[:n] {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(made[name]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, order[n]+".new"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		open(t, dir, config(&clock{start}))
		got := contents(t, dir)
		for _, name := range order[:n] {
			if got[name] != made[name] {
				t.Errorf("after %d files: %s was changed", n, name)
			}
		}
		if _, left := got[order[n]+".new"]; left || len(got) != len(made) {
			t.Errorf("after %d files: got %d files, want %d", n, len(got), len(made))
		}
	}
}

func TestOpenRefusesToReplaceALostAuthority(t *testing.T) {
	for _, lost := range []string{fileCA, fileSeal} {
		dir := t.TempDir()
		open(t, dir, config(&clock{start}))
		if err := os.Remove(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, config(&clock{start})); err == nil || !strings.Contains(err.Error(), lost+" is missing") {
			t.Errorf("without %s: got %v, want a refusal", lost, err)
		}
	}
}

func TestOpenExisting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "typo")
	_, err := Open(dir, Config{Existing: true, Now: time.Now})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

func TestOpenRefusesAWrongPodRange(t *testing.T) {
	dir := t.TempDir()
	cfg := config(&clock{start})
	a := open(t, dir, cfg)
	mustJoin(t, a, newTokenFor(t, a, 0), "n1", newKey(t))
	for cidr, want := range map[string]string{
		"10.112.0.0/23": "/22 or larger", "fd00::/8": "IPv4",
		"10.200.0.0/16": "node n1 is registered with 10.112.0.0/22, which is outside",
	} {
		cfg.PodCIDR = netip.MustParsePrefix(cidr)
		if _, err := Open(dir, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", cidr, err, want)
		}
	}
}

func TestServingCertificate(t *testing.T) {
	dir := t.TempDir()
	c := &clock{start}
	cfg := config(c)
	serving := func(a *Authority) *x509.Certificate {
		got, err := a.ServerTLS().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf
	}
	a := open(t, dir, cfg)
	first := serving(a)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CAPEM())
	for _, name := range []string{"10.0.0.1", "master.example", "localhost", "127.0.0.1", "::1"} {
		if _, err := first.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: c.Time}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	slices.Reverse(cfg.Advertise)
	if again := serving(open(t, dir, cfg)); !again.Equal(first) {
		t.Error("a new certificate was made for the same names")
	}
	if again := serving(open(t, dir, Config{Now: c.now})); again.Equal(first) {
		t.Error("the certificate of other names was served")
	}
	cfg.Advertise = []string{"10.0.0.2"}
	moved := serving(open(t, dir, cfg))
	if err := moved.VerifyHostname("10.0.0.2"); err != nil {
		t.Error(err)
	}
	// A master that runs on replaces it in time, without a restart.
	b := open(t, dir, cfg)
	c.Time = start.Add(serverLife * 2 / 3).Add(time.Hour)
	renewed := serving(b)
	if renewed.Equal(moved) || !renewed.NotAfter.After(c.Add(serverLife/2)) {
		t.Errorf("holds until %v, want a renewed one", renewed.NotAfter)
	}
	if again := serving(open(t, dir, cfg)); !again.Equal(renewed) {
		t.Error("the renewed certificate was not kept")
	}
}

// Suites in CBC mode are what scanners and padding oracles look for; what newer
// clients offer is served.
func TestServerTLSTakesNoCBC(t *testing.T) {
	a := open(t, t.TempDir(), config(&clock{time.Now()}))
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) || !strings.Contains(suite.Name, "_ECDSA_") {
			continue // the serving key is an ECDSA key
		}
		client, server := net.Pipe()
		served := make(chan error, 1)
		go func() {
			conn := tls.Server(server, a.ServerTLS())
			served <- conn.Handshake()
			server.Close()
		}()
		config := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}}
		err := tls.Client(client, config).Handshake()
		client.Close()
		<-served
		if want := strings.Contains(suite.Name, "_GCM_") || strings.Contains(suite.Name, "_CHACHA20_"); (err == nil) != want {
			t.Errorf("%s: %v, want it served: %t", suite.Name, err, want)
		}
	}
}

func TestJoin(t *testing.T) {
	a := open(t, t.TempDir(), config(&clock{start}))
	token, key := newTokenFor(t, a, 0), newKey(t)
	resp := mustJoin(t, a, token, "n1", key)
	cert := parse(t, resp.Certificate)
	if cert.Subject.CommonName != "node:n1" || !slices.Equal(cert.Subject.Organization, []string{OrgNodes}) {
		t.Errorf("subject is %v", cert.Subject)
	}
	if err := cert.CheckSignatureFrom(parse(t, resp.CA)); err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		t.Errorf("signature %v, or not the node's key", err)
	}
	mustJoin(t, a, token, "n2", newKey(t))
	mustJoin(t, a, token, "n1", key) // again, as after a lost answer
	got := a.Nodes()
	want := []NodeRecord{
		{Name: "n1", PodCIDR: netip.MustParsePrefix("10.112.0.0/22"), Registered: start},
		{Name: "n2", PodCIDR: netip.MustParsePrefix("10.112.4.0/22"), Registered: start},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if r, ok := a.Node("n2"); !ok || !reflect.DeepEqual(r, want[1]) {
		t.Errorf("got %v, %v", r, ok)
	}
	if _, ok := a.Node("n3"); ok {
		t.Error("n3 is registered")
	}
}

func TestRegistrySurvives(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, config(&clock{start}))
	mustJoin(t, a, newTokenFor(t, a, 0), "n1", newKey(t))
	if got := open(t, dir, config(&clock{start})).Nodes(); !reflect.DeepEqual(got, a.Nodes()) {
		t.Errorf("got %v, want %v", got, a.Nodes())
	}
}

func TestJoinRefusals(t *testing.T) {
	dir := t.TempDir()
	c := &clock{start}
	a := open(t, dir, config(c))
	token := newTokenFor(t, a, 0)
	mustJoin(t, a, token, "n1", newKey(t))
	good := func() wire.JoinRequest {
		return wire.JoinRequest{Token: token, Node: "n2", CSR: csr(t, newKey(t), "node:n2")}
	}
	otherID := strings.Repeat("0", 12) + token[12:]
	otherSecret := token[:13] + strings.Repeat("0", 32) + token[45:]
	forN9, err := a.NewToken(JoinGrant{Node: "n9"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spoil func(*wire.JoinRequest)
		want  string
	}{
		"no token":          {func(r *wire.JoinRequest) { r.Token = "" }, "not a join token"},
		"unknown token":     {func(r *wire.JoinRequest) { r.Token = otherID }, "unknown or has expired"},
		"wrong secret":      {func(r *wire.JoinRequest) { r.Token = otherSecret }, "unknown or has expired"},
		"for another node":  {func(r *wire.JoinRequest) { r.Token = forN9 }, "the token is for node n9"},
		"name not a label":  {func(r *wire.JoinRequest) { r.Node = "N_2" }, "node name"},
		"name too long":     {func(r *wire.JoinRequest) { r.Node = schema.NodeName(strings.Repeat("n", 60)) }, "at most 59"},
		"request too long":  {func(r *wire.JoinRequest) { r.CSR = make([]byte, maxCSRBytes+1) }, "at most 16384"},
		"not PEM":           {func(r *wire.JoinRequest) { r.CSR = []byte("x") }, "not PEM"},
		"request of other":  {func(r *wire.JoinRequest) { r.CSR = csr(t, newKey(t), "node:n3") }, `is for "node:n3"`},
		"name of a sitting": {func(r *wire.JoinRequest) { r.Node, r.CSR = "n1", csr(t, newKey(t), "node:n1") }, "joined with another key"},
	} {
		req := good()
		test.spoil(&req)
		_, err := a.Join(req)
		if !errors.Is(err, ErrJoinRefused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
		if strings.Contains(err.Error(), token[13:45]) {
			t.Errorf("%s: the secret is in %v", name, err)
		}
	}
	c.Time = start.Add(time.Hour)
	if _, err := a.Join(good()); !errors.Is(err, ErrJoinRefused) {
		t.Errorf("expired token: got %v", err)
	}
	if n := len(a.Nodes()); n != 1 {
		t.Errorf("%d nodes are registered, want 1", n)
	}
}

func TestTokensAreStoredHashed(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, config(&clock{start}))
	token := newTokenFor(t, a, 0)
	for name, data := range contents(t, dir) {
		if strings.Contains(data, token[13:45]) {
			t.Errorf("%s holds the secret", name)
		}
	}
	if parsed, err := wire.ParseToken(token); err != nil || parsed.Pin != wire.Pin(parse(t, a.CAPEM())) {
		t.Errorf("the token %s pins another authority: %v", token, err)
	}
}

func TestSingleUseToken(t *testing.T) {
	a := open(t, t.TempDir(), config(&clock{start}))
	token, key := newTokenFor(t, a, 1), newKey(t)
	mustJoin(t, a, token, "n1", key)
	mustJoin(t, a, token, "n1", key) // the same node asks again
	if _, err := join(t, a, token, "n2", newKey(t)); !errors.Is(err, ErrJoinRefused) || !strings.Contains(err.Error(), "used up") {
		t.Errorf("a second node: got %v, want a refusal", err)
	}
}

func TestNodeTokenReplacesAMachine(t *testing.T) {
	a := open(t, t.TempDir(), config(&clock{start}))
	old, fresh := newKey(t), newKey(t)
	mustJoin(t, a, newTokenFor(t, a, 0), "n1", old)
	before, _ := a.Node("n1")
	token, err := a.NewToken(JoinGrant{Node: "n1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	mustJoin(t, a, token, "n1", fresh)
	if got, _ := a.Node("n1"); !reflect.DeepEqual(got, before) {
		t.Errorf("got %v, want its range kept, %v", got, before)
	}
	if _, err := a.Renew("n1", wire.RenewRequest{CSR: csr(t, old, "node:n1")}); !errors.Is(err, ErrJoinRefused) {
		t.Errorf("the old machine renewed: %v", err)
	}
	if _, err := a.Renew("n1", wire.RenewRequest{CSR: csr(t, fresh, "node:n1")}); err != nil {
		t.Errorf("the new machine could not renew: %v", err)
	}
}

// The command line makes tokens while the master runs on the same directory,
// and nodes join at the same time.
func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	master := open(t, dir, config(&clock{start}))
	cli := open(t, dir, Config{Existing: true, Now: (&clock{start}).now})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			token, err := cli.NewToken(JoinGrant{Uses: 1}, time.Hour)
			if err == nil {
				_, err = join(t, master, token, schema.NodeName(fmt.Sprintf("n%d", i)), newKey(t))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ranges := map[netip.Prefix]bool{}
	for _, n := range master.Nodes() {
		ranges[n.PodCIDR] = true
	}
	if len(ranges) != 8 {
		t.Errorf("%d ranges for 8 nodes: %v", len(ranges), master.Nodes())
	}
}

func TestTokensAreBounded(t *testing.T) {
	dir := t.TempDir()
	c := &clock{start}
	a := open(t, dir, config(c))
	tokens := make([]storedToken, maxTokens)
	for i := range tokens {
		tokens[i] = storedToken{ID: fmt.Sprint(i), Expires: start.Add(time.Minute)}
	}
	if err := replaceJSON(a.path(fileTokens), tokens); err != nil {
		t.Fatal(err)
	}
	if _, err := a.NewToken(JoinGrant{}, time.Hour); err == nil {
		t.Error("one more than the bound was made")
	}
	c.Time = start.Add(time.Minute)
	newTokenFor(t, a, 0)
	if left, err := a.validTokens(); err != nil || len(left) != 1 {
		t.Errorf("%d tokens are left, %v, want 1", len(left), err)
	}
}

// Ranges are disjoint slices of the cluster's, the lowest free one first, until
// there are no more.
func TestRanges(t *testing.T) {
	chance.Check(t, func(rt *rapid.T) {
		bits := rapid.IntRange(16, nodeBits).Draw(rt, "bits")
		cluster := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 255).Draw(rt, "b")), 0, 0}), bits)
		nodes := map[schema.NodeName]registration{}
		for i := range 1 << (nodeBits - bits) {
			r, err := firstFree(cluster, nodes)
			if err != nil {
				rt.Fatal(err)
			}
			for name, other := range nodes {
				if r.Overlaps(other.PodCIDRs.First()) {
					rt.Fatalf("%s overlaps %s of %s", r, other.PodCIDRs.First(), name)
				}
			}
			if !cluster.Contains(r.Addr()) || r.Bits() != nodeBits {
				rt.Fatalf("%s is not a slice of %s", r, cluster)
			}
			nodes[schema.NodeName(fmt.Sprint(i))] = registration{PodCIDRs: schema.List[netip.Prefix]{r}}
		}
		if r, err := firstFree(cluster, nodes); err == nil {
			rt.Fatalf("%s was given from a full range", r)
		}
		gone := schema.NodeName(fmt.Sprint(rapid.IntRange(0, len(nodes)-1).Draw(rt, "gone")))
		want := nodes[gone].PodCIDRs.First()
		delete(nodes, gone)
		if got, err := firstFree(cluster, nodes); err != nil || got != want {
			rt.Fatalf("got %s, %v, want the free one, %s", got, err, want)
		}
	})
}

func TestClientCertRefusesNodes(t *testing.T) {
	a := open(t, t.TempDir(), config(&clock{start}))
	for _, test := range []struct {
		cn   string
		orgs []string
		ttl  time.Duration
	}{{"node:n1", nil, time.Hour}, {"alice", []string{OrgNodes}, time.Hour}, {"", nil, time.Hour}, {"alice", nil, 0}} {
		if _, _, err := a.ClientCert(test.cn, test.orgs, test.ttl); err == nil {
			t.Errorf("%v: no error", test)
		}
	}
	cert, _, err := a.ClientCert("alice", []string{OrgReaders}, 100*365*24*time.Hour)
	if err != nil || parse(t, cert).NotAfter.After(parse(t, a.CAPEM()).NotAfter) {
		t.Errorf("%v, or the certificate outlives the authority", err)
	}
}

// handshake connects a client with cert, nil for none, and returns who the
// server takes it for.
func handshake(t *testing.T, a *Authority, cert *tls.Certificate) (Kind, string, error) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.CAPEM())
	client := &tls.Config{RootCAs: roots, ServerName: "master.example", Time: a.cfg.Now}
	if cert != nil {
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go io.Copy(io.Discard, tls.Client(near, client)) // reads what follows the handshake too
	server := tls.Server(far, a.ServerTLS())
	if err := server.HandshakeContext(t.Context()); err != nil {
		return Anonymous, "", err
	}
	state := server.ConnectionState()
	kind, name := Identity(&state)
	return kind, name, nil
}

func TestIdentity(t *testing.T) {
	c := &clock{start}
	a := open(t, t.TempDir(), config(c))
	stranger := open(t, t.TempDir(), config(c))
	client := func(by *Authority, cn string, orgs ...string) *tls.Certificate {
		key := newKey(t)
		cert, err := by.issueClient(cn, orgs, time.Hour, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	}
	for _, test := range []struct {
		what string
		cert *tls.Certificate
		kind Kind
		name string
	}{
		{"no certificate", nil, Anonymous, ""},
		{"node", client(a, "node:n1", OrgNodes), Node, "n1"},
		{"reader", client(a, "alice", OrgReaders), Reader, "alice"},
		{"no organisation", client(a, "alice"), Anonymous, ""},
		{"node's name without the organisation", client(a, "node:n1", OrgReaders), Anonymous, ""},
		{"node's organisation without the name", client(a, "n1", OrgNodes), Anonymous, ""},
	} {
		kind, name, err := handshake(t, a, test.cert)
		if err != nil || kind != test.kind || name != test.name {
			t.Errorf("%s: got %q %q %v, want %q %q", test.what, kind, name, err, test.kind, test.name)
		}
	}
	if _, _, err := handshake(t, a, client(stranger, "node:n1", OrgNodes)); err == nil {
		t.Error("another cluster's node was let in")
	}
	if kind, _ := Identity(nil); kind != Anonymous {
		t.Errorf("without TLS: %q", kind)
	}
	if kind, _ := Identity(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{parse(t, a.CAPEM())}}); kind != Anonymous {
		t.Errorf("an unverified certificate counts: %q", kind)
	}
}

func TestKubeconfig(t *testing.T) {
	got, err := Kubeconfig("https://10.0.0.1:6443", []byte("CA"), []byte("CERT"), []byte("KEY"), "main")
	if err != nil {
		t.Fatal(err)
	}
	want := `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Q0E=
    server: https://10.0.0.1:6443
  name: main
contexts:
- context:
    cluster: main
    user: main
  name: main
current-context: main
kind: Config
users:
- name: main
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if err := yaml.UnmarshalStrict(got, &kubeconfig{}); err != nil {
		t.Error(err)
	}
}
