package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// KindSecret is the kind of Kubernetes' Secret.
const KindSecret Kind = "Secret"

var secretRow = Row{
	KindInfo: KindInfo{
		Kind: KindSecret, Version: "v1", Resource: "secrets", Singular: "secret",
		Namespaced: true, Desired: true, Sealed: true, New: func() Object { return &corev1.Secret{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{Do: []string{"data", "stringData", "type", "immutable"}},
	Defaults:   defaultsCell{Do: func(obj Object) { defaultSecret(obj.(*corev1.Secret)) }},
	Judge:      judgeCell{Do: func(p *problems, obj Object) { p.secret(obj.(*corev1.Secret)) }},
	Update:     updateCell{Do: updateSecret},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: namesNothing},
	Data:       dataCell{Do: Data{Keys: func(obj Object) []string { return sortedKeys(obj.(*corev1.Secret).Data) }, NoEnvironment: noEnvironmentOfSecret}},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{None: ownsNothing},
	Carry:      carryCell{None: noStatus},
	Memory:     memoryCell{Do: Memory{Lean: unversioned}},
	Whole:      wholeCell{None: anyIsWhole},
}

func defaultSecret(s *corev1.Secret) {
	setDefault(&s.Type, corev1.SecretTypeOpaque)
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

func (p *problems) secret(s *corev1.Secret) {
	size := 0
	for _, key := range sortedKeys(s.Data) {
		size += len(key) + len(s.Data[key])
		p.dataKey("data["+key+"]", key)
		p.encrypted("data["+key+"]", string(s.Data[key][:min(len(s.Data[key]), len(EncryptedBySOPS))]))
	}
	p.data(size, len(s.Data))
	p.secretType(s)
}

// secretForm is what the Secrets of a type must hold.
type secretForm struct {
	keys    []string // all of them
	anyOf   []string // at least one of them
	object  string   // the key whose value is a JSON object
	like    string   // how that is written
	filled  string   // the key whose value is not empty
	refused string   // why none may stand in Git; empty for most
	instead string
}

// secretForms are those of Kubernetes' own types
// (https://kubernetes.io/docs/concepts/configuration/secret/#secret-types).
var secretForms = map[corev1.SecretType]secretForm{
	corev1.SecretTypeOpaque:           {},
	corev1.SecretTypeTLS:              {keys: []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey}},
	corev1.SecretTypeDockerConfigJson: {keys: []string{corev1.DockerConfigJsonKey}, object: corev1.DockerConfigJsonKey, like: `{"auths": {"registry.example": {"auth": "…"}}}`},
	corev1.SecretTypeDockercfg:        {keys: []string{corev1.DockerConfigKey}, object: corev1.DockerConfigKey, like: `{"registry.example": {"auth": "…"}}`},
	corev1.SecretTypeBasicAuth:        {anyOf: []string{corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey}},
	corev1.SecretTypeSSHAuth:          {keys: []string{corev1.SSHAuthPrivateKey}, filled: corev1.SSHAuthPrivateKey},
	corev1.SecretTypeServiceAccountToken: {
		refused: "Kubernetes would fill it with a token, and pods have no identity towards the API here", instead: "leave it out",
	},
	corev1.SecretTypeBootstrapToken: {
		refused: "it would let nodes join a cluster of Kubernetes", instead: "leave it out: fairlead token makes what a node joins with",
	},
}

// ownedTypes begins the names of types that only Kubernetes gives a meaning.
const ownedTypes = "kubernetes.io/"

// secretType holds a Secret to the form of its type.
func (p *problems) secretType(s *corev1.Secret) {
	form, known := secretForms[s.Type]
	if !known {
		p.unknownSecretType(s.Type)
		return
	}
	if form.refused != "" {
		p.hint("type", form.instead, "a Secret of type %s cannot stand in Git: %s", s.Type, form.refused)
		return
	}
	for _, key := range form.keys {
		if _, ok := s.Data[key]; !ok {
			p.add("data", "a Secret of type %s needs the key %q", s.Type, key)
		}
	}
	if len(form.anyOf) > 0 && !slices.ContainsFunc(form.anyOf, func(key string) bool { _, ok := s.Data[key]; return ok }) {
		p.add("data", "a Secret of type %s needs one of the keys %s", s.Type, joinQuoted(form.anyOf))
	}
	if value, ok := s.Data[form.filled]; ok && len(value) == 0 {
		p.add("data["+form.filled+"]", "must not be empty in a Secret of type %s", s.Type)
	}
	if value, ok := s.Data[form.object]; ok && json.Unmarshal(value, new(map[string]any)) != nil {
		p.hint("data["+form.object+"]", "write it like "+form.like, "must be a JSON object in a Secret of type %s", s.Type)
	}
}

// unknownSecretType refuses a type that is nearly one of ours: it is misspelt. Others in
// the same domain exist, as kubernetes.io/rbd of a kind of volume, and hold what they like.
func (p *problems) unknownSecretType(t corev1.SecretType) {
	name, owned := strings.CutPrefix(string(t), ownedTypes)
	if !owned {
		return
	}
	var known []string
	for _, form := range sortedKeys(secretForms) {
		known = append(known, strings.TrimPrefix(string(form), ownedTypes))
	}
	if best := nearMiss(name, known); best != "" {
		p.hint("type", fmt.Sprintf("did you mean %q?", ownedTypes+best), "%q is not a type of Kubernetes", string(t))
	}
}

// nearMiss is the known name that was meant, empty for a name that is of its own: one
// mistake in a short name, or two in a long one.
func nearMiss(name string, known []string) string {
	best := Nearest(name, known)
	if best == "" || editDistance(name, best, 3) > min(2, 1+len(name)/6) {
		return ""
	}
	return best
}

// updateSecret keeps the data of an immutable one, and the type of any.
func updateSecret(p *problems, old, new Object) {
	o, n := old.(*corev1.Secret), new.(*corev1.Secret)
	p.immutableData(old, new, isTrue(o.Immutable), isTrue(n.Immutable))
	if o.Type != n.Type {
		p.hint("type", "give the Secret another name", "cannot change from %s to %s", o.Type, n.Type)
	}
}

func noEnvironmentOfSecret(obj Object, key string) (bad, why string) {
	if bad, found := firstWithNUL(obj.(*corev1.Secret).Data, key, bytes.IndexByte); found {
		return bad, hasNUL
	}
	return "", ""
}
