package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/cmd/fairlead/internal/config"
	"fairlead/reconciler"
	"fairlead/reconciler/api"
	"fairlead/reconciler/follow"
	"fairlead/reconciler/gitsource"
	"fairlead/reconciler/state"
	"fairlead/reconciler/trust"
	"fairlead/schema"
)

const (
	// watchAnew is after how long a directory is watched by its name again: another
	// may have taken its place.
	watchAnew = time.Minute
	// watchRetry is how long a directory that cannot be watched is left alone;
	// meanwhile it is looked at by its interval.
	watchRetry = 5 * time.Second
	// goBackPause is how long a rollback that could not be handed over waits for
	// its next try.
	goBackPause = time.Second
	// maxPushers is how many pushes of one source are remembered by who made
	// them, from when git asks until the loop has them.
	maxPushers = 16
)

// sources keeps a repository and a follower for every Source there is: those of
// the master's configuration and those that trees add. The repository of a
// Source that went stays on disk.
type sources struct {
	dir        string // the master's
	hookSocket string
	hookBinary string
	configured []schema.Source
	log        *logrus.Entry
	authority  *trust.Authority
	programs   gitsource.Programs

	// Set before anything is followed.
	loop     *reconciler.Loop
	feed     *state.Feed
	follower *reconciler.Follower

	mu   sync.Mutex
	open map[schema.SourceName]*followed
}

// newSources reads the sources of the configuration.
func newSources(c config.Master, hookSocket string, authority *trust.Authority, log *logrus.Entry) (*sources, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &sources{
		dir: c.Dir, hookSocket: hookSocket, hookBinary: filepath.Join(filepath.Dir(self), "fairlead-hook"),
		log: log, authority: authority, open: map[schema.SourceName]*followed{},
	}
	for _, entry := range c.Sources {
		src := schema.Source{ObjectMeta: metav1.ObjectMeta{Name: entry.Name}, Spec: schema.OwnSourceSpec(entry.Spec)}
		schema.Default(&src)
		if problems := schema.Validate(&src); len(problems) > 0 {
			return nil, fmt.Errorf("configuration: source %s: %s: %s", entry.Name, problems[0].Field, problems[0].Message)
		}
		s.configured = append(s.configured, src)
	}
	return s, nil
}

// isConfigured reports whether a source is the master's own.
func (s *sources) isConfigured(name schema.SourceName) bool {
	return slices.ContainsFunc(s.configured, func(src schema.Source) bool { return src.SourceName() == name })
}

// prepare opens the embedded remotes, so that the first push finds its own.
func (s *sources) prepare(ctx context.Context, snapshot *state.Snapshot) error {
	for i := range s.configured {
		if src := &s.configured[i]; src.Spec.Embedded {
			if err := s.follow(src).prepare(ctx); err != nil {
				return err
			}
		}
	}
	for src := range state.All[*schema.Source](snapshot, "") {
		if !src.Spec.Embedded || s.isConfigured(src.SourceName()) {
			continue
		}
		// One that cannot be opened says so when it is looked at.
		_ = s.follow(src).prepare(ctx)
	}
	return nil
}

// follow makes the follower of a source; it does nothing before it is started.
func (s *sources) follow(src *schema.Source) *followed {
	f := &followed{sources: s, name: src.SourceName(), spec: src.Spec, hints: make(chan struct{}, 1), log: s.log.WithField("source", src.Name)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[src.SourceName()] = f
	return f
}

func (s *sources) get(name schema.SourceName) *followed {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[name]
}

// remote is the embedded remote that a push comes from.
func (s *sources) remote(name schema.SourceName) (gitsource.Remote, bool) {
	f := s.get(name)
	if f == nil || !f.spec.Embedded {
		return gitsource.Remote{}, false
	}
	repo := f.repository()
	return gitsource.Remote{Repo: repo, Branch: f.spec.Branch}, repo != nil
}

// note remembers who pushes what git is asking about: whichever look brings the
// commit to the loop, its revision names the pusher.
func (s *sources) note(p gitsource.Push) {
	if f := s.get(p.Source); f != nil {
		f.note(p.Tip(), p.Pusher)
	}
}

// took brings a push that git has taken to the loop.
func (s *sources) took(ctx context.Context, p gitsource.Push) error {
	f := s.get(p.Source)
	if f == nil {
		return fmt.Errorf("there is no source %q", p.Source)
	}
	return f.look(ctx)
}

// run follows whatever Sources there are until ctx ends.
func (s *sources) run(ctx context.Context) error {
	defer s.close()
	select {
	case <-s.loop.Begun():
	case <-ctx.Done():
		return nil
	}
	var seen uint64
	for {
		changes, snapshot, moved, known := s.feed.Since(seen)
		others, again := reconciler.FollowingAfter(changes)
		if !known || others {
			s.adjust(ctx, snapshot)
		}
		if again {
			s.hintAll()
		}
		seen = snapshot.Counters().ResourceVersion
		select {
		case <-moved:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *sources) hintAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.open {
		f.hint()
	}
}

// adjust starts and stops followers so that they are those of the snapshot.
func (s *sources) adjust(ctx context.Context, snapshot *state.Snapshot) {
	wanted := map[schema.SourceName]*schema.Source{}
	for src := range state.All[*schema.Source](snapshot, "") {
		wanted[src.SourceName()] = src
	}
	s.mu.Lock()
	running := maps.Clone(s.open)
	s.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(running)) {
		src, stays := wanted[name]
		if stays && follow.SameRepository(running[name].spec, src.Spec) {
			continue
		}
		running[name].close()
		s.mu.Lock()
		delete(s.open, name)
		s.mu.Unlock()
		delete(running, name)
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		f := running[name]
		if f == nil {
			f = s.follow(wanted[name])
		}
		f.start(ctx)
	}
}

// close ends all followers.
func (s *sources) close() {
	s.mu.Lock()
	all := slices.Collect(maps.Values(s.open))
	clear(s.open)
	s.mu.Unlock()
	for _, f := range all {
		f.close()
	}
}

// beside are the handlers that sources have on the master's port.
func (s *sources) beside() map[string]api.Beside {
	authorize := func(token string, source schema.SourceName) (gitsource.Pusher, bool) {
		grant, ok, err := s.authority.Pusher(token, source)
		if err != nil {
			s.log.WithError(err).Warn("pusher token")
		}
		return gitsource.Pusher{Name: grant.Pusher, Refs: grant.Refs}, ok
	}
	secret := func(source schema.SourceName) string {
		if f := s.get(source); f == nil || f.spec.Embedded {
			return ""
		}
		return s.authority.WebhookSecret(source)
	}
	hint := func(source schema.SourceName) {
		if f := s.get(source); f != nil {
			f.hint()
		}
	}
	pusher := func(r *http.Request) (string, bool) {
		p, ok := gitsource.PusherOf(r, authorize)
		return p.Name, ok
	}
	return map[string]api.Beside{
		"/git/":   {Handler: gitsource.HTTPHandler(filepath.Join(s.dir, "git"), &s.programs, authorize), Pusher: pusher},
		"/hooks/": {Handler: gitsource.WebhookHandler(secret, hint)},
	}
}

// followed is one source's repository and what follows it.
type followed struct {
	*sources
	name  schema.SourceName
	spec  schema.SourceSpec // as it was opened
	log   *logrus.Entry
	hints chan struct{}

	stop context.CancelFunc // nil before start
	done sync.WaitGroup

	mu       sync.Mutex
	repo     *gitsource.Repo     // nil before it is open
	upstream *gitsource.Upstream // nil for an embedded remote
	pushers  []pushed            // the newest last

	looking sync.Mutex // one look at a time; guards logged
	logged  string     // trouble that was logged last, "" where all is well

}

// pushed is who pushed a commit.
type pushed struct {
	commit schema.Commit
	pusher string
}

// hint asks for a look soon.
func (f *followed) hint() {
	select {
	case f.hints <- struct{}{}:
	default:
	}
}

func (f *followed) repository() *gitsource.Repo {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.repo
}

// prepare opens the repository if it is not open yet; the error is a
// *follow.Problem.
func (f *followed) prepare(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.repo != nil {
		return nil
	}
	var err error
	if f.spec.Embedded {
		f.repo, err = gitsource.Init(ctx, filepath.Join(f.dir, "git", string(f.name)+".git"), gitsource.HookConfig{
			HookBinary: f.hookBinary, Socket: f.hookSocket, Source: f.name, Branch: f.spec.Branch,
		})
		if err != nil {
			return &follow.Problem{Reason: follow.NotStored, Message: err.Error()}
		}
		return nil
	}
	credentials, err := f.credentials()
	if err != nil {
		return err
	}
	f.upstream, err = gitsource.OpenUpstream(ctx, gitsource.UpstreamConfig{
		Dir: filepath.Join(f.dir, "cache", string(f.name)+".git"), URL: f.spec.URL, Branch: f.spec.Branch, Credentials: credentials,
		Programs: &f.programs, Source: f.name,
	})
	if err != nil {
		return err
	}
	f.repo = f.upstream.Repo()
	return nil
}

// credentials is the file of the source's credentials. One that Git names lies
// in the master's own directory for them: whoever can push must not make the
// master read any other file.
func (f *followed) credentials() (string, error) {
	if f.spec.Auth == nil || f.spec.Auth.SecretFile == "" {
		return "", nil
	}
	name := f.spec.Auth.SecretFile
	if filepath.IsAbs(name) && f.isConfigured(f.name) {
		return name, nil
	}
	if name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return "", &follow.Problem{Reason: follow.BadCredentials, Message: fmt.Sprintf(
			"auth.secretFile %q: want the name of a file in %s", name, filepath.Join(f.dir, "credentials"))}
	}
	return filepath.Join(f.dir, "credentials", name), nil
}

// start looks at the repository from now on; again is fine.
func (f *followed) start(ctx context.Context) {
	if f.stop != nil {
		return
	}
	ctx, f.stop = context.WithCancel(ctx)
	// What fails here is told by the first look.
	_ = f.prepare(ctx)
	f.done.Go(func() {
		gitsource.Keep(ctx, follow.PaceOf(f.name, f.spec), f.hints, f.look)
	})
	f.done.Go(func() { f.watch(ctx) })
	f.done.Go(func() { f.awaitDue(ctx) })
}

// close ends the follower. What is on disk stays.
func (f *followed) close() {
	if f.stop != nil {
		f.stop()
	}
	f.done.Wait()
	if repo := f.repository(); repo != nil {
		repo.Close()
	}
}

// watch hints whenever a repository on this machine's disk changes.
func (f *followed) watch(ctx context.Context) {
	for ctx.Err() == nil {
		dir, ok := f.watchable()
		if ok {
			watching, cancel := context.WithTimeout(ctx, watchAnew)
			err := gitsource.Watch(watching, dir, f.spec.Branch, f.hint)
			cancel()
			if err == nil {
				continue
			}
			// However the watch ended, the interval looks on.
			f.hint()
		}
		sleep(ctx, watchRetry)
	}
}

func (f *followed) watchable() (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.upstream != nil:
		return f.upstream.Local()
	case f.repo != nil:
		return f.repo.Dir(), true
	}
	return "", false
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// awaitDue hands over the last healthy revision when the applied one failed, and a
// failed one again that its nodes were at fault for; the remote need not answer for that.
func (f *followed) awaitDue(ctx context.Context) {
	for f.follower.AwaitDue(ctx, f.name); ctx.Err() == nil; f.follower.AwaitDue(ctx, f.name) {
		f.stay(ctx)
		sleep(ctx, goBackPause)
	}
}

// look brings the repository's branch to the loop if it moved, and logs what is new of
// the repository.
func (f *followed) look(ctx context.Context) error {
	f.looking.Lock()
	defer f.looking.Unlock()
	word, _, err := f.follower.Look(ctx, f.name, f.remote, f.pusher)
	switch log := f.log.WithField("reason", word.Reason); {
	case ctx.Err() != nil || errors.Is(err, reconciler.ErrStopped):
		return err
	case err == nil && f.logged != "":
		f.log.Info("the repository can be read again")
		f.logged = ""
	case err != nil && err.Error() != f.logged:
		f.logged = err.Error()
		log.Warn(f.logged)
	}
	return err
}

// stay does what is due for the commit that was judged last: its secrets are opened
// after a start, and a failed revision makes way.
func (f *followed) stay(ctx context.Context) {
	repo := f.repository()
	if repo == nil {
		return
	}
	if err := f.follower.Stay(ctx, f.name, repo); err != nil && ctx.Err() == nil && !errors.Is(err, reconciler.ErrStopped) {
		f.log.WithError(err).Warn("the last good state is kept")
	}
}

// remote opens the repository if it is not open yet.
func (f *followed) remote(ctx context.Context) (reconciler.Remote, error) {
	if err := f.prepare(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.upstream != nil {
		return f.upstream.Followed(), nil
	}
	return f.repo.Followed(f.spec.Branch), nil
}

func (f *followed) note(commit schema.Commit, pusher string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pushers = append(f.pushers, pushed{commit, pusher})
	f.pushers = f.pushers[max(0, len(f.pushers)-maxPushers):]
}

func (f *followed) pusher(commit schema.Commit) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range slices.Backward(f.pushers) {
		if p.commit == commit {
			return p.pusher
		}
	}
	return ""
}
