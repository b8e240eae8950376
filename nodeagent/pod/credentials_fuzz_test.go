package pod

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A Secret with credentials comes from Git: whatever it holds, a registry is asked with
// what stands under its own host, and never without a user.
func FuzzCredentials(f *testing.F) {
	f.Add(`{"auths": {"registry.example.org": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"username": "u", "password": "p"}}}`, false, "registry.example.org/a:1")
	f.Add(`{"*.example.org:5000/team": {"auth": "OnA=", "username": "v"}}`, true, "eu.example.org:5000/team/a@sha256:0")
	f.Add(`{"[": {"username": "u"}, "http://%zz": {"username": "u"}, "": {"username": "u"}}`, true, "/")
	f.Fuzz(func(t *testing.T, text string, older bool, image string) {
		key := corev1.DockerConfigJsonKey
		if older {
			key = corev1.DockerConfigKey
		}
		p := &corev1.Pod{}
		p.Namespace, p.Spec.ImagePullSecrets = "shop", []corev1.LocalObjectReference{{Name: "s"}}
		found, _ := CredentialsFor(p, image, Data{Secrets: map[string]map[string][]byte{"shop/s": {key: []byte(text)}}})
		host, _, _ := strings.Cut(image, "/")
		for _, as := range found {
			if as.User == "" || host == "" || len(found) > maxCredentials {
				t.Errorf("%q is asked as %+v", image, as)
			}
		}
	})
}
