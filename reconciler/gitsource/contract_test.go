package gitsource

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fairlead/reconciler/gittest"
	"fairlead/schema"
)

// The repositories that git makes and the fake keep one contract.
func TestRepositoryKeepsTheContract(t *testing.T) {
	gittest.Contract(t, func(t *testing.T) gittest.Subject {
		w := newWork(t)
		return gittest.Subject{
			Git: open(t, filepath.Join(w.dir, ".git")),
			Add: w.add,
			SetBranch: func(t *testing.T, branch string, commit schema.Commit) {
				if commit == "" {
					w.git("update-ref", "-d", "refs/heads/"+branch)
				} else {
					w.git("update-ref", "refs/heads/"+branch, string(commit))
				}
			},
			Lose: func(t *testing.T, hash string) {
				if err := os.Remove(filepath.Join(w.dir, ".git", "objects", hash[:2], hash[2:])); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// add makes a commit of whole files, without a branch or a working tree.
func (w *work) add(t *testing.T, c gittest.Commit) schema.Commit {
	t.Helper()
	with := func(stdin string, args ...string) string {
		cmd := w.command(w.dir, args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	w.ticks = int(c.Time.Unix())
	w.env = []string{"GIT_INDEX_FILE=" + filepath.Join(t.TempDir(), "index")}
	defer func() { w.env = nil }()
	var index strings.Builder
	for path, content := range c.Files {
		index.WriteString("100644 " + with(content, "hash-object", "-w", "--stdin") + "\t" + path + "\n")
	}
	with(index.String(), "update-index", "--add", "--index-info")
	args := []string{"commit-tree", with("", "write-tree"), "-F", "-"}
	for _, p := range c.Parents {
		args = slices.Concat(args, []string{"-p", string(p)})
	}
	return schema.Commit(with(strings.TrimSuffix(c.Message, "\n")+"\n", args...))
}
