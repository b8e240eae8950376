package gitsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"fairlead/schema"
)

const (
	// MaxFetchBytes bounds one fetch: the whole history the first time.
	MaxFetchBytes = 1 << 30
	// lookTimeout bounds asking a remote where its branch is.
	lookTimeout = 30 * time.Second
	// fetchTimeout bounds a fetch.
	fetchTimeout = 10 * time.Minute
	// maxAnswer bounds what git may say.
	maxAnswer = 64 << 10
	// killDelay is how long git's children may hold our pipe after its end.
	killDelay = 2 * time.Second
)

// The settings of every git that speaks to the outside. They are a file, not
// arguments: git passes it on to the upload-pack that it starts for a local
// path, which must not ask who owns that path.
var outsideSettings = configText(slices.Concat(frugal, [][2]string{
	{"safe.directory", "*"},
	{"core.hooksPath", "/dev/null"},
	{"core.fsync", "all"},
	{"core.fsyncMethod", "batch"},
	{"http.lowSpeedLimit", "1000"},
	{"http.lowSpeedTime", "30"},
	// The history of others holds what git once let pass. What runs is read tree
	// by tree and held to the rules there; nothing is checked out of a cache.
	{"fetch.fsckObjects", "false"},
	{"gc.auto", "0"},
	{"gc.autoDetach", "false"},
	{"gc.pruneExpire", "never"},
	{"maintenance.auto", "false"},
	{"maintenance.autoDetach", "false"},
}))

// configText is a configuration file of git's.
func configText(settings [][2]string) string {
	var text strings.Builder
	text.WriteString("# Written by Fairlead.\n")
	for _, s := range settings {
		at := strings.LastIndexByte(s[0], '.')
		section, rest, nested := strings.Cut(s[0][:at], ".")
		if nested {
			section += fmt.Sprintf(" %q", rest)
		}
		fmt.Fprintf(&text, "[%s]\n\t%s = %s\n", section, s[0][at+1:], s[1])
	}
	return text.String()
}

// outside runs git against one remote, from one cache.
type outside struct {
	cache  string // the bare repository
	own    string // a directory of ours in it
	remote schema.Remote
	bounds bounds
}

// bounds of one remote; tests lower them.
type bounds struct {
	bytes  int64         // of a fetch
	memory int64         // of each git
	look   time.Duration // to say where the branch is
	fetch  time.Duration
}

var usualBounds = bounds{MaxFetchBytes, fetchMemory, lookTimeout, fetchTimeout}

// run lets git work in the cache, under limits; the error is git's complaint. All
// of it ends with ctx.
func (o *outside) run(ctx context.Context, timeout time.Duration, env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	command := limits{memory: o.bounds.memory, processor: gitProcessor, file: o.bounds.bytes}.command(args...)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = o.cache
	cmd.Env = append(gitEnv(), "PATH="+os.Getenv("PATH"), "HOME="+o.own, "GIT_DIR="+o.cache,
		"GIT_CONFIG_GLOBAL="+filepath.Join(o.own, fileSettings), "GIT_ALLOW_PROTOCOL="+o.remote.Scheme)
	cmd.Env = append(cmd.Env, env...)
	// Git's helpers hold connections: they end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killDelay
	var out bytes.Buffer
	complaint := tail{limit: maxAnswer}
	cmd.Stdout, cmd.Stderr = &bounded{buffer: &out, limit: maxAnswer}, &complaint
	err := cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", fmt.Errorf("%w: no end within %s", errSlow, timeout)
	case len(complaint.text) == 0:
		return "", err
	}
	return "", errors.New(string(complaint.text))
}

var errSlow = errors.New("too slow")

// bounded keeps the first of what is written to it and refuses the rest.
type bounded struct {
	buffer *bytes.Buffer
	limit  int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("more than %d bytes", b.limit)
	}
	return b.buffer.Write(p)
}

// Files in outside.own.
const (
	fileSettings   = "config"
	fileCA         = "ca.pem"
	fileKey        = "key"
	fileKnownHosts = "known_hosts"
)

// credentialHelper answers git from its environment, which only our own user
// and root can read; arguments are for everyone.
const credentialHelper = `!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$FAIRLEAD_USERNAME" "$FAIRLEAD_PASSWORD"; }; f`

// with lays out what c gives git and returns the environment that makes git use
// it. forget takes the private key away again.
func (o *outside) with(c Credentials) (env []string, forget func(), err error) {
	forget = func() {}
	switch o.remote.Scheme {
	case "https":
		if c.CA != "" {
			path := filepath.Join(o.own, fileCA)
			if err := replace(path, c.CA, 0o600); err != nil {
				return nil, forget, err
			}
			env = append(env, "GIT_SSL_CAINFO="+path)
		}
		if c.Password != "" {
			// Bound to the host: a redirect elsewhere gets nothing.
			env = append(env, "GIT_CONFIG_COUNT=1",
				"GIT_CONFIG_KEY_0=credential.https://"+o.remote.Host+".helper", "GIT_CONFIG_VALUE_0="+credentialHelper,
				"FAIRLEAD_USERNAME="+c.Username, "FAIRLEAD_PASSWORD="+c.Password)
		}
	case "ssh":
		key, hosts := filepath.Join(o.own, fileKey), filepath.Join(o.own, fileKnownHosts)
		if err := replace(hosts, withNewline(c.KnownHosts), 0o600); err != nil {
			return nil, forget, err
		}
		forget = func() { os.Remove(key) }
		if err := replace(key, withNewline(c.PrivateKey), 0o600); err != nil {
			return nil, forget, err
		}
		env = append(env, "GIT_SSH_VARIANT=ssh", "GIT_SSH_COMMAND="+sshCommand(key, hosts))
	}
	return env, forget, nil
}

func withNewline(s string) string { return strings.TrimRight(s, "\n") + "\n" }

func sshCommand(key, hosts string) string {
	args := []string{"ssh", "-F", "/dev/null", "-i", shellQuote(key)}
	for _, o := range []string{
		"BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "StrictHostKeyChecking=yes", "UpdateHostKeys=no",
		"UserKnownHostsFile=" + shellQuote(`"`+hosts+`"`), "GlobalKnownHostsFile=/dev/null", "LogLevel=ERROR",
		"ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=2", "ForwardAgent=no", "ClearAllForwardings=yes",
	} {
		args = append(args, "-o", o)
	}
	return strings.Join(args, " ")
}

// prepare makes the cache, or repairs one that a crash left.
func (o *outside) prepare(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(o.cache, "HEAD")); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(o.cache), 0o700); err != nil {
			return err
		}
		if _, err := git(ctx, "init", "--quiet", "--bare", "--template=", "--object-format=sha1", "--", o.cache); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.own, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(o.own, 0o700); err != nil {
		return err
	}
	os.Remove(filepath.Join(o.own, fileKey))
	if err := replace(filepath.Join(o.own, fileSettings), outsideSettings, 0o600); err != nil {
		return err
	}
	return removeLocks(o.cache)
}

// removeLocks takes away what a git that was killed left: nobody else writes to
// a cache.
func removeLocks(cache string) error {
	for _, name := range []string{"HEAD.lock", "packed-refs.lock", "config.lock", "shallow.lock", "gc.pid"} {
		if err := os.Remove(filepath.Join(cache, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	refs := filepath.Join(cache, "refs")
	return filepath.WalkDir(refs, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".lock") {
			return err
		}
		return os.Remove(name)
	})
}
