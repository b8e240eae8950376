package nodeagent

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent/pod"
	"fairlead/schema/wire"
)

type durability bool

// durable files survive a power cut; passing ones survive a crash of the agent.
const (
	durable durability = true
	passing durability = false
)

// writeFile replaces path whole: a reader sees the old content or the new one.
func writeFile(path string, data []byte, mode fs.FileMode, d durability) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && d == durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	if d == passing {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// workFile is the node's last work on disk. Secrets are sealed with the node's
// own key (AES-256-GCM); the rest is plain JSON that an operator may read.
type workFile struct {
	path string
	seal cipher.AEAD
}

type workOnDisk struct {
	Version uint64     `json:"version"`
	Items   wire.Items `json:"items"`
	Sealed  []byte     `json:"sealed"` // nonce and ciphertext of the items under secrets/, as JSON
}

const (
	workKeyBytes = 32
	secretFamily = "secrets/"
)

// openWorkFile reads or makes the key file, readable by root alone.
func openWorkFile(path, keyPath string) (*workFile, error) {
	key, err := os.ReadFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, workKeyBytes)
		if _, err := rand.Read(key); err != nil {
			return nil, fmt.Errorf("make work key: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(keyPath), 0o700); err != nil {
			return nil, fmt.Errorf("make work key: %w", err)
		}
		err = writeFile(keyPath, key, 0o600, durable)
	}
	if err != nil {
		return nil, fmt.Errorf("work key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("work key %s: %w", keyPath, err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("work key %s: %w", keyPath, err)
	}
	return &workFile{path: path, seal: seal}, nil
}

func (f *workFile) save(version uint64, items wire.Items) error {
	open, secret := make(wire.Items, len(items)), wire.Items{}
	for k, v := range items {
		if strings.HasPrefix(k, secretFamily) {
			secret[k] = v
		} else {
			open[k] = v
		}
	}
	plain, err := json.Marshal(secret)
	if err != nil {
		return fmt.Errorf("save work: %w", err)
	}
	nonce := make([]byte, f.seal.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return fmt.Errorf("save work: %w", err)
	}
	data, err := json.Marshal(workOnDisk{version, open, f.seal.Seal(nonce, nonce, plain, nil)})
	if err != nil {
		return fmt.Errorf("save work: %w", err)
	}
	if err := writeFile(f.path, data, 0o600, durable); err != nil {
		return fmt.Errorf("save work: %w", err)
	}
	return nil
}

// load returns no items and no error when there is no work yet.
func (f *workFile) load() (version uint64, items wire.Items, err error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("load work: %w", err)
	}
	var d workOnDisk
	if err := json.Unmarshal(data, &d); err != nil {
		return 0, nil, fmt.Errorf("load work: %w", err)
	}
	if len(d.Sealed) < f.seal.NonceSize() {
		return 0, nil, errors.New("load work: the sealed part is cut short")
	}
	n := f.seal.NonceSize()
	plain, err := f.seal.Open(nil, d.Sealed[:n], d.Sealed[n:], nil)
	if err != nil {
		return 0, nil, fmt.Errorf("load work: unseal secrets: %w", err)
	}
	if d.Items == nil {
		d.Items = wire.Items{}
	}
	if err := json.Unmarshal(plain, &d.Items); err != nil {
		return 0, nil, fmt.Errorf("load work: unseal secrets: %w", err)
	}
	return d.Version, d.Items, nil
}

// podDirs lays out what the agent keeps per pod.
type podDirs string

func (d podDirs) pod(uid types.UID) string    { return filepath.Join(string(d), string(uid)) }
func (d podDirs) record(uid types.UID) string { return filepath.Join(d.pod(uid), "record.json") }
func (d podDirs) files(uid types.UID) string  { return filepath.Join(d.pod(uid), "etc") }
func (d podDirs) logs(uid types.UID) string   { return filepath.Join(d.pod(uid), "logs") }
func (d podDirs) log(uid types.UID, container string, attempt int) string {
	return filepath.Join(d.logs(uid), container, fmt.Sprintf("%d.log", attempt))
}

// message is where an attempt may leave what is to be said of its end.
func (d podDirs) message(uid types.UID, container string, attempt int) string {
	return filepath.Join(d.pod(uid), "messages", container, strconv.Itoa(attempt))
}

func (d podDirs) saveRecord(o *pod.Observed) error {
	if err := os.MkdirAll(d.pod(o.UID), 0o700); err != nil {
		return fmt.Errorf("save record of pod %s: %w", o.UID, err)
	}
	data, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("save record of pod %s: %w", o.UID, err)
	}
	if err := writeFile(d.record(o.UID), data, 0o600, passing); err != nil {
		return fmt.Errorf("save record of pod %s: %w", o.UID, err)
	}
	return nil
}

// loadRecords reads every pod's record. A record that cannot be read (a power
// cut may have torn it) is left out: the runtime's labels tell the rest.
func (d podDirs) loadRecords() ([]pod.Observed, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	var out []pod.Observed
	for _, e := range entries {
		o := pod.Observed{}
		data, err := os.ReadFile(d.record(types.UID(e.Name())))
		if err == nil && json.Unmarshal(data, &o) != nil {
			o = pod.Observed{}
		}
		if o.Containers == nil {
			o.Containers = map[string]pod.Container{}
		}
		o.UID = types.UID(e.Name())
		out = append(out, o)
	}
	return out, nil
}

// loadAddresses reads the file that save wrote; a missing one is an empty start.
func loadAddresses(path string) (*addresses, error) {
	a := newAddresses()
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read addresses: %w", err)
	}
	if err := json.Unmarshal(data, a); err != nil {
		return nil, fmt.Errorf("read addresses: %s: %w", path, err)
	}
	if a.Given == nil || a.Resting == nil { // a null takes away what was made above
		return nil, fmt.Errorf("read addresses: %s: what was given or what rests is missing", path)
	}
	return a, nil
}

func (a *addresses) save(path string) error {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("save addresses: %w", err)
	}
	if err := writeFile(path, data, 0o600, durable); err != nil {
		return fmt.Errorf("save addresses: %w", err)
	}
	a.dirty = false
	return nil
}
