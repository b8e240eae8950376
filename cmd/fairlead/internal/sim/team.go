package sim

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"fairlead/reconciler/gittest"
	"fairlead/schema"
	"fairlead/schema/load"
)

const (
	graceSeconds     = 5
	progressDeadline = 45 * time.Second
)

// team is who pushes.
type team struct {
	w      *World
	chance *rand.Rand
	pods   *rand.Rand // of what is asked for of pods
	jobs   *rand.Rand // of Jobs
	crons  *rand.Rand // of CronJobs
	asked  []workload // at last
	good   []workload // the last ones without a flaw
	turn   int
	tip    schema.Commit // of the team's clone
}

func newTeam(w *World, seed uint64) *team {
	return &team{w: w, chance: stream(seed, "team"), pods: stream(seed, "pods"), jobs: stream(seed, "jobs"), crons: stream(seed, "cronjobs")}
}

// files renders a tree.
func files(asked []workload) map[string]string {
	out := map[string]string{
		"shop/base.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
	}
	for _, a := range asked {
		out["shop/"+a.name+".yaml"] = rows.Of(a.kind).asks.Do.text(a)
	}
	return out
}

// begin is the tree of the first push.
func (t *team) begin() {
	for _, r := range rows.All() {
		if r.asks.Do.begin != nil {
			t.asked = append(t.asked, r.asks.Do.begin(t)...)
		}
	}
	t.good = slices.Clone(t.asked)
}

// change makes the next tree.
func (t *team) change() string {
	t.turn++
	from := t.asked
	if !flawless(from) {
		from = t.good // a team fixes what it broke
	}
	var next []workload
	what := ""
	for _, r := range rows.All() {
		if r.asks.Do.change == nil {
			continue
		}
		mine, changed := r.asks.Do.change(t, ofKind(from, r.kind))
		next, what = append(next, mine...), what+changed
	}
	t.asked = next
	if flawless(next) {
		t.good = slices.Clone(next)
	}
	return strings.TrimSpace(what)
}

// ofKind is a copy of what is asked for of one kind.
func ofKind(asked []workload, kind schema.Kind) (out []workload) {
	for _, a := range asked {
		if a.kind == kind {
			out = append(out, a)
		}
	}
	return out
}

// last is the tree of the last push, when faults are over.
func (t *team) last() (out []workload) {
	for _, a := range t.good {
		out = append(out, rows.Of(a.kind).asks.Do.last(a))
	}
	return out
}

func flawless(asked []workload) bool {
	return !slices.ContainsFunc(asked, func(a workload) bool { return !rows.Of(a.kind).asks.Do.flawless(a) })
}

// commit makes a commit on top of another and notes what it asks for.
func (w *World) commit(parent schema.Commit, message string, asked []workload) schema.Commit {
	c := gittest.Commit{Message: message, Time: w.now, Files: files(asked)}
	if parent != "" {
		c.Parents = []schema.Commit{parent}
	}
	hash := w.git.Add(c)
	w.learn(hash, message, c.Files)
	return hash
}

// learn notes what a commit asks for, by the product's own loader.
func (w *World) learn(commit schema.Commit, message string, files map[string]string) {
	of := schema.Tree{Commit: schema.CommitObject{Hash: commit}}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		of.Files = append(of.Files, schema.File{Path: path, Blob: &schema.Blob{Size: int64(len(files[path])), Open: func() ([]byte, error) { return []byte(files[path]), nil }}})
	}
	r := load.Load(w.ctx, of, source().Spec, load.Options{Source: sourceName})
	var t tree
	for _, d := range r.Objects {
		t.keys = append(t.keys, schema.KeyOf(d.Object))
	}
	slices.SortFunc(t.keys, schema.Key.Compare)
	if _, text, ok := strings.Cut(message, "Fairlead-Allow-Prune: "); ok {
		_, _ = fmt.Sscan(text, &t.removes)
	}
	w.truth.trees[commit] = t
}

// push is git push: judged before it is taken, refused if the branch has moved
// meanwhile, looked at by the master after.
func (w *World) push(message string, asked []workload, done func(commit schema.Commit, err error)) {
	tip, _, err := w.git.Branch("main")
	if err != nil {
		done("", err)
		return
	}
	if w.team.tip != "" {
		if forward, err := w.git.IsAncestor(w.team.tip, tip); err != nil || !forward {
			w.note("push of %q is refused: not a fast-forward", subject(message))
			done("", errors.New("not a fast-forward"))
			return
		}
	}
	commit := w.commit(tip, message, asked)
	p, err := w.master.judge(commit)
	if err != nil {
		w.note("push of %.12s (%s) is refused: %v", commit, subject(message), err)
		done("", err)
		return
	}
	w.note("push of %.12s (%s): %s", commit, subject(message), p.Summary())
	w.after(w.between(time.Millisecond, 50*time.Millisecond), func() {
		if now, _, err := w.git.Branch("main"); err != nil || now != tip {
			w.note("push of %.12s comes too late", commit)
			done("", errors.New("not a fast-forward"))
			return
		}
		w.git.SetBranch("main", commit)
		w.team.tip = commit
		w.master.after(w.between(0, 20*time.Millisecond), w.master.look)
		done(commit, nil)
	})
}

func subject(message string) string {
	line, _, _ := strings.Cut(message, "\n")
	return line
}

// pushes arranges for the team's pushes during a time; now and then two of them
// push at once.
func (t *team) pushes(during time.Duration) {
	ignore := func(schema.Commit, error) {}
	at := 3 * time.Second
	t.begin()
	t.w.after(at, func() { t.w.push("the first", t.asked, ignore) })
	for at += t.some(5*time.Second, 40*time.Second); at < during; at += t.some(2*time.Second, 60*time.Second) {
		twice := t.chance.IntN(6) == 0
		t.w.after(at, func() {
			t.w.push(t.change(), t.asked, ignore)
			if twice {
				t.w.push(t.change(), t.asked, ignore)
			}
		})
	}
}

func (t *team) some(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(t.chance.Int64N(int64(hi-lo)))
}
