package podman

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// registry answers as registries do, by the name of what is asked for.
type registry struct {
	user, password string // "" lets everybody in
	blobs          map[string][]byte
	manifests      map[string][]byte // by repository
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	fail := func(status int, code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, strings.ToLower(strings.ReplaceAll(code, "_", " ")))
	}
	if user, password, _ := q.BasicAuth(); r.user != "" && (user != r.user || password != r.password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		fail(http.StatusUnauthorized, "UNAUTHORIZED")
		return
	}
	parts := strings.Split(strings.TrimPrefix(q.URL.Path, "/v2/"), "/")
	if len(parts) < 3 {
		w.WriteHeader(http.StatusOK)
		return
	}
	switch parts[0] {
	case "manifest-unknown":
		fail(http.StatusNotFound, "MANIFEST_UNKNOWN")
	case "name-unknown":
		fail(http.StatusNotFound, "NAME_UNKNOWN")
	case "not-found":
		http.NotFound(w, q)
	case "name-invalid":
		fail(http.StatusBadRequest, "NAME_INVALID")
	case "tag-invalid":
		fail(http.StatusBadRequest, "TAG_INVALID")
	case "unauthorized":
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		fail(http.StatusUnauthorized, "UNAUTHORIZED")
	case "denied":
		fail(http.StatusForbidden, "DENIED")
	case "forbidden":
		http.Error(w, "<html>no</html>", http.StatusForbidden)
	case "busy":
		fail(http.StatusTooManyRequests, "TOOMANYREQUESTS")
	case "broken":
		fail(http.StatusInternalServerError, "UNKNOWN")
	case "gateway":
		http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway)
	case "unavailable":
		http.Error(w, "unavailable", http.StatusServiceUnavailable)
	case "hangs":
		<-q.Context().Done()
	case "hangs-up":
		panic(http.ErrAbortHandler)
	case "garbage":
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		fmt.Fprint(w, "not json")
	default:
		r.serve(w, q, parts, fail)
	}
}

func (r *registry) serve(w http.ResponseWriter, q *http.Request, parts []string, fail func(int, string)) {
	name, kind, what := parts[0], parts[len(parts)-2], parts[len(parts)-1]
	body, ok := r.manifests[name]
	if kind == "blobs" {
		body, ok = r.blobs[what]
	}
	if strings.HasPrefix(what, "sha256:") && kind == "manifests" {
		for _, m := range r.manifests {
			if digest(m) == what {
				body, ok = m, true
			}
		}
	}
	if !ok {
		fail(http.StatusNotFound, strings.ToUpper(strings.TrimSuffix(kind, "s"))+"_UNKNOWN")
		return
	}
	if kind == "manifests" {
		var m struct{ MediaType string }
		_ = json.Unmarshal(body, &m)
		w.Header().Set("Content-Type", m.MediaType)
		w.Header().Set("Docker-Content-Digest", digest(body))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	w.Write(body)
}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// add puts an image for an architecture under a name.
func (r *registry) add(name, arch string, layer []byte) {
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{"Entrypoint":["/program"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`, arch, digest(layer))
	r.blobs[digest(config)], r.blobs[digest(layer)] = config, layer
	r.manifests[name] = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		digest(config), len(config), digest(layer), len(layer))
}

func (r *registry) list(name, of, arch string) {
	m := r.manifests[of]
	r.manifests[name] = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"platform":{"architecture":%q,"os":"linux"}}]}`, digest(m), len(m), arch)
}

// What Podman says of real answers of registries tells whose fault a pull is.
func TestWhoseFaultAPullIs(t *testing.T) {
	layer := make([]byte, 1024) // an empty archive
	open := &registry{blobs: map[string][]byte{}, manifests: map[string][]byte{}}
	open.add("good", runtime.GOARCH, layer)
	open.add("other", "s390x", layer)
	open.list("other-list", "other", "s390x")
	open.add("no-blob", runtime.GOARCH, []byte("x"))
	delete(open.blobs, digest([]byte("x")))
	at := serve(t, httptest.NewServer(open))
	private := serve(t, httptest.NewServer(&registry{user: "u", password: "p", blobs: open.blobs, manifests: open.manifests}))
	plain := serve(t, httptest.NewServer(open)) // not allowed to speak no TLS
	untrusted := serve(t, httptest.NewTLSServer(open))
	dir := t.TempDir()
	p := service(t, "registries", func(c *Config) {
		c.AuthFile, c.RegistriesConf = filepath.Join(dir, "auth.json"), filepath.Join(dir, "registries.conf")
		write(t, c.RegistriesConf, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n[[registry]]\nlocation = %q\ninsecure = true\n", at, private))
	})
	t.Run("answers", func(t *testing.T) {
		var pulls sync.WaitGroup
		for ref, want := range map[string]error{
			at + "/good/x:1":                    nil,
			at + "/manifest-unknown/x:1":        nodeagent.ErrNoImage,
			at + "/absent/denied:1":             nodeagent.ErrNoImage,
			at + "/good/x@" + digest(nil):       nodeagent.ErrNoImage,
			at + "/name-unknown/x:1":            nodeagent.ErrNoImage,
			at + "/not-found/x:1":               nodeagent.ErrNoImage,
			at + "/name-invalid/x:1":            nodeagent.ErrNoImage,
			at + "/tag-invalid/x:1":             nodeagent.ErrNoImage,
			at + "/other-list/x:1":              nodeagent.ErrNoImage,
			at + "/unauthorized/x:1":            nodeagent.ErrDenied,
			at + "/denied/x:1":                  nodeagent.ErrDenied,
			at + "/forbidden/x:1":               nodeagent.ErrDenied,
			private + "/good/x:1":               nodeagent.ErrDenied,
			at + "/broken/manifest-unknown:1":   nodeagent.ErrNoRegistry,
			at + "/gateway/x:1":                 nodeagent.ErrNoRegistry,
			at + "/unavailable/x:1":             nodeagent.ErrNoRegistry,
			at + "/hangs-up/x:1":                nodeagent.ErrNoRegistry,
			at + "/garbage/x:1":                 nodeagent.ErrNoRegistry,
			at + "/no-blob/x:1":                 nodeagent.ErrNoRegistry,
			plain + "/good/x:1":                 nodeagent.ErrNoRegistry,
			untrusted + "/good/x:1":             nodeagent.ErrNoRegistry,
			"127.0.0.1:1/x:1":                   nodeagent.ErrNoRegistry,
			"localhost:1/x:1":                   nodeagent.ErrNoRegistry,
			"registry.invalid/unauthorized/x:1": nodeagent.ErrNoRegistry,
		} {
			pulls.Go(func() { // side by side, for Podman asks three times where nobody answers
				_, err := p.Pull(t.Context(), ref, pod.Credential{})
				expect(t, err, want)
			})
		}
		pulls.Wait()
	})
	t.Run("no answer", func(t *testing.T) {
		defer func() { p.answerWait = 0 }()
		p.answerWait = time.Second
		for _, ref := range []string{at + "/hangs/x:1", at + "/busy/x:1"} {
			_, err := p.Pull(t.Context(), ref, pod.Credential{})
			expect(t, err, nodeagent.ErrNoRegistry)
		}
	})
	t.Run("credentials are read at each pull", func(t *testing.T) {
		auth := func(user, password string) {
			write(t, filepath.Join(dir, "auth.json"), fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, private, base64.StdEncoding.EncodeToString([]byte(user+":"+password))))
		}
		auth("u", "wrong")
		_, err := p.Pull(t.Context(), private+"/good/x:2", pod.Credential{})
		expect(t, err, nodeagent.ErrDenied)
		auth("u", "p")
		_, err = p.Pull(t.Context(), private+"/good/x:2", pod.Credential{})
		expect(t, err, nil)
	})
	t.Run("credentials of the pod come before the node's", func(t *testing.T) {
		_, err := p.Pull(t.Context(), private+"/good/x:3", pod.Credential{User: "u", Password: "wrong"})
		expect(t, err, nodeagent.ErrDenied)
		write(t, filepath.Join(dir, "auth.json"), "{}")
		_, err = p.Pull(t.Context(), private+"/good/x:3", pod.Credential{User: "u", Password: "p"})
		expect(t, err, nil)
	})
	t.Run("a node that cannot keep it", func(t *testing.T) {
		err := p.judgePull(call{t.Context(), t.Context(), new(fate)}, at+"/good/x:1", pod.Credential{}, errors.New("writing blob: storing blob to file \"/var/tmp/x/1\": write /var/tmp/x/1: no space left on device"))
		expect(t, err, nodeagent.ErrNode)
	})
	t.Run("a service that goes", func(t *testing.T) {
		c := call{t.Context(), t.Context(), new(fate)}
		c.fate.gone.Store(true)
		expect(t, p.judgePull(c, at+"/good/x:1", pod.Credential{}, errors.New("dial unix /run/podman.sock: connect: connection refused")), nodeagent.ErrUnavailable)
	})
}

func serve(t *testing.T, s *httptest.Server) (host string) {
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(strings.TrimPrefix(s.URL, "http://"), "https://")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, err, want error) {
	t.Helper()
	if want == nil && err != nil {
		t.Error(err)
	}
	for _, known := range []error{nodeagent.ErrNoImage, nodeagent.ErrDenied, nodeagent.ErrNoRegistry, nodeagent.ErrNode, nodeagent.ErrUnavailable} {
		if errors.Is(err, known) != (known == want) {
			t.Errorf("%v\nis %q: %v", err, known, errors.Is(err, known))
		}
	}
}
