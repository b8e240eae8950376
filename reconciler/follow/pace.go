package follow

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"

	"fairlead/schema"
)

// Pace is how often a source is looked at.
type Pace struct {
	Source   schema.SourceName
	Interval time.Duration
	// Gap is how long a hint waits after the last look: hints may come from
	// anyone who can reach the door.
	Gap time.Duration

	failed int // looks in a row
}

const (
	// remoteGap is how far apart looks at another machine's repository are,
	// whatever webhooks say.
	remoteGap = time.Second
	// localGap is the same for a repository on this machine's disk.
	localGap = 20 * time.Millisecond
)

// PaceOf is how often a source with this spec is looked at.
func PaceOf(source schema.SourceName, spec schema.SourceSpec) Pace {
	gap := localGap
	if r, err := schema.ParseRemote(spec.URL); err == nil && r.Scheme != "file" {
		gap = remoteGap
	}
	return Pace{Source: source, Interval: spec.Interval.Duration, Gap: gap}
}

// SameRepository reports whether what follows a source may go on under a changed spec.
func SameRepository(a, b schema.SourceSpec) bool {
	auth := func(s schema.SourceSpec) schema.SourceAuth {
		if s.Auth == nil {
			return schema.SourceAuth{}
		}
		return *s.Auth
	}
	return a.URL == b.URL && a.Embedded == b.Embedded && a.Branch == b.Branch && a.Interval.Duration == b.Interval.Duration && auth(a) == auth(b)
}

// After is how long the next look waits after one that ended with err. After an error
// that is no standing problem it is as backoff says; a hint ends the wait.
func (p Pace) After(err error) (Pace, time.Duration) {
	if err == nil || IsStanding(err) {
		p.failed = 0
		return p, p.Interval
	}
	p.failed++
	return p, backoff(p.Source, p.failed)
}

// Bounds of looking again after problem.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// backoff is how long to wait after the attempt-th failure in a row, counted
// from 1: twice as long each time, up to five minutes, and a quarter more or less so
// that many sources behind one host do not come back at once. The share is
// derived from the source's name and the attempt: the same history waits the
// same.
func backoff(source schema.SourceName, attempt int) time.Duration {
	wait := lastRetry
	if attempt < 10 {
		wait = min(lastRetry, firstRetry<<max(0, attempt-1))
	}
	sum := sha256.Sum256([]byte(string(source) + "\x00" + strconv.Itoa(attempt)))
	share := float64(binary.BigEndian.Uint32(sum[:4])) / (1 << 32)
	return time.Duration(float64(wait) * (0.75 + share/2))
}
