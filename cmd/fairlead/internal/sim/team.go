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
	apps   []appSpec // as last asked for
	good   []appSpec // the last ones without a flaw
	turn   int
	tip    string // of the team's clone
}

// appSpec is one application of the tree: a Deployment and a Service.
type appSpec struct {
	name        string
	replicas    int
	tag         string
	surge, down int
	recreate    bool
	liveness    bool
	config      int
}

func newTeam(w *World, seed uint64) *team {
	return &team{w: w, chance: stream(seed, "team")}
}

// files renders a tree.
func files(apps []appSpec) map[string]string {
	out := map[string]string{
		"shop/base.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
	}
	for _, a := range apps {
		strategy := fmt.Sprintf("{type: RollingUpdate, rollingUpdate: {maxSurge: %d, maxUnavailable: %d}}", a.surge, a.down)
		if a.recreate {
			strategy = "{type: Recreate}"
		}
		liveness := ""
		if a.liveness {
			liveness = "\n          livenessProbe: {exec: {command: [/program, print, ok]}, periodSeconds: 2, failureThreshold: 2}"
		}
		out["shop/"+a.name+".yaml"] = strings.NewReplacer("NAME", a.name, "REPLICAS", fmt.Sprint(a.replicas), "TAG", a.tag, "STRATEGY", strategy, "LIVENESS", liveness,
			"CONFIG", fmt.Sprint(a.config), "GRACE", fmt.Sprint(graceSeconds), "DEADLINE", fmt.Sprint(int(progressDeadline.Seconds()))).Replace(`apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: shop}
spec:
  replicas: REPLICAS
  progressDeadlineSeconds: DEADLINE
  strategy: STRATEGY
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: GRACE
      tolerations:
        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
        - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
      containers:
        - name: app
          image: localhost/app:TAG
          envFrom: [{configMapRef: {name: NAME}}]
          resources: {requests: {cpu: 100m, memory: 16Mi}}
          readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}LIVENESS
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec:
  selector: {app: NAME}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: shop}
data: {turn: "CONFIG"}
`)
	}
	return out
}

// begin is the tree of the first push.
func (t *team) begin() {
	for i := range 2 + t.chance.IntN(3) {
		t.apps = append(t.apps, t.draw(fmt.Sprintf("app%d", i)))
	}
	t.good = slices.Clone(t.apps)
}

func (t *team) draw(name string) appSpec {
	a := appSpec{name: name, replicas: 1 + t.chance.IntN(3), tag: "v1", surge: 1, liveness: t.chance.IntN(4) == 0}
	switch t.chance.IntN(4) {
	case 0:
		a.surge, a.down = 0, 1
	case 1:
		a.surge, a.down = 1, 1
	case 2:
		a.recreate = t.chance.IntN(2) == 0
	}
	return a
}

// change makes the next tree.
func (t *team) change() string {
	t.turn++
	next := slices.Clone(t.apps)
	if !flawless(next) {
		next = slices.Clone(t.good) // a team mends what it broke
	}
	what := ""
	for range 1 + t.chance.IntN(2) {
		i := t.chance.IntN(len(next))
		switch kind := t.chance.IntN(10); {
		case kind < 4:
			next[i].tag = fmt.Sprint("v", 1+t.chance.IntN(4))
			what += fmt.Sprintf(" %s to %s", next[i].name, next[i].tag)
		case kind < 6:
			next[i].replicas = t.chance.IntN(5)
			what += fmt.Sprintf(" %s x %d", next[i].name, next[i].replicas)
		case kind == 6:
			next[i].config++
			what += fmt.Sprintf(" configuration of %s", next[i].name)
		case kind == 7 && len(next) < 5:
			name := fmt.Sprintf("app%d", 10+t.turn)
			next = append(next, t.draw(name))
			what += " with " + name
		case kind == 8 && len(next) > 2:
			what += " without " + next[i].name
			next = slices.Delete(next, i, i+1)
		default:
			next[i].tag = []string{"crash", "sick", "slow"}[t.chance.IntN(3)]
			what += fmt.Sprintf(" %s to %s", next[i].name, next[i].tag)
		}
	}
	t.apps = next
	if flawless(next) {
		t.good = slices.Clone(next)
	}
	return strings.TrimSpace(what)
}

func flawless(apps []appSpec) bool {
	return !slices.ContainsFunc(apps, func(a appSpec) bool { return a.tag == "crash" || a.tag == "sick" })
}

// commit makes a commit on top of another and notes what it asks for.
func (w *World) commit(parent, message string, apps []appSpec) string {
	c := gittest.Commit{Message: message, Time: w.now, Files: files(apps)}
	if parent != "" {
		c.Parents = []string{parent}
	}
	hash := w.git.Add(c)
	w.learn(hash, message, c.Files)
	return hash
}

// learn notes what a commit asks for, by the product's own loader.
func (w *World) learn(commit, message string, files map[string]string) {
	of := schema.Tree{Commit: schema.Commit{Hash: commit}}
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
func (w *World) push(message string, apps []appSpec, done func(commit string, err error)) {
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
	commit := w.commit(tip, message, apps)
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
	ignore := func(string, error) {}
	at := 3 * time.Second
	t.begin()
	t.w.after(at, func() { t.w.push("the first", t.apps, ignore) })
	for at += t.some(5*time.Second, 40*time.Second); at < during; at += t.some(2*time.Second, 60*time.Second) {
		twice := t.chance.IntN(6) == 0
		t.w.after(at, func() {
			t.w.push(t.change(), t.apps, ignore)
			if twice {
				t.w.push(t.change(), t.apps, ignore)
			}
		})
	}
}

func (t *team) some(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(t.chance.Int64N(int64(hi-lo)))
}
