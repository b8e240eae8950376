package gitsource

import (
	"fmt"
	"strings"

	"fairlead/reconciler/follow"
	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

// OptionWait is the push option that follows the rollout: git push -o wait.
const OptionWait = "wait"

var knownOptions = []string{OptionWait}

// history is what the policy asks of a repository; Repo has it.
type history interface {
	IsAncestor(a, b schema.Commit) (bool, error)
	message(commit schema.Commit) (string, error)
}

func (r *Repo) message(commit schema.Commit) (string, error) {
	c, err := r.Commit(commit)
	return c.Message, err
}

// refusal says why a followed branch may not move as u says, or nothing: it is
// never deleted, and loses commits only when its new tip says so. An error
// means that the question could not be answered.
func refusal(repo history, source schema.SourceName, u hook.Update) (string, error) {
	branch := strings.TrimPrefix(u.Ref, "refs/heads/")
	if u.New == hook.Zero {
		return fmt.Sprintf("%s is what source %s follows, it is not deleted", branch, source), nil
	}
	from, to := schema.Commit(u.Old), schema.Commit(u.New)
	message, err := repo.message(to)
	if err != nil {
		return "", err
	}
	if u.Old == hook.Zero {
		return "", nil
	}
	forward, err := repo.IsAncestor(from, to)
	if err != nil || forward {
		return "", err
	}
	if follow.AllowsRewind(message, from) {
		return "", nil
	}
	return fmt.Sprintf("%s would lose commits: %s does not contain %s; if that is intended, end the new tip's message with the line \"%s: %s\" and push again",
		branch, to.Short(), from.Short(), schema.TrailerAllowRewind, from), nil
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
