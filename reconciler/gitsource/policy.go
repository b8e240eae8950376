package gitsource

import (
	"fmt"
	"strings"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

// OptionWait is the push option that follows the rollout: git push -o wait.
const OptionWait = "wait"

var knownOptions = []string{OptionWait}

// minRewindName is how much of a commit's name a rewind trailer must give.
const minRewindName = 7

// history is what the policy asks of a repository; Repo has it.
type history interface {
	IsAncestor(a, b string) (bool, error)
	message(commit string) (string, error)
}

func (r *Repo) message(commit string) (string, error) {
	c, err := r.Commit(commit)
	return c.Message, err
}

// refusal says why a followed branch may not move as u says, or nothing: it is
// never deleted, and loses commits only when its new tip says so. An error
// means that the question could not be answered.
func refusal(repo history, source string, u hook.Update) (string, error) {
	branch := strings.TrimPrefix(u.Ref, "refs/heads/")
	if u.New == hook.Zero {
		return fmt.Sprintf("%s is what source %s follows, it is not deleted", branch, source), nil
	}
	message, err := repo.message(u.New)
	if err != nil {
		return "", err
	}
	if u.Old == hook.Zero {
		return "", nil
	}
	forward, err := repo.IsAncestor(u.Old, u.New)
	if err != nil || forward {
		return "", err
	}
	if allowsRewind(message, u.Old) {
		return "", nil
	}
	return fmt.Sprintf("%s would lose commits: %s does not contain %s; to mean it, end the new tip's message with the line \"%s: %s\" and push again",
		branch, short(u.New), short(u.Old), schema.TrailerAllowRewind, u.Old), nil
}

// allowsRewind reports whether a commit's message says that old is left.
func allowsRewind(message, old string) bool {
	for _, v := range TrailerValues(message, schema.TrailerAllowRewind) {
		if len(v) >= minRewindName && strings.HasPrefix(old, strings.ToLower(v)) {
			return true
		}
	}
	return false
}

// Forward is nil when tip may follow what runs: it contains the applied commit,
// or a commit on the way to it says that the applied or the desired one is left.
// Otherwise it is a *Trouble: Rewound, or BadRepository where history cannot be
// read. An empty applied is followed by anything.
func (r *Repo) Forward(applied, desired, tip string) error {
	if applied == "" {
		return nil
	}
	forward, err := r.IsAncestor(applied, tip)
	if err != nil {
		return &Trouble{Reason: BadRepository, Message: err.Error(), Observed: tip}
	}
	if forward {
		return nil
	}
	since := applied
	if _, err := r.Commit(applied); err != nil {
		since = "" // a new cache does not know what was pushed over
	}
	commits, err := r.CommitsBetween(since, tip, maxOverrideCommits)
	if err != nil {
		return &Trouble{Reason: BadRepository, Message: err.Error(), Observed: tip}
	}
	for _, c := range commits {
		if allowsRewind(c.Message, applied) || desired != "" && allowsRewind(c.Message, desired) {
			return nil
		}
	}
	return &Trouble{Reason: Rewound, Observed: tip, Message: fmt.Sprintf(
		"the branch is at %s, which does not contain %s, the commit that runs; to mean it, push a commit with the trailer \"%s: %s\"",
		short(tip), short(applied), schema.TrailerAllowRewind, applied)}
}

// unknownOptions are warned about, one text each.
func unknownOptions(options []string) []string {
	var out []string
	for _, o := range options {
		known := false
		for _, k := range knownOptions {
			known = known || o == k
		}
		if !known {
			out = append(out, fmt.Sprintf("warning: push option %q means nothing here (known: %s)", o, strings.Join(knownOptions, ", ")))
		}
	}
	return out
}
