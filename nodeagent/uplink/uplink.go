// Package uplink answers how an agent hears from the master and speaks to it:
// it follows the node's work stream, posts reports and answers log requests,
// over mutual TLS at the agents' door. The agent always dials. It decides
// nothing; the node agent calls it.
package uplink

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"fairlead/schema/wire"
)

const (
	// silence is how long a stream may say nothing before it counts as broken;
	// the master says something every five seconds.
	silence = 20 * time.Second
	// Back-off of connections; short, for a restarted master should find its
	// nodes at once.
	retryFirst = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	// maxFrame bounds one line of the stream: a whole work with ten thousand
	// services is some megabytes.
	maxFrame = 256 << 20
	// maxAnswer bounds what is read of an answer to a report.
	maxAnswer   = 64 << 10
	dialTimeout = 5 * time.Second
	// offerTimeout bounds the telling of what this node kept; the stream, which
	// is not read meanwhile, stays within silence.
	offerTimeout = 15 * time.Second
	// logTaken is how long the reader of a whole log may take it.
	logTaken = 5 * time.Minute
	// stalled is how long the master may take nothing of a log: it lets its reader
	// take nothing for half as long.
	stalled = 20 * time.Second
	// answerTimeout bounds reading an answer, once it has begun.
	answerTimeout = 10 * time.Second
)

// Config is what a Client needs.
type Config struct {
	Server string // https://host:port
	TLS    *tls.Config
	Log    *logrus.Entry
}

// Client is the agent's end of the agents' door. Its methods may be called from
// any goroutine; Follow by one at a time.
type Client struct {
	server string
	http   *http.Client
	logs   *http.Client
	log    *logrus.Entry

	stalled, answerTimeout time.Duration // a test's clients have less than the constants
}

// New makes a client; nothing is dialled yet.
func New(cfg Config) *Client {
	return &Client{
		server: strings.TrimSuffix(cfg.Server, "/"),
		log:    cfg.Log,
		http:   &http.Client{Transport: transport(cfg.TLS, silence)},
		// A log is answered when its reader has it, however slowly that one reads.
		logs:    &http.Client{Transport: transport(cfg.TLS, 0)},
		stalled: stalled, answerTimeout: answerTimeout,
	}
}

// transport speaks HTTP/1 alone: a stream, a report and a log never wait for each
// other.
func transport(config *tls.Config, answer time.Duration) *http.Transport {
	return &http.Transport{
		TLSClientConfig:       config,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answer,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
	}
}

// Update is one change of the node's work, whole, and what of it changed. Work
// shares what did not change with the one before and must not be changed. Work
// is nil when only log requests came.
type Update struct {
	Version uint64
	Items   wire.Items
	Work    *wire.Work
	Changed map[string]bool // families: "node", "peers", "pods", "configMaps", "binaryKeys", "secrets", "services", "records", "seals"
	Logs    []wire.LogRequest
}

// Follow hands every change to emit until ctx ends. It starts from version and
// items (zero values for nothing) and connects again whenever the stream breaks.
func (c *Client) Follow(ctx context.Context, version uint64, items wire.Items, emit func(Update)) {
	v, err := NewView(version, items)
	if err != nil {
		c.log.WithError(err).Warn("kept work not understood: asking for the whole")
		v, _ = NewView(0, nil)
	}
	retry, told := retryFirst, false
	for ctx.Err() == nil {
		heard := false
		err := c.stream(ctx, v, func(u Update) {
			heard = true
			if told {
				c.log.Info("following the master again")
			}
			retry, told = retryFirst, false
			if u.Work != nil || len(u.Logs) > 0 {
				emit(u)
			}
		})
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrMismatch) {
			c.log.WithError(err).Warn("the work does not match its hash: asking for the whole")
			v.AskForWhole()
		} else if !told && !heard {
			told = true
			c.log.WithError(err).Warn("the master cannot be followed")
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		retry = min(2*retry, retryMost)
	}
}

// stream follows one connection to its end.
func (c *Client) stream(ctx context.Context, v *View, heard func(Update)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	since := v.Since()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+wire.PathWork+"?since="+strconv.FormatUint(since, 10), nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return refusal(res)
	}
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	lines := bufio.NewReaderSize(res.Body, 64<<10)
	for offered := (offering{client: c, view: v}); ; {
		f, err := readFrame(lines)
		if err != nil {
			return fmt.Errorf("work stream: %w", err)
		}
		watchdog.Reset(silence)
		if f.Recover {
			offered.offer(ctx)
		}
		u := Update{Logs: f.Logs}
		if f.Hash != "" {
			if u, err = v.Apply(f); err != nil {
				return err
			}
		}
		heard(u)
	}
}

// offering tells a master that lost its store, over one connection, what this node kept:
// once it was taken never again, and of failures the first is logged.
type offering struct {
	client      *Client
	view        *View
	taken, told bool
}

func (o *offering) offer(ctx context.Context) {
	if o.taken {
		return
	}
	err := o.client.postKept(ctx, o.view.Kept())
	switch log := o.client.log; {
	case err == nil:
		o.taken = true
		log.WithField("version", o.view.version).Info("the master was told what this node kept")
	case !o.told:
		o.told = true
		log.WithError(err).Warn("the master did not take what this node kept")
	}
}

func (c *Client) postKept(ctx context.Context, kept wire.Kept) error {
	ctx, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	body, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	return c.post(ctx, wire.PathKept, bytes.NewReader(body))
}

func readFrame(r *bufio.Reader) (f wire.Frame, err error) {
	line, err := readLine(r)
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(line, &f)
}

func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(line) > maxFrame:
			return nil, fmt.Errorf("a frame exceeds %d bytes", maxFrame)
		}
	}
}

// Report posts a report; nil means that the master took it.
func (c *Client) Report(ctx context.Context, r *wire.Report) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := c.post(ctx, wire.PathReport, bytes.NewReader(body)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// SendLog answers a log request with body, or, when there is no log, with why. It
// returns when the master has answered, also while body goes on; whoever writes to
// body then stops. A reason that wraps wire.ErrLogsBusy has the reader try again.
func (c *Client) SendLog(ctx context.Context, id string, body io.Reader, why error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if why != nil {
		body = http.NoBody
		defer time.AfterFunc(c.stalled, cancel).Stop()
	} else {
		taken := &takenBody{body: body, stalled: c.stalled, late: time.AfterFunc(c.stalled, cancel)}
		defer taken.late.Stop()
		body = taken
	}
	req, err := c.request(ctx, wire.PathLogs+url.PathEscape(id), body, "text/plain")
	if err != nil {
		return fmt.Errorf("send log: %w", err)
	}
	if why != nil {
		req.Header.Set(wire.HeaderLogError, strings.Join(strings.Fields(why.Error()), " "))
	}
	if errors.Is(why, wire.ErrLogsBusy) {
		req.Header.Set(wire.HeaderLogBusy, "true")
	}
	if err := c.do(c.logs, req); err != nil {
		return fmt.Errorf("send log: %w", err)
	}
	return nil
}

// takenBody is a body that the master must go on taking: however long it has
// nothing to say itself, what was read of it is sent on within stalled, and after
// its end the answer comes within logTaken.
type takenBody struct {
	body    io.Reader
	stalled time.Duration
	late    *time.Timer
}

func (b *takenBody) Read(p []byte) (int, error) {
	b.late.Stop()
	n, err := b.body.Read(p)
	if err != nil {
		b.late.Reset(logTaken)
	} else {
		b.late.Reset(b.stalled)
	}
	return n, err
}

func (c *Client) post(ctx context.Context, path string, body io.Reader) error {
	req, err := c.request(ctx, path, body, "application/json")
	if err != nil {
		return err
	}
	return c.do(c.http, req)
}

func (c *Client) request(ctx context.Context, path string, body io.Reader, contentType string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	return req, nil
}

func (c *Client) do(through *http.Client, req *http.Request) error {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	res, err := through.Do(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	defer time.AfterFunc(c.answerTimeout, cancel).Stop()
	if res.StatusCode/100 != 2 {
		return refusal(res)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	return err
}

// refusal is the master's answer as an error: its Status message, if it has one.
func refusal(res *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	var status struct{ Message string }
	if json.Unmarshal(data, &status) == nil && status.Message != "" {
		return fmt.Errorf("%s: %s", res.Status, status.Message)
	}
	return errors.New(res.Status)
}

// ErrMismatch says that a frame does not follow what the view has: the whole is
// to be asked for.
var ErrMismatch = errors.New("frame does not fit")

// View is the work as of the last frame.
type View struct {
	version uint64
	whole   bool // the next frame must not build on this
	items   wire.Items
	sum     wire.Sum
	work    *wire.Work
}

// NewView starts from a work that was kept; zero values for none.
func NewView(version uint64, items wire.Items) (*View, error) {
	work, err := wire.Join(items)
	if err != nil {
		return nil, err
	}
	return &View{version: version, items: maps.Clone(items), sum: items.Sum(), work: work}, nil
}

// Since is the version the next stream is to go on from; 0 asks for the whole.
func (v *View) Since() uint64 {
	if v.whole {
		return 0
	}
	return v.version
}

// AskForWhole makes the next stream start from nothing.
func (v *View) AskForWhole() { v.whole = true }

// Kept is what the view has for a master that lost its store.
func (v *View) Kept() wire.Kept { return wire.Kept{Version: v.version, Items: v.items.Keepsakes()} }

// Apply takes the view to the frame's version and tells what changed. Only what
// changed is decoded. After ErrMismatch the view is as it was.
func (v *View) Apply(f wire.Frame) (Update, error) {
	if f.Since != 0 && f.Since != v.version {
		return Update{}, fmt.Errorf("%w: it follows version %d, not %d", ErrMismatch, f.Since, v.version)
	}
	next := v.changedBy(f)
	if got := next.sum.String(); got != f.Hash {
		return Update{}, fmt.Errorf("%w: hash is %s, the master says %s", ErrMismatch, got, f.Hash)
	}
	work, changed, err := merge(v.work, next.fresh, next.gone)
	if err != nil {
		return Update{}, err
	}
	v.version, v.whole, v.items, v.sum, v.work = f.Version, false, next.items, next.sum, work
	return Update{Version: f.Version, Items: next.items, Work: work, Changed: changed, Logs: f.Logs}, nil
}

// itemChange is what a frame makes of a view's items.
type itemChange struct {
	items wire.Items
	sum   wire.Sum
	fresh wire.Items // that came or changed
	gone  []string
}

// changedBy leaves the view as it is. A frame from nothing takes away what it lacks.
func (v *View) changedBy(f wire.Frame) itemChange {
	c := itemChange{items: maps.Clone(v.items), sum: v.sum, fresh: wire.Items{}}
	if c.items == nil {
		c.items = wire.Items{}
	}
	for _, key := range f.Delete {
		c.remove(key)
	}
	if f.Since == 0 {
		for key := range v.items {
			if _, ok := f.Set[key]; !ok {
				c.remove(key)
			}
		}
	}
	for key, value := range f.Set {
		c.set(key, value)
	}
	return c
}

func (c *itemChange) remove(key string) {
	if old, ok := c.items[key]; ok {
		c.sum = c.sum.Minus(wire.ItemSum(key, old))
		delete(c.items, key)
		c.gone = append(c.gone, key)
	}
}

func (c *itemChange) set(key string, value json.RawMessage) {
	old, had := c.items[key]
	if had && bytes.Equal(old, value) {
		return
	}
	if had {
		c.sum = c.sum.Minus(wire.ItemSum(key, old))
	}
	c.sum = c.sum.Plus(wire.ItemSum(key, value))
	c.items[key], c.fresh[key] = value, value
}

// merge is old with set put in and gone taken out; maps without a change are old's.
func merge(old *wire.Work, set wire.Items, gone []string) (*wire.Work, map[string]bool, error) {
	fresh, err := wire.Join(set)
	if err != nil {
		return nil, nil, err
	}
	changed := map[string]bool{}
	missing := map[string][]string{}
	for key := range set {
		family, _, _ := strings.Cut(key, "/")
		changed[family] = true
	}
	for _, key := range gone {
		family, name, _ := strings.Cut(key, "/")
		changed[family] = true
		missing[family] = append(missing[family], name)
	}
	work := *old
	if changed["node"] {
		work.Node, work.Cluster, work.PodCIDRs = fresh.Node, fresh.Cluster, fresh.PodCIDRs
	}
	work.Peers = merged(work.Peers, fresh.Peers, missing["peers"], changed["peers"])
	work.Pods = merged(work.Pods, fresh.Pods, missing["pods"], changed["pods"])
	work.ConfigMaps = merged(work.ConfigMaps, fresh.ConfigMaps, missing["configMaps"], changed["configMaps"])
	work.BinaryKeys = merged(work.BinaryKeys, fresh.BinaryKeys, missing["binaryKeys"], changed["binaryKeys"])
	work.Secrets = merged(work.Secrets, fresh.Secrets, missing["secrets"], changed["secrets"])
	work.Services = merged(work.Services, fresh.Services, missing["services"], changed["services"])
	return &work, changed, nil
}

func merged[K ~string, V any](old, set map[K]V, gone []string, changed bool) map[K]V {
	if !changed {
		return old
	}
	out := make(map[K]V, len(old)+len(set))
	maps.Copy(out, old)
	for _, name := range gone {
		delete(out, K(name))
	}
	maps.Copy(out, set)
	return out
}
