package podman

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/containers/podman/v4/pkg/bindings/images"

	"fairlead/nodeagent/pod"
)

// answerWait is how long a registry may take before it tells what an image consists
// of. Podman asks one that is busy (code 429) again for longer than that.
const answerWait = time.Minute

// errSilent ends a pull of which the registry tells nothing.
var errSilent = errors.New("the registry does not tell what the image consists of")

// Pull implements nodeagent.Runtime.
func (p *Podman) Pull(ctx context.Context, ref string, as pod.Credential) (pod.Image, error) {
	bounded, end := context.WithCancelCause(ctx)
	defer end(nil)
	c, err := p.call(bounded)
	if err != nil {
		return pod.Image{}, err
	}
	// The bindings read on for ever behind an answer that broke off, unless the
	// request's context ends.
	c.Value(callKey{}).(*fate).broken = func() { end(errNoService) }
	within := cmp.Or(p.answerWait, answerWait)
	w := watch{timer: time.AfterFunc(within, func() { end(errSilent) })}
	defer w.timer.Stop()
	_, err = images.Pull(c, ref, p.pullOptions(as).WithProgressWriter(&w))
	why := context.Cause(bounded)
	switch {
	case err == nil && why == nil:
		return p.Image(ctx, ref)
	case why == nil:
		return pod.Image{}, p.judgePull(c, ref, as, err)
	case errors.Is(why, errNoService):
		return pod.Image{}, fmt.Errorf("%w: it went away during the pull", p.cfg.Unavailable)
	case errors.Is(why, errSilent):
		return pod.Image{}, fmt.Errorf("%w: within %s it has not told what the image consists of: it does not answer, or says that it is too busy (HTTP 429)", p.cfg.NoRegistry, within)
	case errors.Is(why, context.Canceled):
		return pod.Image{}, fmt.Errorf("%w: the pull was given up: %w", p.cfg.Unavailable, why)
	}
	return pod.Image{}, fmt.Errorf("%w: it has not sent the image in time: %w", p.cfg.NoRegistry, why)
}

// withoutAccount is what a token service is asked as, in an error that has its URL.
var withoutAccount = regexp.MustCompile(`account=[^&"\s]*`)

// without takes a credential, and the account of the node's own, out of what went wrong
// with it: events tell that to every reader.
func without(as pod.Credential, said string) string {
	said = withoutAccount.ReplaceAllString(said, "account=…")
	for _, secret := range []string{as.Password, as.User} {
		if len(secret) >= leastSecret {
			said = strings.NewReplacer(secret, "…", url.QueryEscape(secret), "…", url.PathEscape(secret), "…").Replace(said)
		}
	}
	return said
}

// leastSecret characters of a text say more than that it is there: shorter ones are in
// any message.
const leastSecret = 4

// pullOptions have a credential in the request alone: Podman writes those of a file that
// names several registries to a file of its own.
func (p *Podman) pullOptions(as pod.Credential) *images.PullOptions {
	o := new(images.PullOptions).WithPolicy("always")
	if as != (pod.Credential{}) {
		return o.WithUsername(as.User).WithPassword(as.Password)
	}
	if p.cfg.AuthFile != "" {
		o = o.WithAuthfile(p.cfg.AuthFile) // where it is not there: nobody's, not the logins of the agent's own user
	}
	return o
}

// watch ends the wait for a registry's first answer when Podman tells of it.
type watch struct{ timer *time.Timer }

func (w *watch) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("Getting image source")) {
		w.timer.Stop()
	}
	return len(b), nil
}

// answers are parts of what Podman 4.3 says of a pull that failed, by what they tell;
// of a text that has several the first one counts. Podman's service gives the
// registry's error codes in its text alone.
var answers = []struct {
	tells func(*Config) error
	parts []string
}{
	{func(c *Config) error { return c.NodeFails }, append([]string{"read-only file system"}, exhausted...)},
	{func(c *Config) error { return c.Denied }, []string{
		"unauthorized", "denied: ", "authentication required", "invalid username/password", "StatusCode: 401", "StatusCode: 403", "403 (Forbidden)", "401 (Unauthorized)",
	}},
	{func(c *Config) error { return c.NoImage }, []string{
		"manifest unknown", "name unknown", "StatusCode: 404", "name invalid", "tag invalid", "manifest invalid", "no image found in", "invalid reference format",
		"Invalid image name", "does not match provided manifest digest", "did not resolve to an alias", "not found: ",
	}},
}

// judgePull tells a service that went away from a node that cannot keep the image,
// an image that is not there, and a registry that does not give it to this node or
// cannot be asked, as which all else counts.
func (p *Podman) judgePull(c context.Context, ref string, as pod.Credential, err error) error {
	if f, _ := c.Value(callKey{}).(*fate); f != nil && f.gone.Load() {
		return p.judge(err)
	}
	told := schemeHint(strings.TrimSpace(err.Error()))
	said := strings.ReplaceAll(told, nameOf(ref), "") // a name may be any of the words
	err = errors.New(without(as, told))
	for _, a := range answers {
		if has(said, a.parts) {
			return fmt.Errorf("%w: %w", a.tells(&p.cfg), err)
		}
	}
	return fmt.Errorf("%w: %w", p.cfg.NoRegistry, err)
}

// nameOf is a reference without its tag and digest.
func nameOf(ref string) string {
	name, _, _ := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

// schemeHint adds what to do about a registry that speaks no TLS, or whose
// certificate is not trusted.
func schemeHint(said string) string {
	switch {
	case strings.Contains(said, "server gave HTTP response to HTTPS client"):
		return said + " (the registry speaks no TLS: allow it in registries.conf, `insecure = true`)"
	case strings.Contains(said, "x509: "):
		return said + " (the node does not trust the registry's certificate: give it the authority's, or allow it in registries.conf, `insecure = true`)"
	}
	return said
}
