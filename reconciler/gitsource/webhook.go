package gitsource

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"

	"fairlead/schema"
)

const hooksPrefix = "/hooks/"

// Headers that carry a webhook's proof: GitHub's is an HMAC-SHA256 of the body
// under the secret (Gitea and Forgejo send it too), the others the secret itself.
const headerSignature = "X-Hub-Signature-256"

var headersSecret = []string{"X-Fairlead-Token", "X-Gitlab-Token"}

// WebhookHandler answers POST /hooks/<source>: whoever knows the source's secret
// may call hint, which says that the repository is worth a look, and nothing
// else: what the body says is hashed as it comes and kept nowhere. secret is "" for
// a source that takes no webhooks. hint must not block; bounding how often the
// repository is asked is Pace.Gap's. Whoever serves it bounds the bodies, in size
// and in time, and how many come at once.
func WebhookHandler(secret func(source schema.SourceName) string, hint func(source schema.SourceName)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, hooksPrefix)
		source, valid := schema.ParseSourceName(name)
		if !ok || !valid {
			http.Error(w, "fairlead: not found; a source's webhook is /hooks/<source>", http.StatusNotFound)
			return
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			http.Error(w, "fairlead: a webhook is a POST", http.StatusMethodNotAllowed)
			return
		}
		err := prove(r, secret(source))
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &tooLong):
			http.Error(w, "fairlead: the body is too long", http.StatusRequestEntityTooLarge)
		case errors.Is(err, os.ErrDeadlineExceeded):
			http.Error(w, "fairlead: the body did not come in time", http.StatusRequestTimeout)
		case err != nil:
			// The same for a source that is not there: its name is no one's business.
			http.Error(w, "fairlead: "+err.Error(), http.StatusForbidden)
		default:
			hint(source)
			w.WriteHeader(http.StatusAccepted)
		}
	})
}

var errUnproven = errors.New("no such source, or the secret is wrong")

// prove checks that the sender knows the secret.
func prove(r *http.Request, secret string) error {
	if secret == "" {
		return errUnproven
	}
	if signature := r.Header.Get(headerSignature); signature != "" {
		return proveSigned(r.Body, signature, secret)
	}
	for _, name := range headersSecret {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get(name)), []byte(secret)) == 1 {
			return nil
		}
	}
	return errUnproven
}

func proveSigned(body io.Reader, signature, secret string) error {
	mac := hmac.New(sha256.New, []byte(secret))
	if _, err := io.Copy(mac, body); err != nil {
		return err
	}
	given, err := hex.DecodeString(strings.TrimPrefix(signature, "sha256="))
	if err != nil || !hmac.Equal(given, mac.Sum(nil)) {
		return errUnproven
	}
	return nil
}
