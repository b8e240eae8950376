package schema

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds on what a tree's objects come to in the store.
const (
	// MaxDesiredBytes bounds one object, as stored, like Kubernetes' 1.5 MiB. The
	// store takes 2 MiB: the rest is room for what the cluster adds, its origin, its
	// status, the labels of its pods.
	MaxDesiredBytes = 3 << 19
	// MaxStoredBytes bounds all objects of a tree with the pods that they ask for: a
	// quarter of what the store holds.
	MaxStoredBytes = 1 << 30
	// MaxPods bounds the pods that a tree asks for.
	MaxPods = 500_000
)

// Bounds on what is delivered to one node. A node gets, in one frame of at most 256 MiB,
//
//   - records of what it keeps for a master that lost its store: MaxKeptBytes and
//     MaxSpareBytes, sealed and as text, four thirds of it: 96 MiB;
//   - the pods bound to it as JSON: 32 MiB for 250 of the largest;
//   - the values of the ConfigMaps and Secrets that these use, in base64: 86 and 22 MiB;
//   - Services and their endpoints: MaxToldBytes;
//   - the addresses of the other nodes, 100 bytes each.
//
// The records and the pods, 128 MiB, are what it gives back to that master.
const (
	// MaxDeliveredBytes bounds what all sources ask for, by wire.Takes.Asked.
	MaxDeliveredBytes = 64 << 20
	// MaxKeptBytes bounds the records of that and of what was made from it, without
	// history. What is asked for has room for two templates of a workload; Jobs side by
	// side, and the replica sets of rollouts that replaced each other, need more.
	MaxKeptBytes = 64 << 20
	// MaxSpareBytes bounds the history: of what the sources have that have most, only what
	// the cluster needs is kept by nodes.
	MaxSpareBytes = 8 << 20
	// MaxToldBytes bounds what nodes are told of Services and their endpoints, as JSON:
	// 200,000 endpoints.
	MaxToldBytes = 18 << 20
	// MaxSecretBytes bounds the values of all Secrets together.
	MaxSecretBytes = 16 << 20
	// MaxPodBytes bounds one pod, or the template of one, as JSON.
	MaxPodBytes = 128 << 10
)

// The shares of sources that trees declare: one can take no more than a quarter, and all
// of them leave a quarter to those of the master's configuration.
const (
	DeclaredShare = 4 // one in so many, of one source
	ReservedShare = 4 // one in so many, for the master's own
)

// Bounds on what a Revision keeps of what comes from outside. Together they stay far
// below what one record may have, whatever a commit says.
const (
	// MaxCommitText bounds a commit's author and its subject, in bytes each. The
	// author stands on every object of the tree.
	MaxCommitText = 1 << 10
	// MaxReasonText bounds the reason of a phase and the message of a condition, in
	// bytes.
	MaxReasonText = 1 << 10
	// MaxDiagnosticsBytes bounds the diagnostics that a revision keeps, all together.
	// As JSON each byte may take six.
	MaxDiagnosticsBytes = 64 << 10
	// MaxPlacementsBytes bounds the placements that a revision keeps, some 25,000 pods:
	// those beyond it are placed when they are made, like any other.
	MaxPlacementsBytes = 1280 << 10
	// MaxPhaseRecords bounds a revision's phases: one that goes back and forth keeps
	// how it began and how it stands.
	MaxPhaseRecords = 50
	// maxPathText bounds a file's name in a diagnostic, in bytes.
	maxPathText = 1 << 10
)

// firstTime and lastTime are what RFC 3339 can write, and every client can read.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// FitTime is t in whole seconds, or the nearest time that can be written down and
// read again: git takes any number of seconds for a date.
func FitTime(t time.Time) time.Time {
	switch t = t.UTC(); {
	case t.Before(firstTime):
		return firstTime
	case t.After(lastTime):
		return lastTime
	}
	return t.Truncate(time.Second)
}

// TimeFits reports whether a time can be written down and read again.
func TimeFits(t time.Time) bool { return !t.Before(firstTime) && !t.After(lastTime.Add(time.Second-1)) }

// FitText is text as every client can read it, of at most so many bytes: what is not
// UTF-8 is replaced, and what is cut off is told by an ellipsis.
func FitText(text string, most int) string {
	const ellipsis = "…"
	if len(text) > most {
		end := max(0, most-len(ellipsis))
		for end > 0 && !utf8.RuneStart(text[end]) && most-end < len(ellipsis)+utf8.UTFMax {
			end--
		}
		text = text[:end] + ellipsis
	}
	return strings.ToValidUTF8(text, "?")
}

// Fit is the commit with an author, a subject and a time that can be kept and shown.
// Its hashes and its message, which is read for trailers and not kept, stay as they
// are.
func (c CommitObject) Fit() CommitObject {
	c.Author = FitText(c.Author, MaxCommitText)
	c.Subject = FitText(c.Subject, MaxCommitText)
	if !c.Time.IsZero() {
		c.Time = FitTime(c.Time)
	}
	return c
}

// Fit are the first of the diagnostics, as many as a revision keeps, each of a length
// that can be kept; the first error is always among them.
func (ds Diagnostics) Fit() Diagnostics {
	var out Diagnostics
	size := 0
	add := func(d Diagnostic) bool {
		d.Path = FitText(d.Path, maxPathText)
		d.Message, d.Hint = FitText(d.Message, MaxReasonText), FitText(d.Hint, MaxReasonText)
		size += len(d.Path) + len(d.Message) + len(d.Hint)
		if len(out) == MaxRevisionDiagnostics || size > MaxDiagnosticsBytes {
			return false
		}
		out = append(out, d)
		return true
	}
	for i, d := range ds {
		if add(d) {
			continue
		}
		if !out.HasErrors() && ds[i:].HasErrors() { // warnings never hide that there is an error
			out, size = out[:len(out)-1], 0
			add(ds[i:].firstError())
		}
		break
	}
	return out
}

func (ds Diagnostics) firstError() Diagnostic {
	for _, d := range ds {
		if d.Severity == Error {
			return d
		}
	}
	return Diagnostic{}
}

// FitPlacements are the first placements by name that a revision keeps.
func FitPlacements(all map[string]NodeName) map[string]NodeName {
	const quotes = len(`"":"",`)
	size := 0
	for pod, node := range all {
		size += len(pod) + len(node) + quotes
	}
	if size <= MaxPlacementsBytes {
		return all
	}
	out := map[string]NodeName{}
	size = 0
	for _, pod := range slices.Sorted(maps.Keys(all)) {
		if size += len(pod) + len(all[pod]) + quotes; size > MaxPlacementsBytes {
			break
		}
		out[pod] = all[pod]
	}
	return out
}
