package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/cmd/fairlead/internal/rollback"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// gitTimeout bounds one git command; none talks to a network.
const gitTimeout = time.Minute

func rollbackCommand() *cobra.Command {
	var flags clusterFlags
	var to, branch string
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Make a commit that goes back to an earlier revision, on a branch",
		Long: `Rollback makes a commit in the clone around the current directory: its tree is
the one of an earlier revision, its parent what the source's branch is at. The
commit stands on a branch of its own, ready to be pushed and reviewed. Work
tree, index and all other branches stay as they are, and nothing is pushed.

The source is the one whose repository this is a clone of; --source names another.
The default revision is the one that was healthy last before what Git asks for
now. Of a source that reads a directory, that directory alone goes back.

Exit codes: 0 the branch is there, 1 error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.connect()
			if err != nil {
				return err
			}
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			sources, err := sourcesOf(ctx, c)
			if err != nil {
				return err
			}
			_, src, err := flags.meant(ctx, sources, ".", cmd.Flags().Changed("source"))
			if err != nil {
				return err
			}
			r, err := planRollback(ctx, c, src, to)
			if err != nil {
				return err
			}
			if err := r.make(ctx, clone{"."}, branch); err != nil {
				return err
			}
			if flags.output != "text" {
				return writeAs(cmd.OutOrStdout(), flags.output, r)
			}
			r.write(cmd.OutOrStdout())
			return nil
		},
	}
	flags.register(cmd, "text", "json", "yaml")
	cmd.Flags().Lookup("source").Usage = "source to go back (default the one whose repository this is a clone of, else main)"
	cmd.Flags().StringVar(&to, "to", "", "revision to go back to: a commit, its beginning or a revision's name (default the last healthy one)")
	offer(cmd, "to", flags.revisions)
	cmd.Flags().StringVar(&branch, "branch", "", "branch to make (default rollback-<commit>)")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this long")
	return cmd
}

// rollbackCommit is a commit that goes back, and where it came to stand.
type rollbackCommit struct {
	rollback.Plan
	Branch string        `json:"branch"`
	Commit schema.Commit `json:"commit"`
	Remote string        `json:"remote"` // of the clone, to push to
}

// planRollback asks the cluster what to go back to, and over what.
func planRollback(ctx context.Context, c *client.Client, src *schema.Source, to string) (*rollbackCommit, error) {
	revs, err := client.All[*schema.Revision](ctx, c)
	if err != nil {
		return nil, err
	}
	planned, err := rollback.New(src, revs, to)
	return &rollbackCommit{Plan: planned}, err
}

// make makes the commit and the branch in the clone, unless they are there.
func (r *rollbackCommit) make(ctx context.Context, git clone, branch string) error {
	if _, err := git.run(ctx, "rev-parse", "--git-dir"); err != nil {
		return fmt.Errorf("rollback works in a clone of the source's repository: %w", err)
	}
	parent, err := git.commit(ctx, string(r.Parent))
	if err != nil {
		return fmt.Errorf("commit %s, which %s is at, is not in this clone: %s", r.Parent.Short(), r.Followed, git.deepen(ctx, r.Followed))
	}
	r.Parent = parent
	to, err := git.commit(ctx, string(r.To))
	if err != nil && r.IsKnown {
		return fmt.Errorf("commit %s, which is to be gone back to, is not in this clone: %s", r.To.Short(), git.deepen(ctx, r.Followed))
	}
	if err != nil {
		return fmt.Errorf("%s is neither a revision of source %s nor a commit in this clone: %s, or see `fairlead history`", r.To, r.Source, git.deepen(ctx, r.Followed))
	}
	r.To = to
	r.Branch = cmp.Or(branch, "rollback-"+r.To.Short())
	old, err := r.ownBranch(ctx, git)
	if err != nil {
		return err
	}
	tree, err := r.tree(ctx, git)
	if err != nil {
		return err
	}
	if tree == git.ask(ctx, "rev-parse", string(r.Parent)+"^{tree}") {
		return fmt.Errorf("nothing to roll back: %s has the same files as %s", r.Parent.Short(), r.To.Short())
	}
	r.Remote = git.remote(ctx, r.Followed)
	if old != "" && git.ask(ctx, "rev-parse", old+"^{tree}", old+"^@") == tree+"\n"+string(r.Parent) {
		r.Commit = schema.Commit(old)
		return nil
	}
	args := []string{"commit-tree", tree, "-p", string(r.Parent), "-F", "-"}
	if git.ask(ctx, "config", "--type=bool", "commit.gpgSign") == "true" {
		args = append(args, "-S")
	}
	made, err := git.feed(ctx, r.message(ctx, git), args...)
	if err != nil {
		return err
	}
	r.Commit = schema.Commit(made)
	if old == "" {
		old = strings.Repeat("0", len(made)) // git's word for "it must not exist"
	}
	_, err = git.run(ctx, "update-ref", "-m", "fairlead rollback", "refs/heads/"+r.Branch, made, old)
	return err
}

// ownBranch is what the branch is at, "" if it is not there. One that somebody
// else made, or that is checked out, is left alone.
func (r *rollbackCommit) ownBranch(ctx context.Context, git clone) (string, error) {
	if _, err := git.run(ctx, "check-ref-format", "--branch", r.Branch); err != nil {
		return "", fmt.Errorf("%q is no name for a branch", r.Branch)
	}
	ref := "refs/heads/" + r.Branch
	if slices.Contains(strings.Split(git.ask(ctx, "worktree", "list", "--porcelain"), "\n"), "branch "+ref) {
		return "", fmt.Errorf("branch %s is checked out: name another with --branch", r.Branch)
	}
	old := git.ask(ctx, "rev-parse", "--quiet", "--verify", ref+"^{commit}")
	if old != "" && git.ask(ctx, "log", "-1", "--format=%(trailers:key="+rollback.Trailer+",valueonly)", old) == "" {
		return "", fmt.Errorf("branch %s is there already and not made by rollback: name another with --branch", r.Branch)
	}
	return old, nil
}

// tree is what the commit holds: the parent's tree with the source's directory as
// it was.
func (r *rollbackCommit) tree(ctx context.Context, git clone) (string, error) {
	dir := strings.Trim(filepath.ToSlash(filepath.Clean(r.Path)), "/")
	if dir == "." || dir == "" {
		return git.run(ctx, "rev-parse", string(r.To)+"^{tree}")
	}
	scratch, err := os.MkdirTemp("", "fairlead-rollback-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(scratch)
	index := "GIT_INDEX_FILE=" + filepath.Join(scratch, "index")
	for _, args := range [][]string{
		{"read-tree", string(r.Parent)},
		{"rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", ":(top,literal)" + dir},
		{"read-tree", "--prefix=" + dir + "/", string(r.To) + ":" + dir},
	} {
		if _, err := git.with(ctx, "", []string{index}, args...); err != nil {
			return "", err
		}
	}
	return git.with(ctx, "", []string{index}, "write-tree")
}

// message asks git about what the message names.
func (r *rollbackCommit) message(ctx context.Context, git clone) string {
	target := git.ask(ctx, "log", "-1", "--format=%h \"%s\" by %an, %as", string(r.To))
	log := git.ask(ctx, "log", fmt.Sprintf("--max-count=%d", rollback.MaxUndone+1), "--format=- %h %s (%an)", string(r.To)+".."+string(r.Parent))
	var undone []string
	if log != "" {
		undone = strings.Split(log, "\n")
	}
	return r.Message(target, undone)
}

func (r *rollbackCommit) write(w io.Writer) {
	remote := cmp.Or(r.Remote, "<remote>")
	layout.Fprintf(w, "Branch %s is at %s: the files of %s over %s.\n", r.Branch, r.Commit.Short(), r.To.Short(), r.Parent.Short())
	layout.Fprintf(w, "Your work tree is as it was, and nothing was pushed.\n\n")
	// Commands are copied: they stay on one line, however long that is.
	layout.Fprintf(w, "To look at it:\n")
	schema.Fprintf(w, "  git show --stat %s\n", r.Branch)
	layout.Fprintf(w, "To have it reviewed, push the branch and open a pull request into %s:\n", r.Followed)
	schema.Fprintf(w, "  git push %s %s\n", remote, r.Branch)
	layout.Fprintf(w, "To deploy it now:\n")
	schema.Fprintf(w, "  git push -o wait %s %s:%s\n", remote, r.Branch, r.Followed)
}

// clone runs git in the repository around a directory. Variables that point git
// elsewhere are not handed on; who commits and with what configuration is the
// user's.
type clone struct{ dir string }

var keptGitVariables = []string{"GIT_AUTHOR_", "GIT_COMMITTER_", "GIT_CONFIG_GLOBAL=", "GIT_CONFIG_SYSTEM=", "GIT_CONFIG_NOSYSTEM="}

func (c clone) run(ctx context.Context, args ...string) (string, error) {
	return c.with(ctx, "", nil, args...)
}

func (c clone) feed(ctx context.Context, input string, args ...string) (string, error) {
	return c.with(ctx, input, nil, args...)
}

// ask is run for questions whose failure is an answer: "".
func (c clone) ask(ctx context.Context, args ...string) string {
	out, err := c.run(ctx, args...)
	if err != nil {
		return ""
	}
	return out
}

func (c clone) commit(ctx context.Context, rev string) (schema.Commit, error) {
	out, err := c.run(ctx, "rev-parse", "--quiet", "--verify", "--end-of-options", rev+"^{commit}")
	return schema.Commit(out), err
}

// remote is where the followed branch comes from; "" when that cannot be told.
func (c clone) remote(ctx context.Context, followed string) string {
	if r := c.ask(ctx, "config", "branch."+followed+".remote"); r != "" {
		return r
	}
	return rollback.RemoteOf(strings.Fields(c.ask(ctx, "remote")))
}

func (c clone) with(ctx context.Context, input string, env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = c.dir
	cmd.Stdin = strings.NewReader(input)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GIT_") || slices.ContainsFunc(keptGitVariables, func(kept string) bool { return strings.HasPrefix(v, kept) }) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0")
	cmd.Env = append(cmd.Env, env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("git is not installed")
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimRight(string(out), "\n"), nil
}
