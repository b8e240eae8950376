package pod

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Credential is what a registry is asked as. The zero Credential is the node's own, from
// its auth.json, or nobody's.
type Credential struct{ User, Password string }

// maxCredentials of a pod are tried for one image: each costs the registry a refusal.
const maxCredentials = 16

// CredentialsFor are those of the pod's imagePullSecrets that are for an image, the most
// particular registry first and each once, and the Secrets that are not there or that hold
// none ("namespace/name"). An entry counts as with the kubelet: its host may have a * in
// each part, its path begins the image's
// (https://kubernetes.io/docs/concepts/containers/images/#config-json).
func CredentialsFor(p *corev1.Pod, image string, data Data) (found []Credential, unusable []string) {
	type match struct {
		key string
		as  Credential
	}
	var matches []match
	for _, ref := range p.Spec.ImagePullSecrets {
		name := p.Namespace + "/" + ref.Name
		entries := dockerEntries(data.Secrets[name])
		if entries == nil {
			unusable = append(unusable, name)
		}
		for key, as := range entries {
			if key = registryKey(key); registryMatches(key, image) {
				matches = append(matches, match{key, as})
			}
		}
	}
	slices.SortFunc(matches, func(a, b match) int {
		return cmp.Or(-cmp.Compare(len(a.key), len(b.key)), cmp.Compare(a.key, b.key), cmp.Compare(a.as.User, b.as.User), cmp.Compare(a.as.Password, b.as.Password))
	})
	for _, m := range matches {
		if !slices.Contains(found, m.as) && len(found) < maxCredentials {
			found = append(found, m.as)
		}
	}
	return found, unusable
}

// dockerEntries are the credentials in a Secret, by registry; nil where it holds none of
// a form that is known. Of a user and password, and both in one, the latter counts.
func dockerEntries(secret map[string][]byte) map[string]Credential {
	type entry struct{ Username, Password, Auth string }
	var entries map[string]entry
	if data, ok := secret[corev1.DockerConfigJsonKey]; ok {
		var config struct{ Auths map[string]entry }
		if json.Unmarshal(data, &config) != nil {
			return nil
		}
		entries = config.Auths
	} else if json.Unmarshal(secret[corev1.DockerConfigKey], &entries) != nil {
		return nil
	}
	out := make(map[string]Credential, len(entries))
	for registry, e := range entries {
		as := Credential{e.Username, e.Password}
		if both, err := base64.StdEncoding.DecodeString(strings.TrimSpace(e.Auth)); err == nil && e.Auth != "" {
			as.User, as.Password, _ = strings.Cut(strings.TrimRight(string(both), "\x00"), ":")
		}
		if as.User != "" { // without one Podman's client takes root's own logins
			out[registry] = as
		}
	}
	return out
}

// registryKey is an entry's host and path: without a scheme, and without the path of the
// API's version that docker login writes.
func registryKey(entry string) string {
	if !strings.Contains(entry, "://") {
		entry = "https://" + entry
	}
	u, err := url.Parse(entry)
	if err != nil {
		return ""
	}
	at := u.Path
	for _, version := range []string{"/v1", "/v2"} {
		if at == version || strings.HasPrefix(at, version+"/") {
			at = strings.TrimPrefix(at, version)
		}
	}
	host := u.Host
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	return host + strings.TrimRight(at, "/")
}

func registryMatches(key, image string) bool {
	wantHost, wantPath, _ := strings.Cut(key, "/")
	host, repository, _ := strings.Cut(image, "/")
	wantName, wantPort, _ := strings.Cut(wantHost, ":")
	name, port, _ := strings.Cut(host, ":")
	want, have := strings.Split(wantName, "."), strings.Split(name, ".")
	if wantHost == "" || port != wantPort || len(want) != len(have) || !strings.HasPrefix(repository, wantPath) {
		return false
	}
	for i := range want {
		if ok, err := path.Match(want[i], have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
