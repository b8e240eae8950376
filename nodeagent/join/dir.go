package join

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// Names in the directory.
const (
	fileKey  = "node.key"
	fileCert = "node.crt"
	fileCA   = "ca.crt"
)

// ClientTLS is the agent's side of its connections to the master: the cluster's
// authority and nobody else is trusted, and the certificate is read again when
// it was renewed.
func ClientTLS(dir string) (*tls.Config, error) {
	ca, err := readCA(dir)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	r := &reloader{dir: dir}
	if _, err := r.current(nil); err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, GetClientCertificate: r.current}, nil
}

// reloader keeps the key pair until its file changes.
type reloader struct {
	dir string

	mu       sync.Mutex
	modified time.Time
	pair     *tls.Certificate
}

func (r *reloader) current(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Stat(filepath.Join(r.dir, fileCert))
	if err != nil {
		return nil, err
	}
	if r.pair != nil && info.ModTime().Equal(r.modified) {
		return r.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(r.dir, fileCert), filepath.Join(r.dir, fileKey))
	if err != nil {
		return nil, err
	}
	r.pair, r.modified = &pair, info.ModTime()
	return r.pair, nil
}

// joined tells whether dir holds what a node of this name needs, valid at now.
// A certificate for another name is an error: the directory is another node's.
func joined(dir string, node schema.NodeName, now time.Time) (bool, error) {
	cert, err := readCertificate(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("join cluster: %w", err)
	}
	if want := wire.NodePrefix + string(node); cert.Subject.CommonName != want {
		return false, fmt.Errorf("join cluster: %w: %s holds a certificate for %q, not %q", ErrRefused, dir, cert.Subject.CommonName, want)
	}
	if _, err := readCA(dir); err != nil {
		return false, fmt.Errorf("join cluster: %w", err)
	}
	return now.Before(cert.NotAfter), nil
}

func readCertificate(dir string) (*x509.Certificate, error) { return readPEM(dir, fileCert) }

func readCA(dir string) (*x509.Certificate, error) { return readPEM(dir, fileCA) }

func readPEM(dir, name string) (*x509.Certificate, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return cert, nil
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// openKey reads the node's key, or makes it: a join that is tried again must
// show the same key.
func openKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, fileKey)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(dir)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: the key is not ECDSA", path)
	}
	return key, nil
}

func makeKey(dir string) (*ecdsa.PrivateKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, replaceFile(filepath.Join(dir, fileKey), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// store writes the certificate last: its presence says that the join is done.
func store(dir string, resp wire.JoinResponse) error {
	if err := replaceFile(filepath.Join(dir, fileCA), resp.CA); err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, fileCert), resp.Certificate)
}

// replaceFile leaves the old file or the new one after a crash, and the new one
// once it has returned.
func replaceFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Joined tells as which node a machine has joined and until when its certificate holds;
// an error that wraps fs.ErrNotExist is one that has not joined.
func Joined(dir string) (node schema.NodeName, until time.Time, err error) {
	cert, err := readCertificate(dir)
	if err != nil {
		return "", time.Time{}, err
	}
	return schema.NodeName(strings.TrimPrefix(cert.Subject.CommonName, wire.NodePrefix)), cert.NotAfter, nil
}
