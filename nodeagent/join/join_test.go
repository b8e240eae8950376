package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fairlead/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// master is a small one: it signs every request, for life, and remembers.
type master struct {
	*httptest.Server
	caKey  *ecdsa.PrivateKey
	ca     *x509.Certificate
	life   time.Duration
	status int // answered instead, when set
	spoil  func(*wire.JoinResponse)
	joins  []wire.JoinRequest
	renews []string // common names of the connections
}

func certificate(t *testing.T, template, parent *x509.Certificate, key any, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newMaster(t *testing.T) *master {
	t.Helper()
	m := &master{life: time.Hour}
	m.caKey, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	m.ca = certificate(t, template, template, m.caKey.Public(), m.caKey)
	serving := certificate(t, &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, m.ca, m.caKey.Public(), m.caKey)
	pool := x509.NewCertPool()
	pool.AddCert(m.ca)
	m.Server = httptest.NewUnstartedServer(http.HandlerFunc(m.serve))
	m.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{serving.Raw, m.ca.Raw}, PrivateKey: m.caKey}},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: pool,
	}
	m.StartTLS()
	t.Cleanup(m.Close)
	return m
}

func (m *master) serve(w http.ResponseWriter, r *http.Request) {
	if m.status != 0 {
		http.Error(w, "the reason", m.status)
		return
	}
	var csrPEM []byte
	switch r.URL.Path {
	case wire.PathJoin:
		var req wire.JoinRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		m.joins = append(m.joins, req)
		csrPEM = req.CSR
	case wire.PathRenew:
		var req wire.RenewRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		m.renews = append(m.renews, r.TLS.PeerCertificates[0].Subject.CommonName)
		csrPEM = req.CSR
	}
	block, _ := pem.Decode(csrPEM)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject,
		NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(m.life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, m.ca, csr.PublicKey, m.caKey)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	resp := wire.JoinResponse{Certificate: pemOf(der), CA: pemOf(m.ca.Raw)}
	if m.spoil != nil {
		m.spoil(&resp)
	}
	_ = json.NewEncoder(w).Encode(resp)
}

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (m *master) token() string {
	return wire.Token{ID: strings.Repeat("1", 12), Secret: strings.Repeat("2", 32), Pin: wire.Pin(m.ca)}.String()
}

// clientName asks the master over ClientTLS and returns the name it presents.
func clientName(t *testing.T, dir string) string {
	t.Helper()
	config, err := ClientTLS(dir)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := config.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.Subject.CommonName
}

func TestJoinThenNothingToDo(t *testing.T) {
	m := newMaster(t)
	dir := filepath.Join(t.TempDir(), "pki")
	if err := Cluster(t.Context(), m.URL, m.token()+"\n", "n1", "10.0.0.1", dir); err != nil {
		t.Fatal(err)
	}
	if got := clientName(t, dir); got != "node:n1" {
		t.Errorf("the certificate is %q's", got)
	}
	if err := Cluster(t.Context(), m.URL, "", "n1", "10.0.0.1", dir); err != nil {
		t.Errorf("joining again: %v", err)
	}
	if len(m.joins) != 1 || m.joins[0].Token != m.token() || m.joins[0].Node != "n1" {
		t.Errorf("the master was asked %v", m.joins)
	}
	for _, name := range []string{fileKey, fileCert, fileCA} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, want mode 0600", name, err)
		}
	}
	if err := Cluster(t.Context(), m.URL, m.token(), "n2", "10.0.0.1", dir); !errors.Is(err, ErrRefused) {
		t.Errorf("another node in the same directory: got %v, want a refusal", err)
	}
}

// The secret is said to nobody who does not show the pinned authority.
func TestPin(t *testing.T) {
	m, stranger := newMaster(t), newMaster(t)
	err := Cluster(t.Context(), stranger.URL, m.token(), "n1", "10.0.0.1", t.TempDir())
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "does not belong to the cluster") {
		t.Errorf("got %v, want a refusal", err)
	}
	if len(stranger.joins) != 0 {
		t.Error("the stranger was told the token")
	}
	// Showing the authority's certificate is not enough: the key behind the
	// serving certificate must be vouched for by it.
	stranger.TLS.Certificates[0].Certificate = append(stranger.TLS.Certificates[0].Certificate[:1:1], m.ca.Raw)
	if err := Cluster(t.Context(), stranger.URL, m.token(), "n1", "10.0.0.1", t.TempDir()); err == nil || len(stranger.joins) != 0 {
		t.Errorf("a borrowed authority: got %v after %d requests", err, len(stranger.joins))
	}
	// Nor is a certificate of the cluster for another host.
	if err := Cluster(t.Context(), strings.Replace(m.URL, "127.0.0.1", "127.0.0.2", 1), m.token(), "n1", "10.0.0.1", t.TempDir()); err == nil || len(m.joins) != 0 {
		t.Errorf("another host name: got %v after %d requests", err, len(m.joins))
	}
}

func TestAnswersThatAreNotBelieved(t *testing.T) {
	m, stranger := newMaster(t), newMaster(t)
	for name, spoil := range map[string]func(*wire.JoinResponse){
		"another authority":          func(r *wire.JoinResponse) { r.CA = pemOf(stranger.ca.Raw) },
		"no certificate":             func(r *wire.JoinResponse) { r.Certificate = nil },
		"somebody else's":            func(r *wire.JoinResponse) { r.Certificate = r.CA },
		"signed by somebody unknown": func(r *wire.JoinResponse) { r.Certificate = pemOf(stranger.ca.Raw) },
	} {
		m.spoil = spoil
		dir := t.TempDir()
		if err := Cluster(t.Context(), m.URL, m.token(), "n1", "10.0.0.1", dir); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := ClientTLS(dir); err == nil {
			t.Errorf("%s: it was kept", name)
		}
	}
}

func TestTrying(t *testing.T) {
	m := newMaster(t)
	dir := t.TempDir()
	for status, refused := range map[int]bool{403: true, 409: true, 400: true, 500: false, 503: false, 429: false} {
		m.status = status
		err := Cluster(t.Context(), m.URL, m.token(), "n1", "10.0.0.1", dir)
		if err == nil || errors.Is(err, ErrRefused) != refused || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("%d: got %v, want refused %v", status, err, refused)
		}
	}
	m.status = 0
	first, err := openKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Cluster(t.Context(), m.URL, m.token(), "n1", "10.0.0.1", dir); err != nil {
		t.Fatal(err)
	}
	if again, err := openKey(dir); err != nil || !again.Equal(first) {
		t.Errorf("another try used another key: %v", err)
	}
	for server, want := range map[string]string{"http://127.0.0.1:1": "want https://", "127.0.0.1:6443": "server", "https://127.0.0.1:1": "refused"} {
		if err := Cluster(t.Context(), server, m.token(), "n1", "10.0.0.1", t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", server, err, want)
		}
	}
	if err := Cluster(t.Context(), m.URL, "nonsense", "n1", "10.0.0.1", t.TempDir()); !errors.Is(err, ErrRefused) {
		t.Errorf("not a token: got %v", err)
	}
}

func TestRenew(t *testing.T) {
	m := newMaster(t)
	dir := t.TempDir()
	if err := Cluster(t.Context(), m.URL, m.token(), "n1", "10.0.0.1", dir); err != nil {
		t.Fatal(err)
	}
	config, err := ClientTLS(dir)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := config.GetClientCertificate(nil)
	for after, want := range map[time.Duration]bool{0: false, 39 * time.Minute: false, 41 * time.Minute: true, 2 * time.Hour: true} {
		if due, err := RenewDue(dir, time.Now().Add(after)); err != nil || due != want {
			t.Errorf("after %v: due %v, %v, want %v", after, due, err, want)
		}
	}
	m.life = 2 * time.Hour
	if err := Renew(t.Context(), m.URL, dir); err != nil {
		t.Fatal(err)
	}
	if len(m.renews) != 1 || m.renews[0] != "node:n1" {
		t.Errorf("asked by %v, want by node:n1", m.renews)
	}
	renewed, err := config.GetClientCertificate(nil)
	if err != nil || !renewed.Leaf.NotAfter.After(old.Leaf.NotAfter) {
		t.Errorf("%v, or the old certificate is still presented", err)
	}
}

// An expired certificate is as good as none; the key stays.
func TestJoinAgainAfterExpiry(t *testing.T) {
	m := newMaster(t)
	dir := t.TempDir()
	m.life = -time.Millisecond
	if err := Cluster(t.Context(), m.URL, m.token(), "n1", "10.0.0.1", dir); err != nil {
		t.Fatal(err)
	}
	m.life = time.Hour
	if err := Cluster(t.Context(), m.URL, m.token(), "n1", "10.0.0.1", dir); err != nil || len(m.joins) != 2 {
		t.Errorf("got %v after %d requests, want a second join", err, len(m.joins))
	}
}
