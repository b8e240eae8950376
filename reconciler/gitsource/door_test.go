package gitsource

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead/reconciler/gitsource/hook"
	"fairlead/schema"
	"fairlead/schema/chance"
)

// door serves m's remote on loopback to the pusher grace.
func door(m *master) string {
	handler := HTTPHandler(m.root, &m.programs, func(token string, source schema.SourceName) (Pusher, bool) {
		switch {
		case source == "main" && token == "sesame":
			return Pusher{Name: "grace"}, true
		case source == "main" && token == "topics":
			return Pusher{Name: "linus", Refs: []string{"refs/heads/topic", "refs/heads/other"}}, true
		}
		return Pusher{}, false
	})
	server := httptest.NewServer(handler)
	m.t.Cleanup(server.Close)
	return strings.Replace(server.URL, "http://", "http://git:%s@", 1) + "/git/main"
}

func TestPushOverHTTP(t *testing.T) {
	m := newMaster(t)
	m.git("remote", "set-url", "origin", fmt.Sprintf(door(m), "sesame"))
	m.write("a.yaml", "a: 1\n")
	first := m.commit("first")
	m.judge.set(func(_ context.Context, p Push, out io.Writer) error {
		if n := m.programs.working(); n > 0 {
			fmt.Fprintf(out, "%d gits are still counted\n", n)
		}
		fmt.Fprintf(out, "%s by %s, %d files\n", p.Phase, p.Pusher, len(tree(t, p.Repo, p.Tip(), ".").Files))
		if p.Tip() != first && p.Phase == hook.Pre {
			return fmt.Errorf("refused")
		}
		return nil
	})
	out, ok := m.push("-o", "wait", "main")
	if want := "pre-receive by grace, 1 files\npost-receive by grace, 1 files"; !ok || out != want || m.tip() != first {
		t.Errorf("%v, %q, want %q", ok, out, want)
	}
	// Larger than git posts with a length: the body is chunked.
	m.write("noise", string(chance.Bytes(2<<20, 0)))
	m.commit("large")
	if out, ok := m.push("main"); ok || out != "pre-receive by grace, 2 files\nfairlead: refused" || m.tip() != first {
		t.Errorf("%v at %s, %q", ok, m.tip(), out)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	m.in("", "clone", "--quiet", m.git("remote", "get-url", "origin"), clone)
	if data, err := os.ReadFile(filepath.Join(clone, "a.yaml")); err != nil || string(data) != "a: 1\n" {
		t.Errorf("a.yaml of a clone = %q, %v", data, err)
	}
}

func TestDoorRefusesStrangers(t *testing.T) {
	m := newMaster(t)
	url := door(m)
	m.commit("first")
	for _, command := range [][]string{{"push", fmt.Sprintf(url, "guess"), "main"}, {"ls-remote", fmt.Sprintf(url, "guess")}} {
		if out, err := m.run(m.dir, command...); err == nil || !strings.Contains(out, "Authentication failed") {
			t.Errorf("git %v: %v, %s", command, err, out)
		}
	}
	if m.tip() != "" {
		t.Error("a stranger pushed")
	}
}

func TestDoorHoldsPushersToTheirRefs(t *testing.T) {
	m := newMaster(t)
	m.commit("first")
	m.git("remote", "set-url", "origin", fmt.Sprintf(door(m), "topics"))
	if out, ok := m.push("main", "main:topic"); ok || !strings.Contains(out, "linus may push refs/heads/topic, refs/heads/other only, not refs/heads/main") || m.tip() != "" {
		t.Errorf("%v, %q at %s", ok, out, m.tip())
	}
	if out, ok := m.push("main:topic"); !ok {
		t.Errorf("the allowed ref: %s", out)
	}
}

func TestDoorAnswers(t *testing.T) {
	m := newMaster(t)
	handler := HTTPHandler(m.root, nil, func(token string, _ schema.SourceName) (Pusher, bool) { return Pusher{Name: "x"}, token == "x" })
	for _, c := range []struct {
		method, path string
		known        bool
		code         int
		says         string
	}{
		{"GET", "/git/main/info/refs?service=git-upload-pack", true, 200, "service=git-upload-pack"},
		{"GET", "/git/main.git/info/refs?service=git-receive-pack", true, 200, "push-options"},
		{"GET", "/git/main/info/refs?service=git-receive-pack", false, 401, "pusher's token"},
		{"GET", "/git/main", true, 405, "not for browsers"},
		{"GET", "/git/main/HEAD", true, 405, "not for browsers"},
		{"GET", "/git/main/git-receive-pack", true, 405, "not for browsers"},
		{"GET", "/git/other/info/refs?service=git-upload-pack", true, 404, "no source other"},
		{"GET", "/git/..%2fmain/info/refs", true, 404, "/git/<source>"},
		{"GET", "/git/", true, 404, "/git/<source>"},
	} {
		request := httptest.NewRequestWithContext(t.Context(), c.method, c.path, nil)
		if c.known {
			request.Header.Set("Authorization", "Bearer x")
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != c.code || !strings.Contains(answer.Body.String(), c.says) {
			t.Errorf("%s %s = %d %q, want %d with %q", c.method, c.path, answer.Code, answer.Body, c.code, c.says)
		}
		if challenge := answer.Header().Get("WWW-Authenticate"); (challenge != "") != (c.code == 401) {
			t.Errorf("%s %s asks for %q", c.method, c.path, challenge)
		}
	}
}

// untimed fails when a handler gives its client a time.
type untimed struct {
	*httptest.ResponseRecorder
	t *testing.T
}

func (u untimed) SetReadDeadline(time.Time) error {
	u.t.Error("the handler sets a time for reading")
	return nil
}

func (u untimed) SetWriteDeadline(time.Time) error {
	u.t.Error("the handler sets a time for writing")
	return nil
}

// The time of a request is its server's: a second one would undo it.
func TestDoorLeavesTimesToItsServer(t *testing.T) {
	m := newMaster(t)
	m.write("a.yaml", "a: 1\n")
	m.commit("first")
	m.push("main")
	handler := HTTPHandler(m.root, nil, func(string, schema.SourceName) (Pusher, bool) { return Pusher{Name: "grace"}, true })
	refs := untimed{httptest.NewRecorder(), t}
	handler.ServeHTTP(refs, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/git/main/info/refs?service=git-upload-pack", nil))
	if refs.Code != http.StatusOK || !strings.Contains(refs.Body.String(), "refs/heads/main") {
		t.Errorf("refs: %d %s", refs.Code, refs.Body)
	}
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/git/main/git-upload-pack", strings.NewReader("0000"))
	request.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	fetch := untimed{httptest.NewRecorder(), t}
	handler.ServeHTTP(fetch, request)
	if fetch.Code != http.StatusOK {
		t.Errorf("fetch: %d %s", fetch.Code, fetch.Body)
	}
}
