// Package api answers what the outside may ask of the master over its one TLS
// port: Kubernetes clients read the cluster, agents fetch their work and report,
// and a tree can be planned. Nothing here changes the cluster: reads come from
// published snapshots, watches and work streams from the feed between them, and
// what agents say is handed to the loop. It is called by cmd, which brings the
// certificates, the joining of nodes and the planning.
//
// limits.go is the table of what each door takes; admit.go stands before every
// handler and connections.go before every connection, and hold them to it.
// routes.go maps a request to its door and handler; resources.go says what is served;
// read.go, watch.go and table.go answer reads; door.go is the agents' side.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Who stands behind a connection, as Config.Identify says it.
const (
	// CallerNode is an agent; the name is its node's. It uses the agents' door
	// and nothing else.
	CallerNode = "node"
	// CallerReader reads.
	CallerReader = "reader"
)

// Config is what a Server needs. Feed, TLS and Identify are required.
type Config struct {
	Feed *state.Feed
	// TLS serves Run's listener. It must ask for client certificates and verify
	// those it is given (tls.VerifyClientCertIfGiven).
	TLS *tls.Config
	// Identify tells who a verified connection is: one of the Caller kinds, and
	// a name. An empty kind is nobody. It is called for each request, with nil
	// where there is no TLS.
	Identify func(*tls.ConnectionState) (kind, name string)
	// Origin is where desired state lives when an object itself does not say so:
	// the first source and its path.
	Origin schema.Origin
	// Version is Fairlead's own, shown by /version beside Kubernetes'.
	Version string
	// Aside is how many of the store's records could not be read; nil is none.
	Aside func() int
	// Ready is asked by /readyz; nil is always ready.
	Ready func() error
	Door  DoorConfig
	// Plan computes what a tree would change; its result is written as JSON. An
	// error that is an apimachinery APIStatus answers with that status, any
	// other with 500. Nil refuses plans.
	Plan func(ctx context.Context, req PlanRequest) (any, error)
	// Beside are other rooms' handlers on the port, by path prefix with both its
	// slashes ("/git/").
	Beside map[string]Beside
	// Rounds tells of the loop's rounds, for /metrics; nil tells nothing.
	Rounds func() Rounds
	// Descriptors is how many files the process may open; 0 asks the system.
	Descriptors int
	// Metrics is where /metrics comes from and the server's own metrics are
	// registered; nil makes one.
	Metrics *prometheus.Registry
	// Now is the clock ages are counted from; nil is time.Now.
	Now func() time.Time
	Log logrus.FieldLogger

	// What a test's server has instead of the usual; nil elsewhere.
	waits *waits
	doors map[*Limit]Limit
}

// DoorConfig is what the agents' door needs.
type DoorConfig struct {
	Cluster wire.ClusterInfo
	// OpenSecret opens a Secret's values for the nodes that need them.
	OpenSecret work.SecretOpener
	// Join gives a node its certificate; it judges the token itself. Renew gives
	// the node of a certificate a fresh one. Nil refuses.
	Join  func(ctx context.Context, req wire.JoinRequest) (wire.JoinResponse, error)
	Renew func(ctx context.Context, node schema.NodeName, req wire.RenewRequest) (wire.JoinResponse, error)
	// Refused is what errors of Join and Renew wrap that are the asker's fault:
	// they answer 403, which ends an agent's trying, any other 500. With nil
	// every error is.
	Refused error
	// Report takes what a node says of itself; node is the certificate's. An
	// error answers 500 and the agent reports again.
	Report func(ctx context.Context, node schema.NodeName, r wire.Report) error
	// Keeper seals what nodes keep for a master that lost its store; with nil
	// they keep nothing.
	Keeper *work.Keeper
	// Recovering says that the store was lost and Feed starts empty: until it
	// moves, streams carry no work but ask for what nodes kept, and objects are
	// not served.
	Recovering bool
	// Recover takes what a node kept; nil refuses. An error is the node's to
	// tell; it tries again.
	Recover func(ctx context.Context, node schema.NodeName, kept wire.Kept) error
}

// Beside is another room's handler on the port. It turns away by itself whoever has
// no right to come in.
type Beside struct {
	Handler http.Handler
	// Pusher tells whose token a request carries: their requests have their own
	// share of the git door. Nil is a handler for anybody, as webhooks are.
	Pusher func(*http.Request) (name string, ok bool)
}

// Server is the master's port.
type Server struct {
	cfg      Config
	log      logrus.FieldLogger
	metrics  *metrics
	door     *Door
	heard    sync.Map // by node: the time of its last report
	watches  atomic.Int64
	handler  http.Handler
	kinds    map[string]*resource // by "group/version/resource"
	encoding chan struct{}        // holds a token for each answer that is being encoded

	waits      waits
	turnstiles map[*Limit]*turnstile // by what Limits has
	attempts   *attempts
	listening  atomic.Pointer[connections] // nil before Run

	stopping context.Context // done when streams must end
	stop     context.CancelFunc
}

// New prepares a server; Run makes it answer.
func New(cfg Config) (*Server, error) {
	if cfg.Feed == nil || cfg.Identify == nil {
		return nil, errors.New("api: Feed and Identify are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = logrus.StandardLogger()
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, kinds: resourceIndex(), encoding: make(chan struct{}, runtime.GOMAXPROCS(0)),
		waits: usualWaits(), turnstiles: map[*Limit]*turnstile{}, attempts: newAttempts(time.Now),
	}
	if cfg.waits != nil {
		s.waits = *cfg.waits
	}
	for _, l := range Limits() {
		own, ok := cfg.doors[l]
		if !ok {
			own = *l
		}
		s.turnstiles[l] = newTurnstile(&own)
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.door = NewDoor(cfg.Feed, cfg.Door, s.log)
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics, s); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s.handler = s.routes()
	return s, nil
}

// Handler answers everything the port serves. Work streams move only while Run
// runs.
func (s *Server) Handler() http.Handler { return s.handler }

// Run serves l over TLS until ctx is done, then ends every stream, waits up to
// ShutdownTimeout for the rest, and returns with all its goroutines gone. A
// Server runs once.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if s.cfg.TLS == nil {
		return errors.New("api: serve: TLS is required")
	}
	files := s.cfg.Descriptors
	if files == 0 {
		var err error
		if files, err = descriptors(); err != nil {
			return fmt.Errorf("api: serve: %w", err)
		}
	}
	bounded := newConnections(l, files)
	s.listening.Store(bounded)
	srv := s.httpServer()
	doorDone := make(chan struct{})
	go func() {
		defer close(doorDone)
		s.door.run(s.stopping)
	}()
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(bounded, "", "") }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	s.stop()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), ShutdownTimeout)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		_ = srv.Close() // what did not end by itself is cut off
	}
	<-doorDone
	if err == nil {
		err = <-served
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve API: %w", err)
}

func (s *Server) httpServer() *http.Server {
	return &http.Server{
		Handler: s.handler, TLSConfig: identifying(s.cfg.TLS, s.cfg.Identify), ReadHeaderTimeout: ReadHeaderTimeout,
		IdleTimeout: IdleTimeout, MaxHeaderBytes: MaxHeaderBytes, ErrorLog: newErrorLog(s.log), ConnContext: withConnection,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrameBytes,
			MaxReceiveBufferPerConnection: maxUnreadTogether, MaxReceiveBufferPerStream: maxUnreadBytes,
			SendPingTimeout: pingAfter, WriteByteTimeout: s.waits.write,
		},
	}
}

// Acked is the highest snapshot version up to which the node has applied
// everything the door had to tell it; a version that changed nothing for the
// node counts as applied. It is 0 for a node that has not said so since this
// server started.
func (s *Server) Acked(node schema.NodeName) uint64 { return s.door.Acked(node) }

// AckMoved receives after Acked of some node may have grown. It holds one
// signal; it has one reader.
func (s *Server) AckMoved() <-chan struct{} { return s.door.ackMoved }
