package pod

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestCredentialsFor(t *testing.T) {
	config := func(entries string) map[string][]byte {
		return map[string][]byte{".dockerconfigjson": []byte(`{"auths": {` + entries + `}, "credHelpers": {}}`)}
	}
	auth := func(registry, user string) string {
		return fmt.Sprintf("%q: {\"auth\": %q}", registry, base64.StdEncoding.EncodeToString([]byte(user+":p:w")))
	}
	as := func(users ...string) (out []Credential) {
		for _, u := range users {
			out = append(out, Credential{u, "p:w"})
		}
		return out
	}
	for name, tc := range map[string]struct {
		image    string
		secrets  map[string]map[string][]byte
		want     []Credential
		unusable []string
	}{
		"a host":                 {"registry.example.org/a/b:1", map[string]map[string][]byte{"a": config(auth("registry.example.org", "u"))}, as("u"), nil},
		"a URL":                  {"registry.example.org/a/b:1", map[string]map[string][]byte{"a": config(auth("https://registry.example.org/v2/", "u"))}, as("u"), nil},
		"another host":           {"registry.example.net/a/b:1", map[string]map[string][]byte{"a": config(auth("registry.example.org", "u"))}, nil, nil},
		"a host within another":  {"registry.example.org.evil.test/a:1", map[string]map[string][]byte{"a": config(auth("registry.example.org", "u"))}, nil, nil},
		"another port":           {"registry.example.org:5000/a:1", map[string]map[string][]byte{"a": config(auth("registry.example.org", "u") + "," + auth("registry.example.org:5001", "v"))}, nil, nil},
		"its port":               {"registry.example.org:5000/a:1", map[string]map[string][]byte{"a": config(auth("registry.example.org:5000", "u"))}, as("u"), nil},
		"the default registry":   {"docker.io/library/a:1", map[string]map[string][]byte{"a": config(auth("https://index.docker.io/v1/", "u"))}, as("u"), nil},
		"a star for a part":      {"eu.registry.example.org/a:1", map[string]map[string][]byte{"a": config(auth("*.registry.example.org", "u") + "," + auth("*.example.org", "v"))}, as("u"), nil},
		"a star for all":         {"registry.example.org/a:1", map[string]map[string][]byte{"a": config(auth("*", "u"))}, nil, nil},
		"a bad pattern":          {"registry.example.org/a:1", map[string]map[string][]byte{"a": config(auth("[.example.org", "u"))}, nil, nil},
		"a path":                 {"registry.example.org/team/a:1", map[string]map[string][]byte{"a": config(auth("registry.example.org/team", "u") + "," + auth("registry.example.org/other", "v"))}, as("u"), nil},
		"the most particular":    {"registry.example.org/team/a@sha256:0", map[string]map[string][]byte{"a": config(auth("registry.example.org", "u")), "b": config(auth("registry.example.org/team/a", "v"))}, as("v", "u"), nil},
		"one twice":              {"registry.example.org/a:1", map[string]map[string][]byte{"a": config(auth("registry.example.org", "u")), "b": config(auth("registry.example.org", "u"))}, as("u"), nil},
		"the older form":         {"registry.example.org/a:1", map[string]map[string][]byte{"a": {".dockercfg": []byte(`{"registry.example.org": {"username": "u", "password": "p:w"}}`)}}, as("u"), nil},
		"no user":                {"registry.example.org/a:1", map[string]map[string][]byte{"a": config(`"registry.example.org": {"password": "p"}`), "b": config(auth("registry.example.org", ""))}, nil, nil},
		"nothing for a registry": {"registry.example.org/a:1", map[string]map[string][]byte{"a": config(`"registry.example.org": {}`)}, nil, nil},
		"what is none":           {"registry.example.org/a:1", map[string]map[string][]byte{"a": {"password": []byte("x")}, "b": {".dockerconfigjson": []byte("no")}}, nil, []string{"shop/a", "shop/b", "shop/gone"}},
	} {
		p := podFrom(t, `{imagePullSecrets: [{name: a}, {name: b}, {name: gone}]}`)
		p.Namespace = "shop"
		data := Data{Secrets: map[string]map[string][]byte{"shop/b": config(""), "shop/gone": config("")}}
		if tc.unusable != nil {
			delete(data.Secrets, "shop/gone")
		}
		for secret, values := range tc.secrets {
			data.Secrets["shop/"+secret] = values
		}
		got, unusable := CredentialsFor(p, tc.image, data)
		if diff := cmp.Diff(tc.want, got) + cmp.Diff(tc.unusable, unusable); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	many, data := podFrom(t, `{}`), Data{Secrets: map[string]map[string][]byte{}}
	for i := range 2 * maxCredentials {
		name := fmt.Sprint("s", i)
		many.Spec.ImagePullSecrets = append(many.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
		data.Secrets[many.Namespace+"/"+name] = config(auth("registry.example.org", name))
	}
	if got, _ := CredentialsFor(many, "registry.example.org/a:1", data); len(got) != maxCredentials {
		t.Errorf("%d are tried, want %d", len(got), maxCredentials)
	}
}
