package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/nodeagent/join"
	"fairlead/schema"
	"fairlead/schema/wire"
)

const (
	// masterMemory and roundTime are what a master keeps to under attack:
	// anonymous memory, and CPU time of one round.
	masterMemory = 400 << 20
	roundTime    = 250 * time.Millisecond
	// idleConnections are opened at a time for each second of the attack, up to
	// idleMost: the attacker needs descriptors too.
	idleConnections = 500
	idleMost        = 15_000
	planPath        = "/apis/fairlead/v1/plan"
	pushPath        = "/git/main/git-receive-pack?bomb" // the query tells it from what strangers send there
	// gitMemory is what git's programs keep to, all together: six requests of 512 MiB.
	gitMemory = 6 * 512 << 20
)

// Strangers, a reader, a pusher and a node ask for whatever the port gives, all at once
// and ceaselessly, as much of it as each may, while repositories outside bring commits that
// take whatever may be taken to fetch and to judge them. The master keeps to its memory and
// its rounds, what it starts to its own, the nodes stay Ready, and another reader goes on
// being answered.
//
// Rounds are judged by what they computed: by the clock, the attackers on the same
// two cores would be measured.
func testHostileDoors(t *testing.T) {
	shared.awaitReady(t)
	d, outside := newDoors(t), newHostileSources(t)
	outside.declare(t)
	ctx, cancel := context.WithTimeout(t.Context(), *attackFor)
	defer cancel()
	var attackers sync.WaitGroup
	for _, attack := range []func(context.Context){
		outside.commits, d.plans, d.pushes, d.lists, d.watches, d.logs, d.idle, d.slowBodies, d.guesses, d.webhooks, d.kept, d.reports,
	} {
		attackers.Go(func() { attack(ctx) })
	}
	watched, stop := context.WithCancel(t.Context())
	defer stop()
	witness := d.watchOver(watched, t)
	attackers.Wait()
	d.awaitAnswers(t.Context())
	outside.awaitRefused(t)
	stop()
	if n := witness(); n == 0 {
		t.Error("the other reader was never answered")
	}
	d.judge(t)
	shared.awaitReady(t)
}

// doors is an attack on one master.
type doors struct {
	pid      int
	address  string
	other    *client.Client // another reader
	attacker *http.Client   // a reader
	node     *http.Client   // a node
	pusher   *http.Client
	stranger *tls.Config
	token    string       // a pusher's
	planned  [][]byte     // bodies that ask for plans
	bomb     []byte       // a push
	most     atomic.Int64 // anonymous memory
	mostGit  atomic.Int64 // that of the processes that it started, together

	mu      sync.Mutex
	answers map[string]map[int]int // by path, of each code
}

func newDoors(t *testing.T) *doors {
	t.Helper()
	d := &doors{pid: shared.daemon(t, "master"), planned: [][]byte{hostilePlan(), largestPlan()}, answers: map[string]map[int]int{}}
	server, err := url.Parse(shared.API)
	if err != nil {
		t.Fatal(err)
	}
	d.address = server.Host
	text, code := shared.fairlead(t, "kubeconfig", "--dir", shared.dir, "--reader", "other", "--server", shared.API)
	if code != 0 {
		t.Fatal(text)
	}
	path := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if d.other, err = client.Open(path); err != nil {
		t.Fatal(err)
	}
	text, code = shared.fairlead(t, "token", "--dir", shared.dir, "--push", "main", "--name", "mallory")
	if code != 0 {
		t.Fatal(text)
	}
	fields := strings.Fields(text)
	d.token = fields[len(fields)-1]
	command := strings.Repeat("0", 40) + " " + strings.Repeat("1", 40) + " refs/heads/bomb\x00report-status side-band-64k"
	d.bomb = append(fmt.Appendf(nil, "%04x%s0000", len(command)+4, command), pack()...)
	config, err := join.ClientTLS(filepath.Join(shared.dir, "nodes", shared.Nodes[0].Name, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	d.node = speaking(config)
	d.stranger = &tls.Config{RootCAs: config.RootCAs}
	d.pusher = speaking(d.stranger)
	d.attacker = speaking(&tls.Config{RootCAs: config.RootCAs, Certificates: []tls.Certificate{readerCertificate(t, shared.Kubeconfig)}})
	t.Cleanup(func() {
		d.attacker.CloseIdleConnections()
		d.node.CloseIdleConnections()
		d.pusher.CloseIdleConnections()
	})
	return d
}

// readerCertificate is that of a kubeconfig's only user.
func readerCertificate(t *testing.T, kubeconfig string) tls.Certificate {
	t.Helper()
	data, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	var k struct {
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := yaml.Unmarshal(data, &k); err != nil || len(k.Users) != 1 {
		t.Fatalf("%s: %d users, %v", kubeconfig, len(k.Users), err)
	}
	pair, err := tls.X509KeyPair(k.Users[0].User.Cert, k.Users[0].User.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func speaking(config *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, TLSHandshakeTimeout: callTimeout}}
}

// hostilePlan asks for a plan of many Secrets, near the most that may be sent.
func hostilePlan() []byte {
	var b bytes.Buffer
	b.WriteString(`{"source":"main","files":[`)
	value := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("secret"), 10<<10))
	for i := range 100 {
		if i > 0 {
			b.WriteByte(',')
		}
		manifest := fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: s%d}\ndata: {v: %s}\n", i, value)
		fmt.Fprintf(&b, `{"path":"s%d.yaml","data":%q}`, i, base64.StdEncoding.EncodeToString([]byte(manifest)))
	}
	b.WriteString("]}")
	return b.Bytes()
}

// largestPlan asks for a plan of as many Deployments as a body holds.
func largestPlan() []byte {
	var manifests bytes.Buffer
	for i := 0; manifests.Len() < 11<<20; i++ {
		fmt.Fprintf(&manifests, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d%d, annotations: {note: %s}}\nspec:\n  replicas: 3\n  selector: {matchLabels: {app: d%[1]d}}\n  template:\n    metadata: {labels: {app: d%[1]d}}\n    spec: {containers: [{name: c, image: localhost/none:v1}]}\n", i, strings.Repeat("x", 900))
	}
	return planOf(manifests.Bytes())
}

// planOf asks for a plan of documents, in files of the size that one may have.
func planOf(manifests []byte) []byte {
	var b bytes.Buffer
	b.WriteString(`{"source":"main","files":[`)
	for i := 0; len(manifests) > 0; i++ {
		part := manifests
		if len(part) > 2<<20 {
			part = part[:bytes.LastIndex(part[:2<<20], []byte("---\n"))]
		}
		manifests = manifests[len(part):]
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"path":"d%d.yaml","data":%q}`, i, base64.StdEncoding.EncodeToString(part))
	}
	b.WriteString("]}")
	return b.Bytes()
}

// ceaseless calls f on n goroutines until ctx is done.
func ceaseless(ctx context.Context, n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				f(i)
			}
		})
	}
	all.Wait()
}

// call asks, reads whatever comes, as long as the attack lasts, and counts it.
func (d *doors) call(ctx context.Context, c *http.Client, method, path string, body io.Reader, header ...string) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+d.address+path, body)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	code := 0 // no answer
	if resp, err := c.Do(req); err == nil {
		code = resp.StatusCode
		_, _ = io.Copy(io.Discard, resp.Body) // an attacker does not mind how it ends
		resp.Body.Close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answers[path] == nil {
		d.answers[path] = map[int]int{}
	}
	d.answers[path][code]++
}

func (d *doors) plans(ctx context.Context) {
	ceaseless(ctx, 30, func(i int) { d.askFor(ctx, d.planned[i%len(d.planned)]) })
}

func (d *doors) askPlan(ctx context.Context) { d.askFor(ctx, d.planned[0]) }

func (d *doors) askFor(ctx context.Context, plan []byte) {
	d.call(ctx, d.attacker, http.MethodPost, planPath, bytes.NewReader(plan))
}

// pushes are of 16 KB each, of which git would make a gigabyte.
func (d *doors) pushes(ctx context.Context) {
	ceaseless(ctx, 20, func(int) { d.pushBomb(ctx) })
}

func (d *doors) pushBomb(ctx context.Context) {
	d.call(ctx, d.pusher, http.MethodPost, pushPath, bytes.NewReader(d.bomb), "Authorization", "Bearer "+d.token, "Content-Type", "application/x-git-receive-pack-request")
}

// answerPatience bounds how long what an attack did not reach is asked for again.
const answerPatience = 3 * time.Minute

// awaitAnswers asks again for what the attack did not reach before it was over: a large
// body takes longer on a busy machine.
func (d *doors) awaitAnswers(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	for path, ask := range map[string]func(context.Context){planPath: d.askPlan, pushPath: d.pushBomb, wire.PathKept: d.sendKept, wire.PathReport: d.report} {
		for !d.answered(path) && ctx.Err() == nil {
			ask(ctx)
			time.Sleep(100 * time.Millisecond) // of its places, one comes free in time
		}
	}
}

// answered reports whether an attack reached what it attacks: it was answered otherwise
// than that it may not come in, or not now.
func (d *doors) answered(path string) bool {
	for code := range d.answers[path] {
		switch code {
		case 0, http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		default:
			return true
		}
	}
	return false
}

func (d *doors) lists(ctx context.Context) {
	ceaseless(ctx, 100, func(int) { d.call(ctx, d.attacker, http.MethodGet, "/api/v1/events", nil) })
}

func (d *doors) watches(ctx context.Context) {
	ceaseless(ctx, 600, func(int) { d.call(ctx, d.attacker, http.MethodGet, "/api/v1/pods?watch=true", nil) })
}

// logs follows a pod that need not be there, and leaves at once.
func (d *doors) logs(ctx context.Context) {
	pods, _, err := client.List[*corev1.Pod](ctx, d.other, schema.KindPod)
	if err != nil || len(pods) == 0 {
		return
	}
	path := "/api/v1/namespaces/" + pods[0].Namespace + "/pods/" + pods[0].Name + "/log?follow=true"
	ceaseless(ctx, 40, func(i int) {
		call, cancel := context.WithTimeout(ctx, time.Duration(i)*10*time.Millisecond+500*time.Microsecond)
		defer cancel()
		d.call(call, d.attacker, http.MethodGet, path, nil)
	})
}

// idle opens connections and says nothing on half of them; on the others no more
// than TLS needs.
func (d *doors) idle(ctx context.Context) {
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	wanted := min(idleMost, idleConnections*int(*attackFor/time.Second))
	for len(held) < wanted && ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", d.address, callTimeout)
		if err != nil {
			return
		}
		held = append(held, conn)
		if len(held)%2 == 0 {
			_ = conn.SetDeadline(time.Now().Add(time.Second))
			_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake() // it may have had to make way
		}
	}
	<-ctx.Done()
}

// drip is a body of a byte each tenth of a second.
type drip struct{ ctx context.Context }

func (b drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(100 * time.Millisecond):
		return copy(p, " "), nil
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

func (d *doors) slowBodies(ctx context.Context) {
	c := speaking(d.stranger)
	paths := []string{wire.PathJoin, "/hooks/main", planPath + "?stranger", "/git/main/git-receive-pack"}
	ceaseless(ctx, 100, func(i int) { d.call(ctx, c, http.MethodPost, paths[i%len(paths)], drip{ctx}) })
}

func (d *doors) guesses(ctx context.Context) {
	c := speaking(d.stranger)
	ceaseless(ctx, 10, func(i int) {
		d.call(ctx, c, http.MethodGet, "/git/main/info/refs?service=git-receive-pack", nil, "Authorization", "Bearer guess-"+strconv.Itoa(i))
	})
}

func (d *doors) webhooks(ctx context.Context) {
	c := speaking(d.stranger)
	body := make([]byte, 8<<20)
	ceaseless(ctx, 10, func(int) {
		d.call(ctx, c, http.MethodPost, "/hooks/main", bytes.NewReader(body), "X-Hub-Signature-256", "sha256=00")
	})
}

func (d *doors) kept(ctx context.Context) {
	ceaseless(ctx, 8, func(int) { d.sendKept(ctx) })
}

func (d *doors) sendKept(ctx context.Context) {
	d.call(ctx, d.node, http.MethodPost, wire.PathKept, io.LimitReader(zeros{}, 256<<20))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// reports are as large as they may be, and of another node; one at a time, for the
// node's own agent has the same share and is to stay Ready.
func (d *doors) reports(ctx context.Context) {
	ceaseless(ctx, 1, func(int) { d.report(ctx) })
}

func (d *doors) report(ctx context.Context) {
	body := `{"node":"another","bootID":"` + strings.Repeat("x", 7<<20) + `"}`
	d.call(ctx, d.node, http.MethodPost, wire.PathReport, strings.NewReader(body))
}

// watchOver samples the master's memory and reads as another reader does until ctx
// ends; it returns how often that one was answered.
func (d *doors) watchOver(ctx context.Context, t *testing.T) (witness func() int) {
	var watchers sync.WaitGroup
	answered := 0
	watchers.Go(func() {
		for ctx.Err() == nil {
			d.most.Store(max(d.most.Load(), anonymous(d.pid)))
			d.mostGit.Store(max(d.mostGit.Load(), anonymousBelow(d.pid)))
			time.Sleep(50 * time.Millisecond)
		}
	})
	watchers.Go(func() {
		for ctx.Err() == nil {
			nodes, err := d.readAsAnother(ctx)
			if err != nil {
				t.Errorf("another reader: %v", err)
				return
			}
			answered++
			for _, n := range nodes {
				for _, c := range n.Status.Conditions {
					if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
						t.Errorf("node %s: %s %s", n.Name, c.Status, c.Message)
					}
				}
			}
		}
	})
	return func() int { watchers.Wait(); return answered }
}

// maxBrokenOff is how often in a row the other reader's connection may be broken off:
// it calls from the address that attacks, and counts as that until its handshake.
const maxBrokenOff = 20

// readAsAnother reads the nodes, again where the connection was broken off.
func (d *doors) readAsAnother(ctx context.Context) (nodes []*corev1.Node, err error) {
	for range maxBrokenOff {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		nodes, _, err = client.List[*corev1.Node](call, d.other, schema.KindNode)
		cancel()
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
	}
	return nodes, err
}

// anonymous is a process's anonymous memory that is resident, in bytes; 0 if it is
// gone.
func anonymous(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "RssAnon:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// anonymousBelow is the anonymous memory of all that a process started, together.
func anonymousBelow(pid int) (sum int64) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(data)) {
			if n, err := strconv.Atoi(child); err == nil {
				sum += anonymous(n) + anonymousBelow(n)
			}
		}
	}
	return sum
}

func (d *doors) judge(t *testing.T) {
	t.Helper()
	if anonymous(d.pid) == 0 {
		t.Fatal("the master has ended")
	}
	for _, path := range sorted(d.answers) {
		t.Logf("%s: answers by code %v", path, d.answers[path])
	}
	for _, path := range []string{planPath, pushPath, wire.PathKept, wire.PathReport} {
		if !d.answered(path) {
			t.Errorf("%s was not attacked: %v", path, d.answers[path])
		}
	}
	t.Logf("the master had at most %d MiB of anonymous memory", d.most.Load()>>20)
	if most := d.most.Load(); most > masterMemory {
		t.Errorf("the master had %d MiB of anonymous memory, want at most %d", most>>20, masterMemory>>20)
	}
	t.Logf("what it started had at most %d MiB", d.mostGit.Load()>>20)
	if most := d.mostGit.Load(); most > gitMemory {
		t.Errorf("what the master started had %d MiB of anonymous memory, want at most %d", most>>20, gitMemory>>20)
	}
	longest, err := d.longestRound()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the longest round computed for %v", longest)
	if longest > roundTime {
		t.Errorf("a round computed for %v, want at most %v", longest, roundTime)
	}
}

// longestRound is what the master says of its rounds.
func (d *doors) longestRound() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	data, err := d.other.Do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "fairlead_round_longest_cpu_seconds "); ok {
			seconds, err := strconv.ParseFloat(value, 64)
			return time.Duration(seconds * float64(time.Second)), err
		}
	}
	return 0, errors.New("the master tells nothing of its rounds")
}
