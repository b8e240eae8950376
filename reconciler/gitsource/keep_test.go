package gitsource

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fairlead/reconciler/follow"
	"fairlead/schema"
)

// looks runs Keep for a while in virtual time and tells when it looked.
func looks(t *testing.T, p follow.Pace, during time.Duration, look func(n int) error) []time.Duration {
	t.Helper()
	var at []time.Duration
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), during)
		defer cancel()
		Keep(ctx, p, nil, func(context.Context) error {
			at = append(at, time.Since(start))
			return look(len(at))
		})
	})
	return at
}

func TestKeep(t *testing.T) {
	well := func(int) error { return nil }
	if got := looks(t, follow.Pace{Source: "s", Interval: 30 * time.Second}, 95*time.Second, well); len(got) != 4 || got[3] != 90*time.Second {
		t.Errorf("looked at %v", got)
	}
	standing := func(int) error { return &follow.Problem{Reason: follow.Rewound} }
	if got := looks(t, follow.Pace{Source: "s", Interval: 30 * time.Second}, 95*time.Second, standing); len(got) != 4 {
		t.Errorf("in standing trouble looked at %v", got)
	}
	// Twice down, then well.
	down := func(n int) error {
		if n == 2 || n == 3 {
			return errors.New("down")
		}
		return nil
	}
	pace := follow.Pace{Source: "s", Interval: 30 * time.Second}
	got := looks(t, pace, 100*time.Second, down)
	want := []time.Duration{0}
	for n, wait := 1, time.Duration(0); n < 6; n++ {
		pace, wait = pace.After(down(n))
		want = append(want, want[n-1]+wait)
	}
	if !slices.Equal(got, want) || want[2]-want[1] > 2*time.Second {
		t.Errorf("looked at %v, want %v", got, want)
	}
}

func TestKeepTakesHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hints := make(chan struct{}, 1)
		var count atomic.Int32
		var last atomic.Int64 // since start
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Keep(ctx, follow.Pace{Source: "s", Interval: time.Hour, Gap: time.Second}, hints, func(context.Context) error {
				count.Add(1)
				last.Store(int64(time.Since(start)))
				return errors.New("down")
			})
		}()
		time.Sleep(100 * time.Millisecond)
		// A storm: one more look, once the gap is over.
		for range 100 {
			select {
			case hints <- struct{}{}:
			default:
			}
		}
		time.Sleep(650 * time.Millisecond)
		synctest.Wait()
		if n := count.Load(); n != 1 {
			t.Errorf("within the gap looked %d times", n)
		}
		time.Sleep(300 * time.Millisecond)
		synctest.Wait()
		if n, at := count.Load(), time.Duration(last.Load()); n != 2 || at != time.Second {
			t.Errorf("after the gap looked %d times, last at %v", n, at)
		}
		cancel()
		<-done
	})
}

// maxTestBody is what the door that the test stands for takes of a body.
const maxTestBody = 1 << 10

func TestWebhookHandler(t *testing.T) {
	var hinted []schema.SourceName
	handler := WebhookHandler(func(source schema.SourceName) string {
		if source == "shop" {
			return "sesame"
		}
		return ""
	}, func(source schema.SourceName) { hinted = append(hinted, source) })
	body := []byte(`{"ref": "refs/heads/main"}`)
	sign := func(secret string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		return "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	for _, c := range []struct {
		name, method, path, header, value string
		body                              []byte
		code                              int
	}{
		{"generic", "POST", "/hooks/shop", "X-Fairlead-Token", "sesame", nil, 202},
		{"gitlab", "POST", "/hooks/shop", "X-Gitlab-Token", "sesame", body, 202},
		{"github", "POST", "/hooks/shop", "X-Hub-Signature-256", sign("sesame"), body, 202},
		{"github, wrong secret", "POST", "/hooks/shop", "X-Hub-Signature-256", sign("guess"), body, 403},
		{"github, other body", "POST", "/hooks/shop", "X-Hub-Signature-256", sign("sesame"), []byte("{}"), 403},
		{"github, no hex", "POST", "/hooks/shop", "X-Hub-Signature-256", "sha256=x", body, 403},
		{"github, more than the door takes", "POST", "/hooks/shop", "X-Hub-Signature-256", sign("sesame"), make([]byte, maxTestBody+1), 413},
		{"wrong secret", "POST", "/hooks/shop", "X-Fairlead-Token", "guess", body, 403},
		{"no secret", "POST", "/hooks/shop", "X-Other", "", body, 403},
		{"source without", "POST", "/hooks/main", "X-Fairlead-Token", "", body, 403},
		{"source without, signed by nothing", "POST", "/hooks/main", "X-Hub-Signature-256", sign(""), body, 403},
		{"read", "GET", "/hooks/shop", "X-Fairlead-Token", "sesame", nil, 405},
		{"no source", "POST", "/hooks/", "X-Fairlead-Token", "sesame", nil, 404},
		{"a path", "POST", "/hooks/shop/x", "X-Fairlead-Token", "sesame", nil, 404},
	} {
		hinted = nil
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.MaxBytesReader(nil, io.NopCloser(bytes.NewReader(c.body)), maxTestBody))
		r.Header.Set(c.header, c.value)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != c.code || (len(hinted) == 1) != (c.code == http.StatusAccepted) {
			t.Errorf("%s: %d %q, hinted %v, want %d", c.name, w.Code, w.Body, hinted, c.code)
		}
	}
}
