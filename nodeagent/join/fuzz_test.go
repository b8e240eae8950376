package join

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"fairlead/schema/wire"
)

// No answer is believed that does not follow from the pin; no answer makes the
// node stumble.
func FuzzJoinAnswer(f *testing.F) {
	key, err := makeKey(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	csr, err := request(key, "n1")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"certificate":"AAAA","ca":"AAAA"}`), http.StatusOK)
	f.Add([]byte(`{"ca":null}`), http.StatusForbidden)
	asCertificate, err := json.Marshal(wire.JoinResponse{CA: []byte(strings.ReplaceAll(string(csr), "CERTIFICATE REQUEST", "CERTIFICATE")), Certificate: csr})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(asCertificate, http.StatusOK)
	f.Fuzz(func(t *testing.T, answer []byte, code int) {
		if err := statusError(&http.Response{StatusCode: code, Status: "x"}, answer); err == nil || err.Error() == "" {
			t.Error("no error")
		}
		var resp wire.JoinResponse
		if json.Unmarshal(answer, &resp) != nil {
			return
		}
		if err := checkResponse(resp, strings.Repeat("0", 64), key, "n1"); err == nil {
			t.Errorf("believed: %s", answer)
		}
	})
}

// A server is named by https and a host, or refused.
func FuzzServer(f *testing.F) {
	f.Add("https://master:6443")
	f.Add("https://[fe80::1%25eth0]:6443/x?y")
	f.Add("http://master")
	f.Add("https://:6443")
	f.Fuzz(func(t *testing.T, server string) {
		host, err := serverHost(server)
		if err == nil && (host == "" || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(server)), "https:")) {
			t.Errorf("%q has host %q", server, host)
		}
	})
}
