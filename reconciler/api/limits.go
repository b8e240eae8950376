package api

import (
	"fmt"
	"strings"
	"time"
)

// Who may come through a door.
type Who string

// The callers that doors know.
const (
	// Anybody needs no certificate. Calls are counted by remote address.
	Anybody Who = "anybody"
	// Readers have a reader's certificate, nodes one of a registered node.
	Readers Who = "readers"
	Nodes   Who = "nodes"
	// Pushers prove themselves by a token; without one they are strangers.
	Pushers Who = "pushers"
)

// Limit is what the callers of one door may hold together, and each of them, and
// for how long. docs/security.md has the same table.
type Limit struct {
	Door  string // its name, in refusals and metrics too
	Opens string // paths, for people
	Who   Who
	// BodyBytes bounds one request's body; 0 is none, NoBound any.
	BodyBytes int64
	// LargeAtOnce bounds the bodies above SmallBytes that are read at a time, one
	// of each caller. The next wait with SmallBytes read, within their BodyTime;
	// smaller ones wait for none of them. 0 is as many as AtOnce.
	LargeAtOnce int
	SmallBytes  int64
	// BodyTime bounds the whole body, however steadily it comes; each piece of
	// it comes within BodyStall. 0 is no bound on either.
	BodyTime time.Duration
	// Paced says that not each piece but each paceBytes of a body have their time, of
	// which only that counts in which the sender is waited for: of a body with a long
	// BodyTime, whose sender could else hold what it costs by a byte now and then.
	Paced bool
	// Converses says that an answer may begin, and pause, while the body still comes.
	Converses bool
	// AtOnce and ByCaller bound the requests under way. What comes beyond them
	// waits up to Waits, as many as Queue together and QueueByCaller of each
	// caller; the rest is refused at once.
	AtOnce, ByCaller int
	// Spread of AtOnce are for callers of whom none is under way: a few that hold as
	// many as they may leave these to the others.
	Spread               int
	Queue, QueueByCaller int
	Waits                time.Duration
	// Lasts bounds a whole request, its answer included; each piece of the
	// answer is taken within waits.write. 0 is no bound.
	Lasts time.Duration
}

// NoBound is a body whose size nothing bounds: it is passed on as it comes.
const NoBound = -1

// The doors. Memory is what most of the numbers come from: whatever all callers
// hold at once stays below 400 MiB beside the cluster's own state; while a lost store
// is recovered nobody watches.
var (
	doorHealth = &Limit{
		Door: "health", Opens: "/healthz, /livez, /readyz, /version", Who: Anybody,
		AtOnce: 64, ByCaller: 16, Lasts: 10 * time.Second, // some load balancers ask every second
	}
	doorReads = &Limit{
		Door: "reads", Opens: "/api, /apis, /openapi, /metrics: get and list", Who: Readers,
		BodyBytes: 64 << 10, BodyTime: 10 * time.Second, // a SelfSubjectAccessReview is a few hundred bytes
		AtOnce: 256, ByCaller: 64, Queue: 2048, QueueByCaller: 512, Waits: 30 * time.Second, // each holds one piece of its answer
		Lasts: 5 * time.Minute,
	}
	doorWatches = &Limit{
		Door: "watches", Opens: "/api, /apis: watch", Who: Readers,
		AtOnce: 4096, ByCaller: 512, Lasts: WatchTimeout + time.Minute, // about 32 KiB each
	}
	doorLogs = &Limit{
		Door: "logs", Opens: "/api/v1/namespaces/…/pods/…/log", Who: Readers,
		AtOnce: 256, ByCaller: 64, Lasts: 24 * time.Hour, // of one node no more than its agent answers
	}
	doorPlan = &Limit{
		Door: "plan", Opens: "/apis/fairlead/v1/plan", Who: Readers,
		BodyBytes: 16 << 20, BodyTime: 30 * time.Second, // base64 of 12 MiB of manifests: 10,000 Deployments; they take ten times that while they are planned
		AtOnce: 2, ByCaller: 1, Queue: 16, QueueByCaller: 4, Waits: 2 * time.Minute, // a plan of thousands of objects takes a second
		Lasts: 5 * time.Minute,
	}
	doorGit = &Limit{
		Door: "git", Opens: "/git/…", Who: Pushers,
		BodyBytes: 512 << 20, BodyTime: 30 * time.Minute, Paced: true, Converses: true, // git takes it as it comes, into a quarantine on disk; gitsource.Programs bounds the memory of all gits
		AtOnce: 64, ByCaller: 16, Lasts: 90 * time.Minute, // a push may wait an hour for its rollout
	}
	doorHooks = &Limit{
		Door: "webhooks", Opens: "/hooks/…", Who: Anybody,
		BodyBytes: 25 << 20, BodyTime: 10 * time.Second, // what GitHub sends at most; hashed as it comes
		AtOnce: 16, ByCaller: 4, Lasts: 20 * time.Second,
	}
	doorJoin = &Limit{
		Door: "join", Opens: "/agent/v1/join", Who: Anybody,
		BodyBytes: 64 << 10, BodyTime: 10 * time.Second, // a token and a certificate request
		AtOnce: 32, ByCaller: 8, Queue: 128, QueueByCaller: 32, Waits: 10 * time.Second, Lasts: 30 * time.Second,
	}
	doorRenew = &Limit{
		Door: "renewal", Opens: "/agent/v1/renew", Who: Nodes,
		BodyBytes: 64 << 10, BodyTime: 10 * time.Second,
		AtOnce: 32, ByCaller: 2, Queue: 1024, QueueByCaller: 2, Waits: 10 * time.Second, Lasts: 30 * time.Second,
	}
	doorWork = &Limit{
		Door: "work", Opens: "/agent/v1/work", Who: Nodes,
		AtOnce: 16_384, ByCaller: 4, // a stream that a newer one replaced ends at its next write
	}
	doorReport = &Limit{
		Door: "reports", Opens: "/agent/v1/report", Who: Nodes,
		BodyBytes: 8 << 20, BodyTime: 10 * time.Second,
		LargeAtOnce: 6, SmallBytes: 512 << 10, // a report of a hundred pods has about 300 KiB
		AtOnce: 128, ByCaller: 2, Spread: 96, Queue: 16_384, QueueByCaller: 2, Waits: 10 * time.Second, Lasts: time.Minute, // a second one is an agent's whose connection broke
	}
	doorKept = &Limit{
		Door: "kept", Opens: "/agent/v1/kept, while a lost store is recovered", Who: Nodes,
		BodyBytes: 128 << 20, BodyTime: 15 * time.Second, // 100,000 objects
		AtOnce: 1, ByCaller: 1, Queue: 16_384, QueueByCaller: 1, Waits: 10 * time.Second, Lasts: time.Minute,
	}
	doorLogAnswers = &Limit{
		Door: "log answers", Opens: "/agent/v1/logs/…", Who: Nodes,
		BodyBytes: NoBound, // passed on piece by piece, as fast as its reader takes it
		AtOnce:    512, ByCaller: 64, Lasts: 24 * time.Hour,
	}
	doorStrangers = &Limit{
		Door: "refusals", Opens: "any other path, without a known certificate or token", Who: Anybody,
		AtOnce: 256, ByCaller: 32, Lasts: 10 * time.Second,
	}
)

// Limits is the table of every door, in the order of docs/security.md.
func Limits() []*Limit {
	return []*Limit{
		doorHealth, doorReads, doorWatches, doorLogs, doorPlan, doorGit, doorHooks,
		doorJoin, doorRenew, doorWork, doorReport, doorKept, doorLogAnswers, doorStrangers,
	}
}

// Bounds of every request.
const (
	// BodyStall is how long a client may send nothing amid a body.
	BodyStall = 10 * time.Second
	// paceBytes of a paced body come within waits.pace, or what is left of it: 13 KiB a
	// second, which any line has on which half a gigabyte could come in BodyTime.
	paceBytes = 256 << 10
	// drainBytes, and what comes within waits.drain, are read on of a body that
	// nobody wants, so that its sender finds the connection in order. With more
	// than that the connection, or over HTTP/2 the stream, is closed behind the
	// answer.
	drainBytes = 256 << 10 // net/http's own bound for HTTP/1
	// answerPiece bytes of an answer are taken within waits.write.
	answerPiece = 64 << 10
	// ReadHeaderTimeout bounds a handshake, and each request's header.
	ReadHeaderTimeout = 10 * time.Second
	// IdleTimeout ends connections nobody speaks on.
	IdleTimeout = 3 * time.Minute
	// MaxHeaderBytes bounds a request's header.
	MaxHeaderBytes = 64 << 10
	// ShutdownTimeout is how long a request may go on after Run was told to end.
	ShutdownTimeout = 5 * time.Second
)

// waits are how long one server waits for its clients. Those of two servers may differ:
// a test gives its own their times, and changes nobody else's while they run.
type waits struct {
	drain time.Duration // see drainBytes
	pace  time.Duration // for paceBytes
	// write is how long a client may take for one piece of an answer: a watcher or
	// agent that takes nothing for that long is cut off.
	write time.Duration
	log   time.Duration // how long a node may take to begin its answer
}

// usualWaits are those of every server but a test's.
func usualWaits() waits {
	return waits{drain: 250 * time.Millisecond, pace: 20 * time.Second, write: 10 * time.Second, log: 5 * time.Second}
}

// Bounds of HTTP/2, where one connection carries many requests.
const (
	// maxStreams of a connection, as Kubernetes' own server has it; net/http
	// ends a connection that resets them faster than they are answered.
	maxStreams = 100
	// maxUnreadBytes of one body wait in memory for its handler, and
	// maxUnreadTogether of all bodies on a connection: more than those of all
	// plans that one reader may have waiting, which would otherwise keep back the
	// body of the one whose turn it is.
	maxUnreadBytes    = 256 << 10
	maxUnreadTogether = 2 << 20
	maxFrameBytes     = 16 << 10
	// pingAfter a connection that says nothing is asked whether it is there.
	pingAfter = time.Minute
)

// Class is what a connection counts as.
type Class string

// The classes of connections. A connection is a stranger's until a certificate
// or a token has proved better.
const (
	Strangers         Class = "strangers"
	ReaderConnections Class = "readers"
	NodeConnections   Class = "nodes"
)

// ConnectionLimit bounds the connections of one class.
type ConnectionLimit struct {
	Class Class
	// Share is the class's part of the descriptors for connections, in eighths;
	// Most bounds it where there are many (0: nothing does).
	Share, Most int
	// ByCaller bounds those of one reader, node or remote address.
	ByCaller int
}

// ConnectionLimits is the table of connections. The shares leave nothing over, and
// no class borrows: readers cannot lock nodes out, nor strangers readers.
func ConnectionLimits() []ConnectionLimit {
	return []ConnectionLimit{
		{Class: Strangers, Share: 1, Most: 512, ByCaller: 256},          // about 64 KiB each
		{Class: ReaderConnections, Share: 2, Most: 2048, ByCaller: 256}, // each carries maxStreams watches
		{Class: NodeConnections, Share: 5, ByCaller: 64},                // work, report, and a log each
	}
}

// Descriptors that connections never get: the store, Git and its children, logs.
const (
	// keptShare of all descriptors, one in so many, is kept back.
	keptShare = 8
	// keptLeast are kept back at least, unless that is more than half of all.
	keptLeast = 512
)

// forConnections is how many of all descriptors connections may have.
func forConnections(descriptors int) int {
	return descriptors - max(descriptors/keptShare, min(keptLeast, descriptors/2))
}

// of is the limit in numbers, where so many descriptors are for connections.
func (l ConnectionLimit) of(room int) (most, byCaller int) {
	most = max(1, room*l.Share/8)
	if l.Most > 0 {
		most = min(most, l.Most)
	}
	return most, min(l.ByCaller, max(1, most/2))
}

// largeBodies is what the bodies above SmallBytes wait at, those of whoever is inside.
func (l *Limit) largeBodies() *Limit {
	return &Limit{Door: l.Door, AtOnce: l.LargeAtOnce, ByCaller: 1, Queue: l.AtOnce, QueueByCaller: l.ByCaller, Waits: l.BodyTime}
}

// heldBytes is what the bodies of one door have in memory at most, where its handlers
// read them whole.
func (l *Limit) heldBytes() int64 {
	if l.LargeAtOnce > 0 {
		return int64(l.AtOnce)*l.SmallBytes + int64(l.LargeAtOnce)*(l.BodyBytes-l.SmallBytes)
	}
	return int64(l.AtOnce) * l.BodyBytes
}

// LimitsTable is the two tables as Markdown: what docs/security.md says.
func LimitsTable() string {
	var b strings.Builder
	b.WriteString("| connections of | in all | by caller |\n|---|---|---|\n")
	for _, l := range ConnectionLimits() {
		most := fmt.Sprintf("%d/8 of the descriptors for connections", l.Share)
		if l.Most > 0 {
			most += fmt.Sprintf(", at most %d", l.Most)
		}
		fmt.Fprintf(&b, "| %s | %s | %d |\n", l.Class, most, l.ByCaller)
	}
	b.WriteString("\n| door | opens | who | body | body within | at once | by caller | waiting | by caller | waits | lasts |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, l := range Limits() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d | %d | %s | %s | %s | %s |\n", l.Door, l.Opens, l.Who,
			l.bodyText(), durationText(l.BodyTime), l.AtOnce, l.ByCaller, countText(l.Queue), countText(l.QueueByCaller), durationText(l.Waits), durationText(l.Lasts))
	}
	return b.String()
}

func (l *Limit) bodyText() string {
	text := "none"
	switch {
	case l.BodyBytes == NoBound:
		return "any, passed on"
	case l.BodyBytes > 0:
		text = bytesText(l.BodyBytes)
	}
	if l.LargeAtOnce > 0 {
		text += fmt.Sprintf(", %d at once above %s", l.LargeAtOnce, bytesText(l.SmallBytes))
	}
	return text
}

func bytesText(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

func countText(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// durationText writes no zeros: 5m, not 5m0s.
func durationText(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
