// Package client is how Fairlead's own commands read a cluster: it finds the
// kubeconfig and speaks the status API. It writes nothing; nothing can.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairlead/schema"
)

// DialTimeout bounds how long the master may take to begin an answer.
const DialTimeout = 30 * time.Second

// maxAnswer bounds what is read of one answer.
const maxAnswer = 512 << 20

// Client reads one cluster.
type Client struct {
	Server string
	http   *http.Client
}

// CurrentPath is where `up` leaves the kubeconfig of the cluster it made last.
func CurrentPath() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".config", "fairlead", "current"), nil
}

// Find returns the kubeconfig to use: the given one, $KUBECONFIG, or the
// cluster that `up` made last.
func Find(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if env := os.Getenv("KUBECONFIG"); env != "" {
		return env, nil
	}
	path, err := CurrentPath()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", errors.New("no cluster to talk to: give --kubeconfig, set KUBECONFIG, or start one with `fairlead up`")
	}
	return path, nil
}

// kubeconfig is the part of a kubeconfig that is read.
type kubeconfig struct {
	CurrentContext string `json:"current-context"`
	Contexts       []struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	} `json:"contexts"`
	Clusters []struct {
		Name    string `json:"name"`
		Cluster struct {
			Server string `json:"server"`
			CAData string `json:"certificate-authority-data"`
			CA     string `json:"certificate-authority"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		Name string `json:"name"`
		User struct {
			CertData string `json:"client-certificate-data"`
			KeyData  string `json:"client-key-data"`
			Cert     string `json:"client-certificate"`
			Key      string `json:"client-key"`
		} `json:"user"`
	} `json:"users"`
}

// Open reads a kubeconfig and prepares a client for its current context.
func Open(path string) (*Client, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	for _, c := range k.Contexts {
		if c.Name == k.CurrentContext {
			return k.open(path, c.Context.Cluster, c.Context.User)
		}
	}
	return nil, fmt.Errorf("kubeconfig %s: no context %q", path, k.CurrentContext)
}

func (k *kubeconfig) open(path, cluster, user string) (*Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	out := &Client{}
	for _, c := range k.Clusters {
		if c.Name != cluster {
			continue
		}
		ca, err := inline(path, c.Cluster.CAData, c.Cluster.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("kubeconfig %s: no certificate authority for cluster %q", path, cluster)
		}
		out.Server = strings.TrimSuffix(c.Cluster.Server, "/")
	}
	for _, u := range k.Users {
		if u.Name != user {
			continue
		}
		cert, err := inline(path, u.User.CertData, u.User.Cert)
		if err != nil {
			return nil, err
		}
		key, err := inline(path, u.User.KeyData, u.User.Key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: user %q: %w", path, user, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if out.Server == "" {
		return nil, fmt.Errorf("kubeconfig %s: no cluster %q", path, cluster)
	}
	out.http = &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, ResponseHeaderTimeout: DialTimeout, TLSHandshakeTimeout: DialTimeout}}
	return out, nil
}

// inline is the content of a kubeconfig field given as data or as a file.
func inline(path, data, file string) ([]byte, error) {
	if data != "" {
		out, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
		}
		return out, nil
	}
	if file == "" {
		return nil, nil
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(path), file)
	}
	return os.ReadFile(file)
}

// Path is the URL path of a kind, or of one object if name is given.
func Path(kind schema.Kind, namespace, name string) string {
	info := schema.Info(kind)
	p := "/apis/" + info.Group + "/" + info.Version
	if info.Group == "" {
		p = "/api/" + info.Version
	}
	if namespace != "" {
		p += "/namespaces/" + namespace
	}
	p += "/" + info.Resource
	if name != "" {
		p += "/" + name
	}
	return p
}

// StatusError is an answer of the API that is not a success.
type StatusError struct {
	Code    int
	Reason  string // in one word, "" for none
	Message string
}

func (e *StatusError) Error() string { return e.Message }

// NotFound reports whether err says that an object does not exist.
func NotFound(err error) bool {
	var s *StatusError
	return errors.As(err, &s) && s.Code == http.StatusNotFound
}

// Recovering is what the master says while it gathers the cluster of a lost store
// from its nodes; false for any other error.
func Recovering(err error) (message string, ok bool) {
	var s *StatusError
	if errors.As(err, &s) && s.Reason == schema.ReasonRecovering {
		return s.Message, true
	}
	return "", false
}

// Do sends a request and returns the body of a successful answer.
func (c *Client) Do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Server+path, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the master: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the master's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return nil, statusError(resp.StatusCode, data)
	}
	return data, nil
}

func statusError(code int, data []byte) error {
	var status metav1.Status
	if err := json.Unmarshal(data, &status); err == nil && status.Message != "" {
		return &StatusError{code, string(status.Reason), status.Message}
	}
	return &StatusError{code, "", fmt.Sprintf("the master answered %d: %s", code, bytes.TrimSpace(data[:min(len(data), 500)]))}
}

// Get reads one object.
func Get[T schema.Object](ctx context.Context, c *Client, kind schema.Kind, namespace, name string) (T, error) {
	obj := schema.Info(kind).New().(T)
	data, err := c.Do(ctx, http.MethodGet, Path(kind, namespace, name), nil)
	if err != nil {
		return obj, err
	}
	return obj, json.Unmarshal(data, obj)
}

// One is Get of an object whose kind its Go type says.
func One[T schema.Object](ctx context.Context, c *Client, namespace, name string) (T, error) {
	return Get[T](ctx, c, schema.KindFor[T](), namespace, name)
}

// All are the objects whose kind their Go type says.
func All[T schema.Object](ctx context.Context, c *Client) ([]T, error) {
	objects, _, err := List[T](ctx, c, schema.KindFor[T]())
	return objects, err
}

// List reads all objects of a kind and the resourceVersion of the list.
func List[T schema.Object](ctx context.Context, c *Client, kind schema.Kind) ([]T, string, error) {
	return ListWhere[T](ctx, c, kind, "")
}

// ListWhere is List of the objects that a field selector takes, all where it is "".
func ListWhere[T schema.Object](ctx context.Context, c *Client, kind schema.Kind, fields string) ([]T, string, error) {
	path := Path(kind, "", "")
	if fields != "" {
		path += "?fieldSelector=" + url.QueryEscape(fields)
	}
	data, err := c.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, "", err
	}
	var list struct {
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, "", err
	}
	out := make([]T, len(list.Items))
	for i, raw := range list.Items {
		out[i] = schema.Info(kind).New().(T)
		if err := json.Unmarshal(raw, out[i]); err != nil {
			return nil, "", err
		}
	}
	return out, list.Metadata.ResourceVersion, nil
}
