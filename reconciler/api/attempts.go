package api

import (
	"sync"
	"time"
)

// How often an address may be wrong about who it is.
const (
	// attemptBurst wrong certificates or tokens are answered as such; a person
	// who mistypes has a few, a script that guesses thousands.
	attemptBurst = 20
	// attemptEvery is how soon one more is.
	attemptEvery = 2 * time.Second
	// maxAttemptAddresses are told apart; beyond it the one that failed longest
	// ago is forgotten.
	maxAttemptAddresses = 4096
)

// attempts counts, by address, callers that failed to prove themselves. Whoever
// proves right is never asked about it: an address that is shared with somebody who
// guesses is not locked out.
type attempts struct {
	now func() time.Time

	mu     sync.Mutex
	failed map[string]failures
}

// failures are as many as there were at a time; they wear off.
type failures struct {
	count float64
	at    time.Time
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, failed: map[string]failures{}}
}

// tooMany reports whether the address has failed so often that it is not answered
// about one more try.
func (a *attempts) tooMany(address string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed[address].worn(a.now()) >= attemptBurst
}

// fail counts one more.
func (a *attempts) fail(address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if _, known := a.failed[address]; !known && len(a.failed) >= maxAttemptAddresses {
		a.forgetOne()
	}
	a.failed[address] = failures{min(a.failed[address].worn(now)+1, attemptBurst+1), now}
}

func (f failures) worn(now time.Time) float64 {
	return max(0, f.count-float64(now.Sub(f.at))/float64(attemptEvery))
}

func (a *attempts) forgetOne() {
	oldest := ""
	for address, f := range a.failed {
		if oldest == "" || f.at.Before(a.failed[oldest].at) {
			oldest = address
		}
	}
	delete(a.failed, oldest)
}
