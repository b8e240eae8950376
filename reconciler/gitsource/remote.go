package gitsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
)

const (
	// MaxPushBytes bounds one push.
	MaxPushBytes = 512 << 20
	// maxSocketPath is what fits into a unix socket's address, NUL apart.
	maxSocketPath = 107
	gitTimeout    = 30 * time.Second
)

// HookConfig is what an embedded remote's hooks need to reach the master.
type HookConfig struct {
	HookBinary string            // absolute path of fairlead-hook
	Socket     string            // absolute path of the master's hook socket
	Source     schema.SourceName // the source's name
	Branch     string            // followed branch, what a clone checks out; default main
}

// Init makes dir an embedded remote, or refreshes one: settings and hooks are
// written when they differ, objects and refs are never touched. Run it at every
// start.
func Init(ctx context.Context, dir string, c HookConfig) (*Repo, error) {
	if c.Branch == "" {
		c.Branch = "main"
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("embedded remote %s: %w", dir, err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("embedded remote: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return nil, fmt.Errorf("embedded remote: %w", err)
		}
		if _, err := git(ctx, "init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--", dir); err != nil {
			return nil, fmt.Errorf("embedded remote %s: %w", dir, err)
		}
	}
	if err := configure(ctx, dir, c); err != nil {
		return nil, fmt.Errorf("embedded remote %s: %w", dir, err)
	}
	for _, phase := range []hook.Phase{hook.Pre, hook.Post} {
		if err := installHook(dir, phase, c); err != nil {
			return nil, fmt.Errorf("embedded remote %s: install hook: %w", dir, err)
		}
	}
	return Open(dir)
}

func (c HookConfig) check() error {
	switch {
	case !filepath.IsAbs(c.HookBinary):
		return fmt.Errorf("hook binary %q: want an absolute path", c.HookBinary)
	case !filepath.IsAbs(c.Socket) || len(c.Socket) > maxSocketPath:
		return fmt.Errorf("socket %q: want an absolute path of at most %d bytes", c.Socket, maxSocketPath)
	case !c.Source.Valid():
		return fmt.Errorf("source %q: want a name of lower-case letters, digits and dashes", c.Source)
	}
	if _, err := os.Stat(c.HookBinary); err != nil {
		return fmt.Errorf("hook binary: %w", err)
	}
	return nil
}

// settings of an embedded remote; a pusher's own configuration cannot override
// what stands in the repository's.
func settings(dir string) [][2]string {
	return [][2]string{
		// Ours that hold for every remote alike stand in a file of their own.
		{"include.path", commonFile},
		{"core.bare", "true"},
		// A push that was answered is on disk.
		{"core.fsync", "all"},
		{"core.hooksPath", filepath.Join(dir, "hooks")},
		{"core.logAllRefUpdates", "true"},
		{"receive.advertisePushOptions", "true"},
		// The hook says which rewinds are fine, and why one is not.
		{"receive.denyNonFastForwards", "false"},
		{"receive.denyDeletes", "false"},
		{"receive.maxInputSize", strconv.Itoa(MaxPushBytes)},
		// The door has asked who it is before git is started.
		{"http.receivepack", "true"},
		{"http.uploadpack", "true"},
		{"http.getanyfile", "false"},
		// A revision to roll back to may be on no branch any more.
		{"gc.pruneExpire", "never"},
		// No process of ours outlives the push that started it.
		{"gc.autoDetach", "false"},
		{"maintenance.autoDetach", "false"},
	}
}

// commonFile is in an embedded remote, beside its config.
const commonFile = "fairlead.config"

// checks are git's own of what is pushed: names that climb out of a tree or reach
// for .git, trees out of order, commits without a head. Programs of long ago left
// a few flaws in histories that harm nobody and that no push can change.
func checks() [][2]string {
	out := [][2]string{{"receive.fsckObjects", "true"}}
	for _, harmless := range []string{
		"badTimezone", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "missingEmail", "missingNameBeforeEmail", "badName", "badEmail",
		"zeroPaddedDate", "zeroPaddedFilemode",
	} {
		out = append(out, [2]string{"receive.fsck." + harmless, "ignore"})
	}
	return out
}

func configure(ctx context.Context, dir string, c HookConfig) error {
	if err := replace(filepath.Join(dir, commonFile), configText(slices.Concat(frugal, checks())), 0o644); err != nil {
		return err
	}
	file := filepath.Join(dir, "config")
	listed, err := git(ctx, "config", "--file", file, "--null", "--list")
	if err != nil {
		return err
	}
	has := make(map[string]string)
	for entry := range strings.SplitSeq(listed, "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		has[key] = value
	}
	for _, s := range settings(dir) {
		if v, ok := has[strings.ToLower(s[0])]; ok && v == s[1] {
			continue
		}
		if _, err := git(ctx, "config", "--file", file, "--replace-all", s[0], s[1]); err != nil {
			return err
		}
	}
	return replace(filepath.Join(dir, "HEAD"), "ref: refs/heads/"+c.Branch+"\n", 0o644)
}

// installHook writes a small script: git starts hooks by their name, and the
// binary needs to be told where the master is.
func installHook(dir string, phase hook.Phase, c HookConfig) error {
	if err := os.MkdirAll(filepath.Join(dir, "hooks"), 0o755); err != nil {
		return err
	}
	script := fmt.Sprintf("#!/bin/sh\n# Written by Fairlead at every start.\nexec %s %s %s %s\n",
		shellQuote(c.HookBinary), phase, shellQuote(c.Socket), shellQuote(string(c.Source)))
	return replace(filepath.Join(dir, "hooks", string(phase)), script, 0o755)
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// replace writes a file whole, or leaves it when it is as wanted.
func replace(name, text string, mode os.FileMode) error {
	info, statErr := os.Lstat(name)
	old, readErr := os.ReadFile(name)
	if statErr == nil && readErr == nil && info.Mode() == mode && string(old) == text {
		return nil
	}
	tmp := name + ".new"
	if err := os.WriteFile(tmp, []byte(text), mode); err != nil {
		return err
	}
	// The umask may have taken bits away, and so may an older file of that name.
	if err := os.Chmod(tmp, mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// git runs git apart from the caller's own configuration.
func git(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(gitEnv(), "PATH="+os.Getenv("PATH"))
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

// gitEnv keeps a git of ours from reading a user's configuration and from
// picking another repository format than go-git reads.
func gitEnv() []string {
	return []string{
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_DEFAULT_REF_FORMAT=files", "GIT_DEFAULT_HASH=sha1", "LC_ALL=C",
	}
}
