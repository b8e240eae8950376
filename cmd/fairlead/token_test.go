package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"fairlead/nodeagent/join"
	"fairlead/reconciler/trust"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// door is a master's port reduced to who is let in.
func door(t *testing.T, a *trust.Authority) (url string) {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, resp wire.JoinResponse, err error) {
		switch {
		case errors.Is(err, trust.ErrJoinRefused):
			http.Error(w, err.Error(), http.StatusForbidden)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			_ = json.NewEncoder(w).Encode(resp)
		}
	}
	mux.HandleFunc("POST "+wire.PathJoin, func(w http.ResponseWriter, r *http.Request) {
		var req wire.JoinRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		resp, err := a.Join(req)
		answer(w, resp, err)
	})
	mux.HandleFunc("POST "+wire.PathRenew, func(w http.ResponseWriter, r *http.Request) {
		var req wire.RenewRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		_, node := trust.Identity(r.TLS)
		resp, err := a.Renew(schema.NodeName(node), req)
		answer(w, resp, err)
	})
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) {
		kind, name := trust.Identity(r.TLS)
		_, _ = w.Write([]byte(string(kind) + " " + name))
	})
	s := httptest.NewUnstartedServer(mux)
	s.Listener = tls.NewListener(s.Listener, a.ServerTLS())
	s.Start()
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http:", "https:", 1)
}

func who(t *testing.T, server string, config *tls.Config) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	resp, err := client.Get(server + "/who")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// fairlead runs a command line in this process and returns what it prints.
func fairlead(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := root(&out, io.Discard)
	cmd.SetArgs(args)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("fairlead %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

func newAuthority(t *testing.T) (dir string, a *trust.Authority) {
	t.Helper()
	dir = t.TempDir()
	a, err := trust.Open(filepath.Join(dir, "pki"), trust.Config{
		Advertise: []string{"10.1.2.3:7443"}, PodCIDR: netip.MustParsePrefix("10.112.0.0/12"), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir, a
}

// A machine joins with the token that the command line printed, is recognised
// as its node, and renews its certificate.
func TestTokenToNode(t *testing.T) {
	dir, a := newAuthority(t)
	server := door(t, a)
	token := fairlead(t, "token", "--dir", dir, "--uses", "1")

	pki := filepath.Join(t.TempDir(), "pki")
	if err := join.Cluster(t.Context(), server, token, "n1", "192.0.2.1", pki); err != nil {
		t.Fatal(err)
	}
	config, err := join.ClientTLS(pki)
	if err != nil {
		t.Fatal(err)
	}
	if got := who(t, server, config); got != "node n1" {
		t.Errorf("the node is taken for %q", got)
	}
	if _, ok := a.Node("n1"); !ok {
		t.Error("the node is not registered")
	}
	if err := join.Renew(t.Context(), server, pki); err != nil {
		t.Fatal(err)
	}
	if got := who(t, server, config); got != "node n1" {
		t.Errorf("after renewal the node is taken for %q", got)
	}

	err = join.Cluster(t.Context(), server, token, "n2", "192.0.2.2", t.TempDir())
	if !errors.Is(err, join.ErrRefused) || !strings.Contains(err.Error(), "used up") {
		t.Errorf("a second node: got %v, want a refusal", err)
	}
	err = join.Cluster(t.Context(), server, fairlead(t, "token", "--dir", dir), "n1", "192.0.2.1", t.TempDir())
	if !errors.Is(err, join.ErrRefused) || !strings.Contains(err.Error(), "fairlead token --node n1") {
		t.Errorf("another machine of the same name: got %v, want a refusal with a way out", err)
	}
	if err := join.Cluster(t.Context(), server, fairlead(t, "token", "--dir", dir, "--node", "n1"), "n1", "192.0.2.1", t.TempDir()); err != nil {
		t.Errorf("that way: %v", err)
	}
}

// A reader is recognised with the kubeconfig that the command line printed.
func TestKubeconfigToReader(t *testing.T) {
	dir, a := newAuthority(t)
	server := door(t, a)
	var c struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Certificate []byte `json:"client-certificate-data"`
				Key         []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := yaml.Unmarshal([]byte(fairlead(t, "kubeconfig", "--dir", dir, "--server", server, "--reader", "alice")), &c); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(c.Users[0].User.Certificate, c.Users[0].User.Key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}
	if !config.RootCAs.AppendCertsFromPEM(c.Clusters[0].Cluster.CA) {
		t.Fatal("no authority in the kubeconfig")
	}
	if got := who(t, c.Clusters[0].Cluster.Server, config); got != "reader alice" {
		t.Errorf("the reader is taken for %q", got)
	}
}

// Without --server the kubeconfig points where the configuration says.
func TestKubeconfigServer(t *testing.T) {
	dir, _ := newAuthority(t)
	for config, want := range map[string]string{
		"":                       "server: https://127.0.0.1:6443\n",
		"listen: 0.0.0.0:7443\n": "server: https://127.0.0.1:7443\n",
		"listen: 0.0.0.0:7443\nadvertise: 10.1.2.3:7443\n": "server: https://10.1.2.3:7443\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := fairlead(t, "kubeconfig", "--dir", dir); !strings.Contains(got, want) {
			t.Errorf("with %q: %q is not in\n%s", config, want, got)
		}
	}
}
