package trust

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"fairlead/schema"
)

// Grant is what a pusher token allows.
type Grant struct {
	Pusher string            // who pushes, recorded with each revision; empty is "token:<id>"
	Source schema.SourceName // the only source it is for
	Refs   []string          // full names of the only refs that may be pushed; none is any
}

// storedGrant is a pusher token in pushers.json. The secret is 160 random bits,
// so a plain hash keeps it.
type storedGrant struct {
	ID      string            `json:"id"`
	Secret  string            `json:"secret"` // SHA-256, hex
	Expires time.Time         `json:"expires"`
	Pusher  string            `json:"pusher"`
	Source  schema.SourceName `json:"source"`
	Refs    []string          `json:"refs,omitempty"`
}

const (
	// maxPusherName bounds a name that stands in every revision.
	maxPusherName = 64
	// maxPusherRefs bounds the refs of one token.
	maxPusherRefs = 32
	// webhookBytes is the length of a webhook's secret before it is hex.
	webhookBytes = 20
)

// pusherForm is "push.<id>.<secret>", the numbers in hex.
var pusherForm = regexp.MustCompile(`^push\.([0-9a-f]{12})\.([0-9a-f]{40})$`)

// NewPusherToken makes a token that pushes to one source for ttl.
func (a *Authority) NewPusherToken(g Grant, ttl time.Duration) (string, error) {
	if err := g.check(ttl); err != nil {
		return "", fmt.Errorf("new pusher token: %w", err)
	}
	random := make([]byte, 6+20)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("new pusher token: %w", err)
	}
	id, secret := hex.EncodeToString(random[:6]), hex.EncodeToString(random[6:])
	if g.Pusher == "" {
		g.Pusher = "token:" + id
	}
	stored := storedGrant{
		ID: id, Secret: hashSecret(secret), Expires: a.cfg.Now().Add(ttl).UTC().Truncate(time.Second),
		Pusher: g.Pusher, Source: g.Source, Refs: g.Refs,
	}
	err := a.locked(func() error {
		grants, err := a.validGrants()
		if err != nil {
			return err
		}
		if len(grants) >= maxTokens {
			return fmt.Errorf("%d pusher tokens are valid already, wait for some to expire", len(grants))
		}
		return replaceJSON(a.path(filePushers), append(grants, stored))
	})
	if err != nil {
		return "", fmt.Errorf("new pusher token: %w", err)
	}
	return "push." + id + "." + secret, nil
}

func (g Grant) check(ttl time.Duration) error {
	switch {
	case ttl <= 0:
		return fmt.Errorf("it would hold for %v", ttl)
	case g.Source == "":
		return errors.New("it names no source")
	case len(g.Refs) > maxPusherRefs:
		return fmt.Errorf("%d refs, at most %d", len(g.Refs), maxPusherRefs)
	case len(g.Pusher) > maxPusherName || strings.Trim(g.Pusher, pusherLetters) != "":
		return fmt.Errorf("pusher %q: want at most %d letters, digits and @._+-", g.Pusher, maxPusherName)
	}
	for _, ref := range g.Refs {
		if !strings.HasPrefix(ref, "refs/") || strings.ContainsAny(ref, " \t\n") {
			return fmt.Errorf("ref %q: want a full name, as refs/heads/main", ref)
		}
	}
	return nil
}

// pusherLetters leave out the colon: "token:" and "local:" are ours.
const pusherLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._+-"

// Pusher is what a token allows at a source, false for one that is unknown,
// has expired or is for another source.
func (a *Authority) Pusher(token string, source schema.SourceName) (Grant, bool, error) {
	m := pusherForm.FindStringSubmatch(token)
	if m == nil {
		return Grant{}, false, nil
	}
	grants, err := a.validGrants()
	if err != nil {
		return Grant{}, false, fmt.Errorf("pusher token: %w", err)
	}
	i := slices.IndexFunc(grants, func(g storedGrant) bool { return g.ID == m[1] })
	if i < 0 || subtle.ConstantTimeCompare([]byte(grants[i].Secret), []byte(hashSecret(m[2]))) != 1 || grants[i].Source != source {
		return Grant{}, false, nil
	}
	return Grant{Pusher: grants[i].Pusher, Source: source, Refs: grants[i].Refs}, true, nil
}

// validGrants reads the pusher tokens that have not expired. The file is only
// ever replaced whole, so reading needs no lock.
func (a *Authority) validGrants() ([]storedGrant, error) {
	var grants []storedGrant
	if err := readJSON(a.path(filePushers), &grants); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	now := a.cfg.Now()
	return slices.DeleteFunc(grants, func(g storedGrant) bool { return !now.Before(g.Expires) }), nil
}

// WebhookSecret is the secret that a source's webhook is sent with. It is
// derived from the cluster's key: nothing is kept, and it only hints to look.
func (a *Authority) WebhookSecret(source schema.SourceName) string {
	mac := hmac.New(sha256.New, a.seal)
	// No sealed value begins with a NUL, so this is never one.
	mac.Write([]byte("\x00webhook\x00" + string(source)))
	return hex.EncodeToString(mac.Sum(nil)[:webhookBytes])
}
