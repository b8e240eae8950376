package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"fairlead/schema/wire"
)

// How long certificates hold, and the organisations that say what a client is.
const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 365 * 24 * time.Hour
	nodeLife   = 365 * 24 * time.Hour

	// backdate lets a machine whose clock is behind accept a certificate made
	// just now.
	backdate = time.Hour

	// OrgNodes and OrgReaders stand in a client certificate's subject.
	OrgNodes   = "fairlead:nodes"
	OrgReaders = "fairlead:readers"
)

// pair is a key and its certificate, in one file so that they cannot part.
type pair struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (a *Authority) pin() string { return wire.Pin(a.ca.cert) }

// newCA makes the authority's file.
func (a *Authority) newCA() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := a.cfg.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "fairlead cluster CA"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := sign(template, &pair{key: key, cert: template}, key.Public())
	if err != nil {
		return nil, err
	}
	return encodePair(key, cert)
}

// sign issues template for key in the name of by.
func sign(template *x509.Certificate, by *pair, key crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1)) // RFC 5280 wants it positive
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key, by.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// issueClient signs a client certificate, which never outlives the authority.
func (a *Authority) issueClient(cn string, orgs []string, life time.Duration, key crypto.PublicKey) (*x509.Certificate, error) {
	now := a.cfg.Now()
	return sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: cn, Organization: orgs},
		NotBefore:   now.Add(-backdate),
		NotAfter:    earlier(now.Add(life), a.ca.cert.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.ca, key)
}

// ClientCert makes a client certificate and its key, both PEM. Names and the
// organisation of nodes are not to be had this way.
func (a *Authority) ClientCert(cn string, orgs []string, ttl time.Duration) (certPEM, keyPEM []byte, err error) {
	if cn == "" || strings.HasPrefix(cn, wire.NodePrefix) || slices.Contains(orgs, OrgNodes) {
		return nil, nil, fmt.Errorf("client certificate %q: the name must be given and not be a node's", cn)
	}
	if ttl <= 0 {
		return nil, nil, fmt.Errorf("client certificate %s: it would hold for %v", cn, ttl)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("client certificate %s: %w", cn, err)
	}
	cert, err := a.issueClient(cn, orgs, ttl, key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("client certificate %s: %w", cn, err)
	}
	keyPEM, err = keyToPEM(key)
	return certificatePEM(cert), keyPEM, err
}

// ServerTLS is the master's side of its port. Clients without a certificate are
// let in and are Anonymous. The serving certificate is made anew in time, also
// while the master runs.
func (a *Authority) ServerTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.ca.cert)
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		CipherSuites: authenticatedSuites(),
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    pool,
		Time:         a.cfg.Now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			if err := a.refreshServer(); err != nil {
				return nil, err
			}
			return a.server, nil
		},
	}
}

// authenticatedSuites are the suites of TLS 1.2 that are served: those that
// encrypt and authenticate in one step. Suites in CBC mode have been broken by
// padding oracles again and again; TLS 1.3 has none, and its suites are not
// configured.
func authenticatedSuites() (ids []uint16) {
	for _, suite := range tls.CipherSuites() {
		if !strings.Contains(suite.Name, "_CBC_") {
			ids = append(ids, suite.ID)
		}
	}
	return ids
}

// refreshServer makes the serving certificate when it is missing, speaks for
// other names than are advertised, or has a third of its life left. The caller
// holds mu.
func (a *Authority) refreshServer() error {
	dns, ips := a.serverNames()
	if a.server != nil && a.serves(a.server.Leaf, dns, ips) {
		return nil
	}
	if data, err := os.ReadFile(a.path(fileServer)); err == nil {
		if p, err := parsePair(data); err == nil && a.serves(p.cert, dns, ips) {
			a.server = a.chain(p)
			return nil
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	now := a.cfg.Now()
	cert, err := sign(&x509.Certificate{
		Subject:     pkix.Name{CommonName: "fairlead master"},
		DNSNames:    dns,
		IPAddresses: ips,
		NotBefore:   now.Add(-backdate),
		NotAfter:    earlier(now.Add(serverLife), a.ca.cert.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.ca, key.Public())
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	data, err := encodePair(key, cert)
	if err == nil {
		err = replaceFile(a.path(fileServer), data)
	}
	if err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	a.server = a.chain(&pair{key, cert})
	return nil
}

// chain ends in the authority itself: a machine that joins knows only its pin.
func (a *Authority) chain(p *pair) *tls.Certificate {
	return &tls.Certificate{
		Certificate: [][]byte{p.cert.Raw, a.ca.cert.Raw},
		PrivateKey:  p.key,
		Leaf:        p.cert,
	}
}

func (a *Authority) serves(cert *x509.Certificate, dns []string, ips []net.IP) bool {
	return cert.CheckSignatureFrom(a.ca.cert) == nil &&
		slices.Equal(cert.DNSNames, dns) &&
		slices.EqualFunc(cert.IPAddresses, ips, net.IP.Equal) &&
		!dueForRenewal(cert, a.cfg.Now())
}

func dueForRenewal(cert *x509.Certificate, now time.Time) bool {
	return now.After(cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3))
}

// serverNames are the names to serve under, sorted.
func (a *Authority) serverNames() (dns []string, ips []net.IP) {
	for _, name := range append([]string{"localhost", "127.0.0.1", "::1"}, a.cfg.Advertise...) {
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
		if ip := net.ParseIP(strings.Trim(name, "[]")); ip != nil {
			ips = append(ips, ip)
		} else if name != "" {
			dns = append(dns, name)
		}
	}
	slices.Sort(dns)
	slices.SortFunc(ips, func(x, y net.IP) int { return strings.Compare(x.String(), y.String()) })
	return slices.Compact(dns), slices.CompactFunc(ips, net.IP.Equal)
}

func earlier(x, y time.Time) time.Time {
	if y.Before(x) {
		return y
	}
	return x
}

// PEM block types.
const (
	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
	pemRequest     = "CERTIFICATE REQUEST"
)

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: cert.Raw})
}

func keyToPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func encodePair(key *ecdsa.PrivateKey, cert *x509.Certificate) ([]byte, error) {
	data, err := keyToPEM(key)
	return append(data, certificatePEM(cert)...), err
}

func parsePair(data []byte) (*pair, error) {
	c, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, err
	}
	key, ok := c.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key is not ECDSA")
	}
	cert, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, err
	}
	return &pair{key, cert}, nil
}
