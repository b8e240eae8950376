package trust

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// maxTokens bounds the tokens that are valid at one time.
const maxTokens = 1_000

// storedToken is a token in tokens.json. The secret is 128 random bits, so a
// plain hash keeps it.
type storedToken struct {
	ID      string                     `json:"id"`
	Secret  string                     `json:"secret"` // SHA-256, hex
	Expires time.Time                  `json:"expires"`
	Uses    int                        `json:"uses,omitempty"` // nodes it is good for; 0 is any number
	Node    schema.NodeName            `json:"node,omitempty"` // the only node it is good for
	Labels  map[string]string          `json:"labels,omitempty"`
	UsedBy  map[schema.NodeName]string `json:"usedBy,omitempty"`
}

// admits tells whether a node may use the token, for the first time or again.
func (t *storedToken) admits(node schema.NodeName, key string) bool {
	return t.Uses == 0 || len(t.UsedBy) < t.Uses || t.UsedBy[node] == key
}

// JoinGrant is what a join token allows.
type JoinGrant struct {
	// Uses is for how many nodes it is good; 0 is any number.
	Uses int
	// Node is the one node it is for, "" for any. It may be registered already: the
	// machine that uses the token takes its place.
	Node schema.NodeName
	// Labels are the reserved labels that the registry gives a node which joins with
	// the token.
	Labels map[string]string
}

// maxTokenLabels bounds the labels of one token, and so those of a node that the
// registry gives.
const maxTokenLabels = 32

// NewToken makes a join token that is good for ttl.
func (a *Authority) NewToken(g JoinGrant, ttl time.Duration) (string, error) {
	if err := g.check(); err != nil {
		return "", fmt.Errorf("new token: %w", err)
	}
	if g.Node != "" {
		g.Uses = 1
	}
	return a.newToken(storedToken{Uses: g.Uses, Node: g.Node, Labels: g.Labels}, ttl)
}

func (g JoinGrant) check() error {
	if len(g.Labels) > maxTokenLabels {
		return fmt.Errorf("it would give %d labels, at most %d are possible", len(g.Labels), maxTokenLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(g.Labels)) {
		if wrong := schema.WrongLabel(key, g.Labels[key]); wrong != "" {
			return fmt.Errorf("label %q: %s", key+"="+g.Labels[key], wrong)
		}
		if !schema.LabelIsReserved(key) {
			return fmt.Errorf("label %s: any node can give it itself, in agent.yaml; a label that tells nodes apart for certain is %s%s", key, corev1.LabelNamespaceNodeRestriction+"/", path.Base(key))
		}
	}
	return nil
}

func (a *Authority) newToken(t storedToken, ttl time.Duration) (string, error) {
	if ttl <= 0 || t.Uses < 0 {
		return "", fmt.Errorf("new token: it would hold for %v and %d uses", ttl, t.Uses)
	}
	random := make([]byte, 6+16)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("new token: %w", err)
	}
	token := wire.Token{ID: hex.EncodeToString(random[:6]), Secret: hex.EncodeToString(random[6:]), Pin: a.pin()}
	t.ID, t.Secret = token.ID, hashSecret(token.Secret)
	t.Expires = a.cfg.Now().Add(ttl).UTC().Truncate(time.Second)
	err := a.locked(func() error {
		tokens, err := a.validTokens()
		if err != nil {
			return err
		}
		if len(tokens) >= maxTokens {
			return fmt.Errorf("%d tokens are valid already, wait for some to expire", len(tokens))
		}
		return replaceJSON(a.path(fileTokens), append(tokens, t))
	})
	if err != nil {
		return "", fmt.Errorf("new token: %w", err)
	}
	return token.String(), nil
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// validTokens reads the tokens that have not expired: another process may have
// made some. The caller holds the directory's lock.
func (a *Authority) validTokens() ([]storedToken, error) {
	var tokens []storedToken
	if err := readJSON(a.path(fileTokens), &tokens); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	now := a.cfg.Now()
	return slices.DeleteFunc(tokens, func(t storedToken) bool { return !now.Before(t.Expires) }), nil
}

// checkToken finds the stored token that text proves. It tells nobody which
// part was wrong.
func (a *Authority) checkToken(text string, node schema.NodeName) (*storedToken, error) {
	token, err := wire.ParseToken(text)
	if err != nil {
		return nil, refused("%v", err)
	}
	tokens, err := a.validTokens()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(tokens, func(t storedToken) bool { return t.ID == token.ID })
	if i < 0 || subtle.ConstantTimeCompare([]byte(tokens[i].Secret), []byte(hashSecret(token.Secret))) != 1 {
		return nil, refused("the token is unknown or has expired")
	}
	if t := tokens[i]; t.Node != "" && t.Node != node {
		return nil, refused("the token is for node %s", t.Node)
	}
	return &tokens[i], nil
}

// countUse remembers that node used the token. Tokens without a limit keep no
// list.
func (a *Authority) countUse(token *storedToken, node schema.NodeName, key string) error {
	if token.Uses == 0 || token.UsedBy[node] == key {
		return nil
	}
	tokens, err := a.validTokens()
	if err != nil {
		return err
	}
	for i := range tokens {
		if tokens[i].ID != token.ID {
			continue
		}
		if tokens[i].UsedBy == nil {
			tokens[i].UsedBy = map[schema.NodeName]string{}
		}
		tokens[i].UsedBy[node] = key
	}
	return replaceJSON(a.path(fileTokens), tokens)
}
