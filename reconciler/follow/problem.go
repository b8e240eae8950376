package follow

import (
	"errors"

	"fairlead/schema"
)

// Reason is why a source's repository gives no new revision, in the word that a
// condition carries; package schema tells what each means.
type Reason string

// The reasons.
const (
	Unreachable    Reason = schema.ReasonUnreachable
	Unauthorized   Reason = schema.ReasonUnauthorized
	BadCredentials Reason = schema.ReasonBadCredentials
	BadURL         Reason = schema.ReasonBadURL
	BadRepository  Reason = schema.ReasonBadRepository
	TooLarge       Reason = schema.ReasonTooLarge
	NotStored      Reason = schema.ReasonNotStored
	BranchGone     Reason = schema.ReasonBranchGone
	Rewound        Reason = schema.ReasonRewound
	PathGone       Reason = schema.ReasonPathGone
	TreeRefused    Reason = schema.ReasonTreeRefused
)

// Problem is why a source stays at its last good state.
type Problem struct {
	Reason   Reason
	Message  string        // the same for the same problem
	Observed schema.Commit // commit the branch is at, "" if that is not known
}

func (t *Problem) Error() string { return t.Message }

// Standing reports whether the repository was read and it is for people to
// change it: looking again soon is of no use, looking as usual is no burden.
func (t *Problem) Standing() bool {
	switch t.Reason {
	case BranchGone, Rewound, PathGone, TreeRefused:
		return true
	}
	return false
}

// IsStanding reports whether err is a Problem that is Standing.
func IsStanding(err error) bool {
	var t *Problem
	return errors.As(err, &t) && t.Standing()
}
