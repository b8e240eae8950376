package client

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// A kubeconfig is refused with its file's name, or names a server.
func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte("current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\nclusters: [{name: c, cluster: {server: 'https://master:6443/', certificate-authority-data: eA==}}]\nusers: [{name: u, user: {client-certificate-data: eA==, client-key-data: eA==}}]\n"))
	f.Add([]byte("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: x, certificate-authority-data: '#'}}]\n"))
	f.Add([]byte("contexts: [{}]\nclusters: [{}]\nusers: [{}]\n"))
	f.Add([]byte("contexts: null\n"))
	f.Add([]byte("\t"))
	path := filepath.Join(f.TempDir(), "kubeconfig")
	f.Fuzz(func(t *testing.T, data []byte) {
		var k kubeconfig
		if yaml.Unmarshal(data, &k) == nil && namesFiles(k) {
			return // whatever this machine has at such a path
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(path)
		switch {
		case err == nil && c.Server == "":
			t.Error("a client of nobody")
		case err != nil && !strings.Contains(err.Error(), path):
			t.Errorf("%v does not name %s", err, path)
		}
	})
}

func namesFiles(k kubeconfig) bool {
	for _, c := range k.Clusters {
		if c.Cluster.CA != "" {
			return true
		}
	}
	for _, u := range k.Users {
		if u.User.Cert != "" || u.User.Key != "" {
			return true
		}
	}
	return false
}

// An answer that is no success is an error in a few words.
func FuzzStatus(f *testing.F) {
	f.Add(404, []byte(`{"kind":"Status","message":"pods \"x\" not found"}`))
	f.Add(500, []byte(`<html>`))
	f.Add(502, []byte(nil))
	f.Fuzz(func(t *testing.T, code int, data []byte) {
		err := statusError(code, data)
		if err == nil || err.Error() == "" {
			t.Error("no word")
		}
		if !json.Valid(data) && len(err.Error()) > 600 {
			t.Errorf("%d bytes", len(err.Error()))
		}
	})
}
