package gitsource

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"fairlead/reconciler/follow"
	"fairlead/schema"
)

// credentialsFile writes a credentials' file that only its owner reads.
func credentialsFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "credentials.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func indented(text string) string {
	return "|\n  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
}

// https serves the repositories below root by git http-backend over TLS on
// loopback, to ada with the password sesame; around may change what is sent.
func https(t testing.TB, root string, around func(http.Handler) http.Handler) (url, ca string) {
	t.Helper()
	program, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	var backend http.Handler = &cgi.Handler{
		Path: program, Args: []string{"http-backend"}, Stderr: io.Discard,
		Env: append(isolated(), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=ada"),
	}
	if around != nil {
		backend = around(backend)
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user+":"+password != "ada:sesame" && user+":"+password != "git:token" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		r.TransferEncoding = nil
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func TestUpstreamOverHTTPS(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	first := w.commit("first")
	dir := w.bare()
	url, ca := https(t, filepath.Dir(dir), nil)
	repo := url + "/bare.git"
	known := "url: " + url + "/\nca: " + indented(ca)
	u := followed(t, repo, credentialsFile(t, known+"username: ada\npassword: sesame\n"))
	at(t, u, first)
	second := w.commit("second")
	w.git("push", "--quiet", dir, "main")
	at(t, u, second)
	at(t, followed(t, repo, credentialsFile(t, known+"token: token\n")), second)

	troubled(t, followed(t, repo, credentialsFile(t, known+"username: ada\npassword: guess\n")), follow.Unauthorized, "Authentication failed")
	troubled(t, followed(t, repo, credentialsFile(t, known)), follow.Unauthorized, "could not read Username")
	troubled(t, followed(t, repo, ""), follow.Unauthorized, "certificate")
	troubled(t, followed(t, url+"/none.git", credentialsFile(t, known+"token: token\n")), follow.Unreachable, "not found")
	troubled(t, followed(t, repo, credentialsFile(t, "url: https://elsewhere.example.org\ntoken: token\n")), follow.BadCredentials, "are for https://elsewhere.example.org")
	troubled(t, followed(t, repo, filepath.Join(t.TempDir(), "none")), follow.BadCredentials, "there is no file")
	open := credentialsFile(t, known+"token: token\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	troubled(t, followed(t, repo, open), follow.BadCredentials, "chmod 600")
	troubled(t, followed(t, repo, credentialsFile(t, known+"tokn: x\n")), follow.BadCredentials, "is not YAML of the form")
}

// A connection that breaks amid a pack is no shorter history.
func TestUpstreamTruncatedOnTheWire(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	first := w.commit("first")
	dir := w.bare()
	w.git("remote", "add", "origin", dir)
	var cut atomic.Bool
	url, ca := https(t, filepath.Dir(dir), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if cut.Load() && strings.HasSuffix(r.URL.Path, "git-upload-pack") {
				w = &cutWriter{ResponseWriter: w, left: 2000}
			}
			next.ServeHTTP(w, r)
		})
	})
	u := followed(t, url+"/bare.git", credentialsFile(t, "url: "+url+"\ntoken: token\nca: "+indented(ca)))
	at(t, u, first)
	w.next("large")
	cut.Store(true)
	troubled(t, u, follow.BadRepository, "")
	kept(t, u, first)
	cut.Store(false)
	at(t, u, schema.Commit(w.git("rev-parse", "HEAD")))
}

// cutWriter ends an answer after so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// A host that sends us elsewhere does not get our credentials sent there.
func TestUpstreamKeepsItsCredentials(t *testing.T) {
	var leaked atomic.Bool
	thief := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
	}))
	defer thief.Close()
	url, ca := https(t, t.TempDir(), func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, thief.URL+r.URL.String(), http.StatusFound)
		})
	})
	troubled(t, followed(t, url+"/x.git", credentialsFile(t, "url: "+url+"\ntoken: token\nca: "+indented(ca))), follow.Unauthorized, "")
	if leaked.Load() {
		t.Error("the credentials went to another host")
	}
}

// sshServer lets whoever has key run git-upload-pack on loopback.
func sshServer(t testing.TB, key ssh.PublicKey) (address string, host ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, given ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "git" || string(given.Marshal()) != string(key.Marshal()) {
			return nil, fmt.Errorf("not you")
		}
		return nil, nil
	}}
	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { serveSSH(conn, config) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String(), signer.PublicKey()
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	defer server.Close()
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			var command struct{ Text string }
			if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil || !strings.HasPrefix(command.Text, "git-upload-pack '") {
				r.Reply(r.Type == "env", nil)
				continue
			}
			r.Reply(true, nil)
			cmd := exec.Command("git-upload-pack", strings.Trim(strings.TrimPrefix(command.Text, "git-upload-pack "), "'"))
			cmd.Env, cmd.Stdin, cmd.Stdout = isolated(), channel, channel
			status := struct{ Code uint32 }{}
			if cmd.Run() != nil {
				status.Code = 1
			}
			channel.SendRequest("exit-status", false, ssh.Marshal(status))
			channel.Close()
		}
	}
}

func newKey(t testing.TB) (private string, public ssh.PublicKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	public, err = ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), public
}

func TestUpstreamOverSSH(t *testing.T) {
	w := newWork(t)
	w.write("a.yaml", "a: 1\n")
	first := w.commit("first")
	dir := w.bare()
	private, public := newKey(t)
	address, host := sshServer(t, public)
	url := "ssh://git@" + address + dir
	known := "url: ssh://" + address + "\nknownHosts: " + indented(knownhosts.Line([]string{address}, host))
	u := followed(t, url, credentialsFile(t, known+"privateKey: "+indented(private)))
	at(t, u, first)
	second := w.commit("second")
	w.git("push", "--quiet", dir, "main")
	at(t, u, second)
	if _, err := os.Stat(filepath.Join(u.own, fileKey)); !os.IsNotExist(err) {
		t.Errorf("the private key lies around: %v", err)
	}

	troubled(t, followed(t, url, ""), follow.BadCredentials, "needs auth.secretFile")
	troubled(t, followed(t, url, credentialsFile(t, known)), follow.BadCredentials, "ssh needs privateKey and knownHosts")
	stranger, strange := newKey(t)
	troubled(t, followed(t, url, credentialsFile(t, known+"privateKey: "+indented(stranger))), follow.Unauthorized, "Permission denied")
	impostor := "url: ssh://" + address + "\nknownHosts: " + indented(knownhosts.Line([]string{address}, strange))
	troubled(t, followed(t, url, credentialsFile(t, impostor+"privateKey: "+indented(private))), follow.Unauthorized, "Host key verification failed")
}
