package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

func (s *Server) serveJoin(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Door.Join == nil {
		writeError(w, apierrors.NewServiceUnavailable("no node can join this server"))
		return
	}
	var req wire.JoinRequest
	if err := decodeBody(r, &req); err != nil {
		writeError(w, badBody("read join request", err))
		return
	}
	resp, err := s.cfg.Door.Join(r.Context(), req)
	if err != nil && s.attempts.tooMany(callerOf(r).name) {
		writeError(w, tooManyAttempts(callerOf(r).name))
		return
	}
	s.answerJoin(w, resp, err)
}

func (s *Server) serveRenew(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Door.Renew == nil {
		writeError(w, apierrors.NewServiceUnavailable("no certificate is renewed here"))
		return
	}
	var req wire.RenewRequest
	if err := decodeBody(r, &req); err != nil {
		writeError(w, badBody("read renew request", err))
		return
	}
	resp, err := s.cfg.Door.Renew(r.Context(), schema.NodeName(callerOf(r).name), req)
	s.answerJoin(w, resp, err)
}

func (s *Server) answerJoin(w http.ResponseWriter, resp wire.JoinResponse, err error) {
	switch refused := s.cfg.Door.Refused; {
	case err == nil:
		writeJSON(w, http.StatusOK, resp)
	case refused == nil || errors.Is(err, refused):
		writeError(w, newStatus(http.StatusForbidden, metav1.StatusReasonForbidden, err.Error()))
	default:
		writeError(w, statusOf(err))
	}
}

func (s *Server) serveReport(w http.ResponseWriter, r *http.Request) {
	var report wire.Report
	if err := decodeBody(r, &report); err != nil {
		writeError(w, badBody("read report", err))
		return
	}
	node := schema.NodeName(callerOf(r).name)
	if report.Node != node {
		writeError(w, newStatus(http.StatusForbidden, metav1.StatusReasonForbidden, fmt.Sprintf("node %s may not report for node %s", node, report.Node)))
		return
	}
	if s.cfg.Door.Report == nil {
		writeError(w, apierrors.NewServiceUnavailable("no report is taken here"))
		return
	}
	if err := s.cfg.Door.Report(r.Context(), node, report); err != nil {
		writeError(w, statusOf(err))
		return
	}
	s.hear(node)
	s.door.Acknowledge(node, report.AppliedVersion)
	writeJSON(w, http.StatusOK, struct{}{})
}

// serveKept takes what a node kept of a cluster that this master lost.
func (s *Server) serveKept(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Door.Recover == nil || !s.door.recovering() {
		writeError(w, newStatus(http.StatusConflict, metav1.StatusReasonConflict, "no recovery is running: the master has its store"))
		return
	}
	kept, err := decodeKept(r.Body)
	if err != nil {
		writeError(w, badBody("read what the node kept", err))
		return
	}
	if err := s.cfg.Door.Recover(r.Context(), schema.NodeName(callerOf(r).name), kept); err != nil {
		writeError(w, statusOf(err))
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

// decodeKept reads item by item: what a node kept is not held twice.
func decodeKept(body io.Reader) (wire.Kept, error) {
	kept := wire.Kept{Items: wire.Items{}}
	dec := json.NewDecoder(body)
	err := eachMember(dec, func(name string) error {
		switch name {
		case "version":
			return dec.Decode(&kept.Version)
		case "items":
			return eachMember(dec, func(key string) error {
				var value json.RawMessage
				err := dec.Decode(&value)
				kept.Items[key] = value
				return err
			})
		}
		return dec.Decode(new(json.RawMessage))
	})
	return kept, err
}

// recovering reports whether the snapshots are still those of a lost store.
func (d *Door) recovering() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// serveWork is the stream of frames to one agent. A newer connection of the same
// node ends it.
func (s *Server) serveWork(w http.ResponseWriter, r *http.Request) {
	since := uint64(0)
	if text := r.URL.Query().Get("since"); text != "" {
		var err error
		if since, err = strconv.ParseUint(text, 10, 64); err != nil {
			writeError(w, apierrors.NewBadRequest(fmt.Sprintf("since %q is not a version", text)))
			return
		}
	}
	stream := s.door.Connect(schema.NodeName(callerOf(r).name), since)
	defer s.door.Disconnect(stream)
	out := newStream(w, "application/json")
	heartbeat := time.NewTicker(HeartbeatInterval)
	defer heartbeat.Stop()
	beat := false
	for {
		frame, worth := s.door.Next(stream)
		if worth || beat {
			if s.door.send(out, frame) != nil {
				return
			}
		}
		beat = false
		select {
		case <-stream.wake:
		case <-heartbeat.C:
			beat = true
		case <-stream.replaced:
			return
		case <-s.stopping.Done():
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (d *Door) send(out *stream, frame wire.Frame) error {
	data, err := frame.Append(nil)
	if err != nil {
		panic("api: marshal a frame: " + err.Error())
	}
	if _, err := out.Write(append(data, '\n')); err != nil {
		return err
	}
	if frame.Hash != "" {
		d.frames.Inc()
		d.frameBytes.Add(float64(len(data)))
	}
	return nil
}

// node finds or makes a node's side; mu is held.
func (d *Door) node(name schema.NodeName) *nodeDoor {
	n := d.nodes[name]
	if n == nil {
		version := d.snapshot.Counters().ResourceVersion
		n = &nodeDoor{node: name, changed: version, unacked: []span{{1, version}}}
		d.rebuildOwn(n)
		d.nodes[name] = n
	}
	return n
}

// Connect makes a new stream the node's one. An agent that is where the last
// stream ended goes on from there; so does one that has the current version
// although nothing was sent to it yet (the frame's hash will tell if it has
// not); any other gets the whole.
func (d *Door) Connect(name schema.NodeName, since uint64) *WorkStream {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.makeRecords()
	n := d.node(name)
	if n.stream != nil {
		close(n.stream.replaced)
	}
	n.stream = &WorkStream{node: n, wake: make(chan struct{}, 1), replaced: make(chan struct{})}
	switch {
	case n.sentOwn != nil && n.sent == since && since != 0:
	case since != 0 && since == d.snapshot.Counters().ResourceVersion:
		n.sent, n.sentOwn = since, n.own
	default:
		n.sent, n.sentOwn = 0, nil
	}
	n.greet = true
	return n.stream
}

// Disconnect ends a stream.
func (d *Door) Disconnect(stream *WorkStream) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := stream.node; n.stream == stream {
		n.stream = nil
	}
}

// Next is what the stream sends now: the whole, what changed since the last
// frame, log requests, or nothing worth sending.
func (d *Door) Next(stream *WorkStream) (wire.Frame, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := stream.node
	if n.stream != stream {
		return wire.Frame{}, false
	}
	if d.lost {
		return wire.Frame{Recover: true}, n.greet
	}
	if n.greet && n.unopened && n.held < maxHeld {
		n.held++
		return wire.Frame{}, false
	}
	n.held = 0
	var f wire.Frame
	version := d.snapshot.Counters().ResourceVersion
	if n.greet || n.changed > n.sent || n.renewed {
		f = d.frame(n, version)
		n.sent, n.sentOwn, n.greet, n.renewed = version, n.own, false, false
	}
	f.Logs, n.logs = n.logs, nil
	return f, f.Hash != "" || len(f.Logs) > 0
}

// frame takes the node from what it was sent to now.
func (d *Door) frame(n *nodeDoor, version uint64) wire.Frame {
	sum := n.ownSum.Plus(d.sharedSum)
	self, hasSelf := d.shared[n.selfPeer()]
	if hasSelf {
		sum = sum.Minus(wire.ItemSum(n.selfPeer(), self))
	}
	if n.sentOwn == nil || n.sent < d.floor {
		f := wire.Frame{Version: version, Hash: sum.String(), Set: make(map[string]json.RawMessage, len(n.own)+len(d.shared))}
		for k, v := range n.own {
			f.Set[k] = v
		}
		for k, v := range d.shared {
			if k != n.selfPeer() {
				f.Set[k] = v
			}
		}
		return f
	}
	f := wire.Delta(n.sentOwn, n.own, n.sent, version)
	f.Hash = sum.String()
	d.addShared(&f, n)
	return f
}

// addShared puts the shared changes since the node's last frame into f.
func (d *Door) addShared(f *wire.Frame, n *nodeDoor) {
	gone := map[string]bool{}
	for i := len(d.sharedLog) - 1; i >= 0 && d.sharedLog[i].version > n.sent; i-- {
		key := d.sharedLog[i].key
		if key == n.selfPeer() {
			continue
		}
		if value, ok := d.shared[key]; ok {
			f.Set[key] = value
		} else {
			gone[key] = true
		}
	}
	for key := range gone {
		f.Delete = append(f.Delete, key)
	}
	slices.Sort(f.Delete)
}

// changedIn notes that the node's work changed between two looks at the feed.
func (n *nodeDoor) changedIn(versions span) {
	n.changed = versions.last
	if len(n.unacked) >= maxUnacknowledged {
		n.unacked[len(n.unacked)-1].last = versions.last
		return
	}
	n.unacked = append(n.unacked, versions)
}

// Acknowledge takes an agent's word that it has applied everything up to version.
func (d *Door) Acknowledge(name schema.NodeName, version uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.node(name)
	before := len(n.unacked)
	n.unacked = slices.DeleteFunc(n.unacked, func(s span) bool { return s.last <= version })
	if len(n.unacked) != before {
		signal(d.ackMoved)
	}
}

// Acked is the version that a node has in force, with everything before it.
func (d *Door) Acked(name schema.NodeName) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[name]
	switch {
	case n == nil:
		return 0
	case len(n.unacked) == 0:
		return d.snapshot.Counters().ResourceVersion
	}
	return n.unacked[0].first - 1
}

func (d *Door) connected() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	count := 0
	for _, n := range d.nodes {
		if n.stream != nil {
			count++
		}
	}
	return count
}
