package nodeagent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

const (
	// probeBody is how much of an answer is read: one that breaks off before is a
	// failure, one that never ends is not waited for.
	probeBody = 10 << 10
	// probeTold is how much of it is told.
	probeTold = 1 << 10
	// probeLocation is how much is told of where an answer sends the asker.
	probeLocation = 256
	// probeRequests bounds the requests of one probe: the first one, and those that
	// follow redirects.
	probeRequests = 10
)

// probeClient keeps no connection: each probe is a new conversation. It goes through
// no proxy, and certificates are not verified, as Kubernetes does.
var probeClient = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: followHere,
}

// followHere follows redirects within the container. One to another host is an
// answer: a probe says nothing of other hosts.
func followHere(next *http.Request, before []*http.Request) error {
	switch {
	case next.URL.Hostname() != before[0].URL.Hostname():
		return http.ErrUseLastResponse
	case len(before) >= probeRequests:
		return fmt.Errorf("stopped after %d redirects", len(before))
	}
	return nil
}

// http asks and judges the answer: 200 to 399 is a success.
func (p probe) http(ctx context.Context, get *corev1.HTTPGetAction) (warning string, err error) {
	req, err := p.request(ctx, get)
	if err != nil {
		return "", err
	}
	res, err := fetch(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, probeBody))
	if err != nil {
		return "", fmt.Errorf("the answer, %d, broke off: %w", res.StatusCode, err)
	}
	said := strings.TrimSpace(string(body[:min(len(body), probeTold)]))
	switch {
	case res.StatusCode < http.StatusOK || res.StatusCode >= http.StatusBadRequest:
		return "", errors.New(strings.TrimSpace(fmt.Sprintf("HTTP probe failed with statuscode: %d %s", res.StatusCode, said)))
	case res.StatusCode >= http.StatusMultipleChoices:
		return redirected(res, said), nil
	}
	return "", nil
}

// ask asks and takes any answer.
func (p probe) ask(ctx context.Context, get *corev1.HTTPGetAction) error {
	req, err := p.request(ctx, get)
	if err != nil {
		return err
	}
	res, err := fetch(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// fetch asks; an error tells of the request without what may be secret in its address.
func fetch(req *http.Request) (*http.Response, error) {
	res, err := probeClient.Do(req)
	if wrong := (*url.Error)(nil); errors.As(err, &wrong) {
		wrong.URL = whereTo(wrong.URL) // of the last request, as the container's answer has it
	}
	return res, err
}

// redirected tells of an answer that sends the asker elsewhere and was not followed.
func redirected(res *http.Response, said string) string {
	to := whereTo(res.Header.Get("Location"))
	return strings.TrimSpace(fmt.Sprintf("Probe terminated redirects: %d to %s, which is not followed and counts as success %s", res.StatusCode, to, said))
}

// whereTo is what is told of a Location, which a container makes as long as it likes and
// may put secrets into: neither its query nor who asks.
func whereTo(location string) string {
	if location == "" {
		return "nowhere"
	}
	u, err := url.Parse(location)
	if err != nil {
		return "an address that cannot be read"
	}
	u = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, Opaque: u.Opaque}
	return schema.FitText(u.String(), probeLocation)
}

// request is what is asked: the headers as they are written, each as often as it is
// written. Host names the host that is asked for; User-Agent and Accept have defaults,
// which an empty value takes away.
func (p probe) request(ctx context.Context, get *corev1.HTTPGetAction) (*http.Request, error) {
	address, err := p.address(get.Host, get.Port)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(get.Path)
	if err != nil {
		u = &url.URL{Path: get.Path} // asked for as it is written
	}
	u.Scheme, u.Host = "http", address
	if get.Scheme != "" {
		u.Scheme = strings.ToLower(string(get.Scheme))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range get.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	req.Host = req.Header.Get("Host")
	if _, written := req.Header["User-Agent"]; !written {
		req.Header.Set("User-Agent", "kube-probe/"+schema.KubernetesMajor+"."+schema.KubernetesMinor)
	}
	if _, written := req.Header["Accept"]; !written {
		req.Header.Set("Accept", "*/*")
	} else if req.Header.Get("Accept") == "" {
		req.Header.Del("Accept")
	}
	return req, nil
}
