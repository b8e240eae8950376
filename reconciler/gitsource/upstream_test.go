package gitsource

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/reconciler/follow"
	"fairlead/schema"
	"fairlead/schema/chance"
)

// follow opens a cache of the main branch at url.
func followed(t testing.TB, url, credentials string) *Upstream {
	t.Helper()
	u, err := OpenUpstream(t.Context(), UpstreamConfig{Dir: filepath.Join(t.TempDir(), "cache", "shop.git"), URL: url, Branch: "main", Credentials: credentials})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Repo().Close)
	return u
}

// at looks and wants the branch at a commit whose files can be read.
func at(t testing.TB, u *Upstream, want schema.Commit) {
	t.Helper()
	got, err := u.Look(t.Context())
	if err != nil || got != want {
		t.Fatalf("at %s, %v, want %s", got, err, want)
	}
	kept(t, u, want)
}

// kept wants the cache to have the branch at a commit, whole.
func kept(t testing.TB, u *Upstream, want schema.Commit) {
	t.Helper()
	if got, _, err := u.Repo().Branch("main"); err != nil || got != want {
		t.Fatalf("the cache is at %s, %v, want %s", got, err, want)
	}
	for _, f := range tree(t, u.Repo(), want, ".").Files {
		if _, err := f.Open(); err != nil {
			t.Fatalf("%s at %s: %v", f.Path, want, err)
		}
	}
}

// troubled looks and wants trouble for the reason, told with these words, twice
// the same.
func troubled(t testing.TB, u *Upstream, reason follow.Reason, words string) {
	t.Helper()
	var messages []string
	for range 2 {
		_, err := u.Look(t.Context())
		var trouble *follow.Problem
		if !errors.As(err, &trouble) || trouble.Reason != reason || !strings.Contains(trouble.Message, words) {
			t.Fatalf("%#v, want %s with %q", err, reason, words)
		}
		messages = append(messages, trouble.Message)
	}
	if messages[0] != messages[1] {
		t.Errorf("the same trouble is told as %q and %q", messages[0], messages[1])
	}
}

func TestUpstreamFollowsAPath(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	first := w.commit("first")
	for _, url := range []string{w.dir, "file://" + w.dir} {
		u := followed(t, url, "")
		at(t, u, first)
	}
	u := followed(t, w.dir, "")
	at(t, u, first)
	at(t, u, first)
	if u.fetches != 1 {
		t.Errorf("%d fetches of what had not moved", u.fetches)
	}
	w.write("a.yaml", "a: 2\n")
	second := w.commit("second")
	at(t, u, second)
	if dir, ok := u.Local(); !ok || dir != filepath.Join(w.dir, ".git") {
		t.Errorf("local at %s, %v", dir, ok)
	}
	if refs := w.in(u.Repo().Dir(), "for-each-ref", "--format=%(refname)"); refs != "refs/heads/main" {
		t.Errorf("the cache has %s", refs)
	}
}

// A repository of somebody else's is followed too, as root follows any.
func TestUpstreamOfAnotherUser(t *testing.T) {
	w := newWork(t)
	first := w.commit("first")
	dir := w.bare()
	if err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(name, 1234, 1234))
	}); err != nil {
		t.Fatal(err)
	}
	at(t, followed(t, dir, ""), first)
}

// Git lies: whatever it says, the cache stays at the last good state, says which
// lie it was, and goes on when the truth is back.
func TestUpstreamKeepsTheLastGoodState(t *testing.T) {
	type world struct {
		*work
		dir string // of the outside repository
	}
	for _, c := range []struct {
		name   string
		lie    func(w world)
		reason follow.Reason
		words  string
		mend   func(w world)
	}{
		{
			name: "vanished branch", reason: follow.BranchGone, words: "has no branch main",
			lie:  func(w world) { w.in(w.dir, "branch", "-m", "main", "old") },
			mend: func(w world) { w.in(w.dir, "branch", "-m", "old", "main") },
		}, {
			name: "unreachable", reason: follow.Unreachable, words: "does not appear to be a git repository",
			lie:  func(w world) { move(w.t, w.dir, w.dir+".away") },
			mend: func(w world) { move(w.t, w.dir+".away", w.dir) },
		}, {
			name: "no repository any more", reason: follow.BadRepository, words: "does not appear to be a git repository",
			lie:  func(w world) { move(w.t, filepath.Join(w.dir, "objects"), filepath.Join(w.dir, "away")) },
			mend: func(w world) { move(w.t, filepath.Join(w.dir, "away"), filepath.Join(w.dir, "objects")) },
		}, {
			name: "truncated pack", reason: follow.BadRepository, words: "",
			lie:  func(w world) { w.next("truncated"); w.pack(); spoil(w.t, w.dir, "objects/pack/*.pack", os.Truncate) },
			mend: func(w world) { heal(w.t, w.dir) },
		}, {
			name: "corrupt object", reason: follow.BadRepository, words: "",
			lie: func(w world) {
				w.next("corrupt")
				blob := w.git("rev-parse", "HEAD:b.yaml")
				spoil(w.t, w.dir, "objects/"+blob[:2]+"/"+blob[2:], scribble)
			},
			mend: func(w world) { heal(w.t, w.dir) },
		}, {
			name: "missing object", reason: follow.BadRepository, words: "",
			lie: func(w world) {
				w.next("missing")
				blob := w.git("rev-parse", "HEAD:b.yaml")
				move(w.t, filepath.Join(w.dir, "objects", blob[:2], blob[2:]), filepath.Join(w.dir, "away"))
			},
			mend: func(w world) {
				blob := w.git("rev-parse", "HEAD:b.yaml")
				move(w.t, filepath.Join(w.dir, "away"), filepath.Join(w.dir, "objects", blob[:2], blob[2:]))
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWork(t)
			w.write("a.yaml", "a: 1\n")
			good := w.commit("good")
			dir := w.bare()
			w.git("remote", "add", "origin", dir)
			u := followed(t, dir, "")
			at(t, u, good)
			c.lie(world{w, dir})
			troubled(t, u, c.reason, c.words)
			kept(t, u, good)
			c.mend(world{w, dir})
			at(t, u, schema.Commit(w.in(dir, "rev-parse", "main")))
		})
	}
}

// next pushes a commit with a file that does not compress.
func (w *work) next(what string) {
	w.write("b.yaml", hex.EncodeToString(chance.Bytes(4096, uint64(w.ticks))))
	w.commit(what)
	w.git("push", "--quiet", "origin", "main")
}

func (w *work) pack() {
	w.in(w.git("remote", "get-url", "origin"), "repack", "-a", "-d", "--quiet")
}

func move(t testing.TB, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// spoil keeps a copy of the file at pattern and harms it.
func spoil(t testing.TB, dir, pattern string, harm func(name string, size int64) error) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v, %v", pattern, names, err)
	}
	data, err := os.ReadFile(names[0])
	if err == nil {
		err = os.WriteFile(names[0]+".good", data, 0o644)
	}
	if err == nil {
		err = os.Chmod(names[0], 0o644)
	}
	if err == nil {
		err = harm(names[0], int64(len(data))/2)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func scribble(name string, at int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte("scribble"), at)
	return errors.Join(err, f.Close())
}

func heal(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if good, ok := strings.CutSuffix(name, ".good"); ok && err == nil {
			err = os.Rename(name, good)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestForward(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	base := w.commit("base")
	applied := w.commit("applied")
	later := w.commit("later")
	dir := w.bare()
	u := followed(t, dir, "")
	at(t, u, later)
	push := func() schema.Commit {
		w.git("push", "--quiet", "--force", dir, "main")
		tip, err := u.Look(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return tip
	}
	// The commit judged last was elsewhere: nothing is known of it.
	next := func(u *Upstream, applied, tip schema.Commit) *follow.Problem {
		known := follow.Known{Applied: applied, Desired: schema.Commit(strings.Repeat("0", 40)), Path: "."}
		return follow.Next(known, follow.Ask(u.Repo(), known, tip)).Problem
	}
	if trouble := next(u, applied, later); trouble != nil {
		t.Error(trouble)
	}
	if trouble := next(u, "", later); trouble != nil {
		t.Error(trouble)
	}
	w.git("reset", "--quiet", "--hard", string(base))
	rewound := push()
	if trouble := next(u, applied, rewound); trouble == nil || trouble.Reason != follow.Rewound || trouble.Observed != base ||
		!strings.Contains(trouble.Message, schema.TrailerAllowRewind+": "+string(applied)) {
		t.Errorf("%#v", trouble)
	}
	w.commit("elsewhere\n\n" + schema.TrailerAllowRewind + ": " + string(applied[:10]))
	w.commit("and on")
	if trouble := next(u, applied, push()); trouble != nil {
		t.Errorf("with the trailer on the way: %v", trouble)
	}
	// Another cache never saw the commit that was left.
	fresh := followed(t, dir, "")
	tip, err := fresh.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if trouble := next(fresh, applied, tip); trouble != nil {
		t.Errorf("in a new cache, with the trailer: %v", trouble)
	}
	if trouble := next(fresh, later, tip); trouble == nil || trouble.Reason != follow.Rewound {
		t.Errorf("in a new cache, without it: %v", trouble)
	}
}

func TestUpstreamBounds(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	good := w.commit("good")
	dir := w.bare()
	w.git("remote", "add", "origin", dir)
	u := followed(t, dir, "")
	at(t, u, good)
	w.write("noise", string(chance.Bytes(1<<20, 0)))
	large := w.commit("large")
	w.git("push", "--quiet", "origin", "main")
	u.bounds.bytes = 256 << 10
	troubled(t, u, follow.TooLarge, "")
	kept(t, u, good)
	u.bounds = usualBounds
	u.bounds.fetch = time.Nanosecond
	troubled(t, u, follow.Unreachable, "no end within 1ns")
	kept(t, u, good)
	u.bounds = usualBounds
	at(t, u, large)
}

// A master that was killed amid a fetch leaves locks.
func TestUpstreamIsMendedWhenItIsOpened(t *testing.T) {
	w := newWork(t)
	w.commit("first")
	u := followed(t, w.dir, "")
	at(t, u, schema.Commit(w.git("rev-parse", "HEAD")))
	second := w.commit("second")
	lock := filepath.Join(u.cache, "refs/heads/main.lock")
	if err := os.WriteFile(lock, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	troubled(t, u, follow.NotStored, "main.lock")
	again, err := OpenUpstream(t.Context(), UpstreamConfig{Dir: u.cache, URL: w.dir, Branch: "main"})
	if err != nil {
		t.Fatal(err)
	}
	at(t, again, second)
}

func TestUpstreamRefusesAddresses(t *testing.T) {
	for _, url := range []string{"http://git.example.org/x", "ext::sh", "git@host"} {
		_, err := OpenUpstream(t.Context(), UpstreamConfig{Dir: filepath.Join(t.TempDir(), "x.git"), URL: url, Branch: "main"})
		var trouble *follow.Problem
		if !errors.As(err, &trouble) || trouble.Reason != follow.BadURL {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestClassify(t *testing.T) {
	for complaint, want := range map[string]follow.Reason{
		"fatal: Authentication failed for 'https://x/'":                                                                  follow.Unauthorized,
		"fatal: could not read Username for 'https://x': terminal prompts disabled":                                      follow.Unauthorized,
		"git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.":                           follow.Unauthorized,
		"Host key verification failed.\nfatal: Could not read from remote repository.":                                   follow.Unauthorized,
		"fatal: unable to access 'https://x/': SSL certificate problem: self-signed certificate":                         follow.Unauthorized,
		"fatal: unable to access 'https://x/': Could not resolve host: x":                                                follow.Unreachable,
		"fatal: unable to access 'https://x/': Failed to connect to x port 443 after 3 ms: Couldn't connect to server":   follow.Unreachable,
		"fatal: unable to access 'https://x/': The requested URL returned error: 503":                                    follow.Unreachable,
		"fatal: early EOF\nfatal: fetch-pack: invalid index-pack output":                                                 follow.BadRepository,
		"fatal: couldn't find remote ref refs/heads/main":                                                                follow.BranchGone,
		"fatal: write error: No space left on device\nfatal: index-pack failed":                                          follow.NotStored,
		"error: index-pack died of signal 25\nfatal: index-pack failed":                                                  follow.TooLarge,
		"fatal: unable to access 'https://x/': Failed to connect to x port 443 after 17 ms: Connection refused (really)": follow.Unreachable,
	} {
		if got := classify(follow.BadRepository, "fetch x", complaint); got.Reason != want {
			t.Errorf("%q is %s, want %s", complaint, got.Reason, want)
		}
	}
	a := classify(follow.Unreachable, "look at x", "fatal: unable to access 'https://x/': Failed to connect to x port 443 after 3 ms: Couldn't connect")
	b := classify(follow.Unreachable, "look at x", "fatal: unable to access 'https://x/': Failed to connect to x port 443 after 21 ms: Couldn't connect")
	if a.Message != b.Message {
		t.Errorf("%q and %q", a.Message, b.Message)
	}
}
