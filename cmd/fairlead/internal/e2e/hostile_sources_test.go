package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// bombSize is that of two files which are a few bytes in a pack, one made from the other:
// to take them in, git holds both.
const bombSize = 96 << 20

// hostileSources are repositories outside that the tree of the shared cluster names as
// sources, each with a commit of its kind: a pack that takes all the memory of whoever
// fetches it, CUE that does not end, and more keys than an object may have.
type hostileSources struct {
	w     worktree // of the tree that names them
	repos map[string]string
}

func newHostileSources(t *testing.T) *hostileSources {
	t.Helper()
	var cue strings.Builder
	cue.WriteString("package bomb\n")
	for i := range 12 {
		fmt.Fprintf(&cue, "d%d: {a: 1} | {b: 2} | {c: 3}\n", i)
	}
	cue.WriteString("all: d0 & d1 & d2 & d3 & d4 & d5 & d6 & d7 & d8 & d9 & d10 & d11\n")
	h := &hostileSources{w: shared.clone(t), repos: map[string]string{}}
	zeros := strings.Repeat("\x00", bombSize)
	for name, files := range map[string][2]string{
		"hostile-pack": {zeros, zeros + "b"},
		"hostile-cue":  {cue.String(), "package bomb\n"},
		"hostile-keys": {manyKeys("many"), "kind: None\n"},
	} {
		dir := filepath.Join(t.TempDir(), name+".git")
		if out, err := exec.CommandContext(t.Context(), "git", "init", "--quiet", "--bare", "--initial-branch=main", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		h.repos[name] = dir
		if err := h.commit(t.Context(), name, map[string]string{"a.yaml": files[0], "a.cue": files[0], "b.yaml": files[1], "b.cue": files[1]}); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// commit makes one of nothing but the source's kind of files, in one pack with all that is
// made from something else; a nil map keeps the files.
func (h *hostileSources) commit(ctx context.Context, name string, files map[string]string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "commit refs/heads/main\ncommitter Mallory <m@example.org> %d +0000\ndata 1\nx\n", time.Now().Unix())
	if files == nil {
		b.WriteString("from refs/heads/main^0\n")
	}
	for path, text := range files {
		if (filepath.Ext(path) == ".cue") == (name == "hostile-cue") {
			fmt.Fprintf(&b, "M 100644 inline %s\ndata %d\n%s\n", path, len(text), text)
		}
	}
	cmd := exec.CommandContext(ctx, "git", "-c", "fastimport.unpackLimit=1", "-c", "core.bigFileThreshold=1g", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = h.repos[name], strings.NewReader(b.String())
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("commit to %s: %w\n%s", name, err, out)
	}
	return nil
}

// declare has the tree name the sources; none are looked at before.
func (h *hostileSources) declare(t *testing.T) {
	t.Helper()
	files := map[string]string{}
	for _, name := range sorted(h.repos) {
		files["hostile/"+name+".yaml"] = fmt.Sprintf("apiVersion: fairlead/v1\nkind: Source\nmetadata: {name: %s}\nspec: {url: %s, interval: 1s}\n", name, h.repos[name])
	}
	h.w.write(t, files)
	h.w.pushHealthy(t, "sources of somebody else's")
}

// commits adds to all of them what is judged anew.
func (h *hostileSources) commits(ctx context.Context) {
	for ctx.Err() == nil {
		for name := range h.repos {
			_ = h.commit(ctx, name, nil) // the attack may be over
		}
		select {
		case <-ctx.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// awaitRefused waits until the bomb was fetched and the keys were judged, and has the tree
// name none of the sources any more.
func (h *hostileSources) awaitRefused(t *testing.T) {
	t.Helper()
	eventually(t, answerPatience, "hostile sources are refused", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
		defer cancel()
		pack, err := client.Get[*schema.Source](ctx, shared.api, schema.KindSource, "", "hostile-pack")
		if err != nil {
			return false, err.Error()
		}
		keys, err := client.Get[*schema.Source](ctx, shared.api, schema.KindSource, "", "hostile-keys")
		if err != nil {
			return false, err.Error()
		}
		isRefused := false
		for _, c := range pack.Status.Conditions {
			isRefused = isRefused || c.Type == schema.ConditionFetched && c.Reason == schema.ReasonTooLarge
		}
		return isRefused && keys.Status.Desired.Commit != "" && keys.Status.Applied.Commit == "", fmt.Sprint(pack.Status.Conditions, keys.Status)
	})
	files := map[string]string{}
	for name := range h.repos {
		files["hostile/"+name+".yaml"] = ""
	}
	h.w.write(t, files)
	h.w.pushHealthy(t, "no sources of somebody else's\n\nFairlead-Allow-Prune: 100")
}
