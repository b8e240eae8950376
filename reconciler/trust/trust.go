// Package trust answers who is who: it keeps the cluster's certificate
// authority, says which machine may call itself which node, and hands each node
// its range of pod addresses. It serves no request itself: the agents' door and
// the command line call it.
//
// Everything lives in one directory, pki/, which is precious: without it no
// node and no reader is recognised again. Its files:
//
//	ca.pem       key and certificate of the authority (ECDSA P-256, ten years)
//	seal.key     32 random bytes, keys the hashes that stand in for secret values
//	server.pem   key and certificates of the master's port; made anew when needed
//	nodes.json   the registry: node -> key, pod range
//	tokens.json  join tokens that still work, their secrets hashed
//	pushers.json pusher tokens that still work, their secrets hashed
//	lock         held while a file is changed; the command line and the master share the directory
package trust

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"fairlead/schema"
)

// Config says what the authority speaks for.
type Config struct {
	// Advertise lists the host names and addresses, with or without a port, by
	// which the master is reached; localhost is always among them. Nil leaves
	// the serving certificate alone.
	Advertise []string
	// PodCIDR is the cluster's pod range (IPv4), of which each node gets a /22.
	// The zero value registers no nodes.
	PodCIDR netip.Prefix
	// ServiceCIDR is the range of services' addresses, in which no node has its own.
	ServiceCIDR netip.Prefix
	// Existing refuses to make a new authority.
	Existing bool
	Now      func() time.Time
}

// Authority is an open pki directory. Several processes may have one open; its
// methods may be called from several goroutines.
type Authority struct {
	dir  string
	cfg  Config
	ca   *pair
	seal []byte

	mu     sync.Mutex
	server *tls.Certificate // nil until first asked for
	nodes  map[schema.NodeName]registration
}

// Names in the directory.
const (
	fileCA      = "ca.pem"
	fileSeal    = "seal.key"
	fileServer  = "server.pem"
	fileNodes   = "nodes.json"
	fileTokens  = "tokens.json"
	filePushers = "pushers.json"
	fileLock    = "lock"
)

const sealKeyBytes = 32

// Open reads the directory and makes what is missing. It is idempotent, and a
// crash at any point leaves a directory that the next Open completes. The
// registry is made last: if it is there and the authority is not, something was
// lost, and Open refuses to put a new one in its place.
func Open(dir string, cfg Config) (*Authority, error) {
	a := &Authority{dir: dir, cfg: cfg}
	if cfg.Existing {
		if _, err := os.Stat(a.path(fileCA)); err != nil {
			return nil, fmt.Errorf("no cluster authority in %s: %w", dir, err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open pki: %w", err)
	}
	if err := a.locked(a.open); err != nil {
		return nil, fmt.Errorf("open pki %s: %w", dir, err)
	}
	return a, nil
}

func (a *Authority) open() error {
	complete, err := exists(a.path(fileNodes))
	if err != nil {
		return err
	}
	if a.ca, err = openFile(a.path(fileCA), complete, a.newCA, parsePair); err != nil {
		return err
	}
	if a.seal, err = openFile(a.path(fileSeal), complete, newSealKey, parseSealKey); err != nil {
		return err
	}
	if !complete {
		if err := writeRegistry(a.path(fileNodes), nil); err != nil {
			return err
		}
	}
	if a.nodes, err = readRegistry(a.path(fileNodes)); err != nil {
		return err
	}
	if a.cfg.PodCIDR.IsValid() {
		if err := checkRange(a.cfg.PodCIDR, a.nodes); err != nil {
			return err
		}
	}
	if len(a.cfg.Advertise) == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refreshServer()
}

// openFile reads a file, or makes it when it is missing and may be.
func openFile[T any](path string, required bool, make func() ([]byte, error), parse func([]byte) (T, error)) (T, error) {
	var zero T
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if required {
			return zero, fmt.Errorf("%s is missing, but %s is there: restore it from a backup, no node would trust a new one", filepath.Base(path), fileNodes)
		}
		if data, err = make(); err == nil {
			err = replaceFile(path, data)
		}
	}
	if err != nil {
		return zero, err
	}
	v, err := parse(data)
	if err != nil {
		return zero, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return v, nil
}

func newSealKey() ([]byte, error) {
	key := make([]byte, sealKeyBytes)
	_, err := rand.Read(key)
	return key, err
}

func parseSealKey(data []byte) ([]byte, error) {
	if len(data) != sealKeyBytes {
		return nil, fmt.Errorf("%d bytes, want %d", len(data), sealKeyBytes)
	}
	return data, nil
}

// CAPEM is the authority's certificate.
func (a *Authority) CAPEM() []byte { return certificatePEM(a.ca.cert) }

// ClusterID names the cluster: 16 hex digits derived from the authority's key.
func (a *Authority) ClusterID() string { return a.pin()[:16] }

// SealKey keys the HMAC that stands in for secret values. 32 bytes; the slice
// is shared, do not change it.
func (a *Authority) SealKey() []byte { return a.seal }

func (a *Authority) path(name string) string { return filepath.Join(a.dir, name) }
