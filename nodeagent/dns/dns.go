// Package dns answers the cluster's names: it serves them from a table file that
// the agent replaces whole, and forwards everything else. It runs as a process of
// its own (fairlead dns), so that an agent restart is no name outage. The names
// follow the Kubernetes DNS specification, version 1.1.0.
package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/sirupsen/logrus"
)

// Config is what the server needs.
type Config struct {
	Table string // path of the table file; need not be there yet
	// Listen is where to answer, UDP and TCP; zero means port 53 of the
	// cluster DNS address that the table names.
	Listen netip.AddrPort
	// Upstreams answer what is not the cluster's, tried in order. None means
	// those of ResolvConf, which is read again when it changes.
	Upstreams  []netip.AddrPort
	ResolvConf string // default /etc/resolv.conf
	Log        *logrus.Entry

	allowLoopback bool          // as upstreams: tests have no other address
	lookAgain     time.Duration // default lookAgain; a test wants notices alone
}

// lookAgain is how often files are looked at when no notice of a change comes.
const lookAgain = 2 * time.Second

// port is where DNS is served.
const port = 53

// Run serves until ctx ends; then it returns nil. It waits for the table if
// there is none, and keeps the last good one when a new one cannot be read.
func Run(ctx context.Context, c Config) error {
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	dir := filepath.Dir(c.Table)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the table's directory: %w", err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	defer watcher.Close()
	if err := watcher.Add(dir); err != nil { // the file itself is replaced
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	s := &server{config: c, forwarder: newForwarder(c.Log, c.allowLoopback)}
	defer s.close()
	ticker := time.NewTicker(cmp.Or(c.lookAgain, lookAgain))
	defer ticker.Stop()
	for {
		s.look()
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return errors.New("file notices ended")
			}
		case <-watcher.Errors: // notices were lost: look now
		case <-ticker.C:
		}
	}
}

// server owns the zone and the sockets. Run's goroutine is the one writer.
type server struct {
	config    Config
	forwarder *forwarder
	zone      atomic.Pointer[zone]
	table     stamp
	refused   error // what of the table cannot be served
	resolv    stamp
	listener  *listener
	complaint string // the last error logged
}

// stamp tells a file's version. Two versions may be of one size and of one tick
// of the clock, but then not of one inode.
type stamp struct {
	modified, changed time.Time
	size              int64
	inode             uint64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, fmt.Errorf("no inode of %s", path)
	}
	return stamp{info.ModTime(), time.Unix(st.Ctim.Unix()), info.Size(), st.Ino}, nil
}

// look takes up what changed and says once what is wrong.
func (s *server) look() {
	err := errors.Join(s.lookAtTable(), s.lookAtUpstreams(), s.listen())
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != s.complaint && err != nil {
		s.config.Log.WithError(err).Warn("names are not served as they should be")
	}
	s.complaint = text
}

func (s *server) lookAtTable() error {
	now, err := stampOf(s.config.Table)
	if err != nil {
		return fmt.Errorf("name table: %w", err)
	}
	if now == s.table {
		return s.refused
	}
	t, err := readTable(s.config.Table)
	if err != nil {
		return err
	}
	z, refused, err := newZone(t, uint32(now.modified.Unix()))
	if err != nil {
		return fmt.Errorf("name table: %w", err)
	}
	s.zone.Store(z)
	s.table, s.refused = now, refused
	return refused
}

// lookAtUpstreams leaves out loopback addresses: they lead to a resolver of
// another network namespace, which is not here.
func (s *server) lookAtUpstreams() error {
	upstreams := s.config.Upstreams
	if len(upstreams) == 0 {
		now, err := stampOf(s.config.ResolvConf)
		if err != nil {
			return fmt.Errorf("upstreams: %w", err)
		}
		if now == s.resolv {
			return s.forwarder.refused()
		}
		if upstreams, err = readResolvConf(s.config.ResolvConf); err != nil {
			return err
		}
		s.resolv = now
	}
	return s.forwarder.set(upstreams, s.address())
}

// address is where to listen; zero as long as that is unknown.
func (s *server) address() netip.AddrPort {
	if s.config.Listen.IsValid() {
		return s.config.Listen
	}
	if z := s.zone.Load(); z != nil {
		return netip.AddrPortFrom(z.dns, port)
	}
	return netip.AddrPort{}
}

// listen moves to the address that holds now.
func (s *server) listen() error {
	addr := s.address()
	if s.zone.Load() == nil || s.listener != nil && s.listener.addr == addr {
		return nil
	}
	l, err := newListener(addr, s)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	if s.listener != nil {
		s.listener.close()
	}
	s.listener = l
	s.config.Log.WithFields(logrus.Fields{"address": addr, "names": len(s.zone.Load().names)}).Info("serving names")
	return nil
}

func (s *server) close() {
	s.forwarder.stop() // else those who wait for upstreams would hold the listener
	if s.listener != nil {
		s.listener.close()
	}
	s.forwarder.running.Wait()
}
