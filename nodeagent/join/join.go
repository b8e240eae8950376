// Package join answers how a machine becomes a node: with a join token it
// proves to be invited, checks by the token's pin that it speaks to the right
// cluster before it says the secret, and gets a certificate for its name, which
// it renews later. It keeps the agent's pki directory:
//
//	node.key  the node's private key, made once and never sent
//	node.crt  its certificate, replaced by renewals
//	ca.crt    the cluster's authority
//
// `fairlead agent` calls it before anything else, and renews now and then.
package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fairlead/schema"
	"fairlead/schema/wire"
)

const (
	// requestTimeout is the deadline of one request to the master.
	requestTimeout = 10 * time.Second
	// maxResponseBytes bounds what is read of an answer.
	maxResponseBytes = 64 << 10
)

// ErrRefused is wrapped when the master, or the check of its key, says no:
// trying again with the same token does not help. Every other error of Cluster
// and Renew is worth another try.
var ErrRefused = errors.New("refused")

// Cluster makes this machine the node of that name: afterwards dir holds a
// certificate that ClientTLS uses. server is the master's URL,
// https://host:port; nodeIP the address under which the cluster knows the node from
// then on. When dir holds a valid certificate for the node already nothing is asked
// and token may be empty.
func Cluster(ctx context.Context, server, token string, node schema.NodeName, nodeIP, dir string) error {
	if valid, err := joined(dir, node, time.Now()); err != nil || valid {
		return err
	}
	t, err := wire.ParseToken(strings.TrimSpace(token))
	if err != nil {
		return fmt.Errorf("join cluster: %w: %w", ErrRefused, err)
	}
	key, err := openKey(dir)
	if err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	csr, err := request(key, node)
	if err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	host, err := serverHost(server)
	if err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	var resp wire.JoinResponse
	req := wire.JoinRequest{Token: t.String(), Node: node, CSR: csr, NodeIPs: schema.List[string]{nodeIP}}
	if err := post(ctx, pinnedTLS(host, t.Pin), strings.TrimSuffix(server, "/")+wire.PathJoin, req, &resp); err != nil {
		return fmt.Errorf("join cluster at %s: %w", server, err)
	}
	if err := checkResponse(resp, t.Pin, key, node); err != nil {
		return fmt.Errorf("join cluster at %s: %w", server, err)
	}
	if err := store(dir, resp); err != nil {
		return fmt.Errorf("join cluster: %w", err)
	}
	return nil
}

// RenewDue tells whether the certificate in dir has less than a third of its
// life left: time to call Renew.
func RenewDue(dir string, now time.Time) (bool, error) {
	cert, err := readCertificate(dir)
	if err != nil {
		return false, err
	}
	return now.After(cert.NotAfter.Add(-cert.NotAfter.Sub(cert.NotBefore) / 3)), nil
}

// Renew asks for a fresh certificate over a connection that the present one
// authenticates. Connections made by ClientTLS use it from then on.
func Renew(ctx context.Context, server string, dir string) error {
	cert, err := readCertificate(dir)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	node := schema.NodeName(strings.TrimPrefix(cert.Subject.CommonName, wire.NodePrefix))
	ca, err := readCA(dir)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	key, err := openKey(dir)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	csr, err := request(key, node)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	config, err := ClientTLS(dir)
	if err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	var resp wire.JoinResponse
	if err := post(ctx, config, strings.TrimSuffix(server, "/")+wire.PathRenew, wire.RenewRequest{CSR: csr}, &resp); err != nil {
		return fmt.Errorf("renew certificate at %s: %w", server, err)
	}
	if err := checkResponse(resp, wire.Pin(ca), key, node); err != nil {
		return fmt.Errorf("renew certificate at %s: %w", server, err)
	}
	if err := store(dir, resp); err != nil {
		return fmt.Errorf("renew certificate: %w", err)
	}
	return nil
}

func request(key *ecdsa.PrivateKey, node schema.NodeName) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: wire.NodePrefix + string(node)},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func serverHost(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("server: %w", err)
	}
	if u.Scheme != "https" || u.Hostname() == "" {
		return "", fmt.Errorf("server %q: want https://host:port", server)
	}
	return u.Hostname(), nil
}

// pinnedTLS trusts whoever shows the pinned authority and a certificate of it
// for host. The standard check is off because no authority is known yet;
// VerifyConnection takes its place and runs on every handshake.
func pinnedTLS(host, pin string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         host,
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			pool := x509.NewCertPool()
			found := false
			for _, cert := range state.PeerCertificates {
				if wire.Pin(cert) == pin && cert.IsCA {
					pool.AddCert(cert)
					found = true
				}
			}
			if !found {
				return fmt.Errorf("%w: the server does not belong to the cluster the token is for", ErrRefused)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: host})
			return err
		},
	}
}

// post sends one request on a connection of its own.
func post(ctx context.Context, config *tls.Config, url string, body, into any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponseBytes))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return statusError(resp, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}

// statusError tells a refusal from trouble on the master's side.
func statusError(resp *http.Response, answer []byte) error {
	err := fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(answer))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// checkResponse believes nothing that does not follow from the pin.
func checkResponse(resp wire.JoinResponse, pin string, key *ecdsa.PrivateKey, node schema.NodeName) error {
	ca, err := parseCertificate(resp.CA)
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	if wire.Pin(ca) != pin {
		return fmt.Errorf("%w: the authority in the answer is not the pinned one", ErrRefused)
	}
	cert, err := parseCertificate(resp.Certificate)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if want := wire.NodePrefix + string(node); cert.Subject.CommonName != want || !key.PublicKey.Equal(cert.PublicKey) {
		return fmt.Errorf("the certificate is for %q, or for another key than this node's", cert.Subject.CommonName)
	}
	return nil
}
