package reconciler

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Vault holds the values of Secrets that nodes may ask for, outside the tables.
// Sealed values are HMAC-SHA256 (RFC 2104) of namespace, name, key and value under
// the cluster's seal key: equal values stay comparable and nothing else is told.
//
// It holds what the cluster's Secrets have, and what is on its way there: a candidate
// carries its own values until it is submitted. What is merely planned is not held.
type Vault struct {
	key []byte

	mu     sync.Mutex
	values Values
	bytes  int64             // of values
	held   uint64            // how often Hold was called
	coming map[uint64]Values // what was held and is not settled, by that count
}

// Values are values of Secrets by how they are sealed.
type Values map[string][]byte

// NewVault returns a vault that knows no value yet.
func NewVault(key []byte) *Vault {
	return &Vault{key: key, values: Values{}, coming: map[uint64]Values{}}
}

// Seal is the objects with sealed copies in place of the Secrets, and their values,
// which the vault does not hold. What it gets it leaves as it is.
func (v *Vault) Seal(objects []*schema.Desired) ([]*schema.Desired, Values) {
	values := Values{}
	out := replaceSecrets(objects, func(secret *corev1.Secret) *corev1.Secret {
		sealed := state.Edit(secret)
		for k, value := range secret.Data {
			sum := v.seal(secret, k, value)
			sealed.Data[k] = sum
			values[string(sum)] = value
		}
		return sealed
	})
	return out, values
}

// replaceSecrets is the objects with what replace makes of each Secret in its place;
// it gets frozen ones and makes new ones.
func replaceSecrets(objects []*schema.Desired, replace func(*corev1.Secret) *corev1.Secret) []*schema.Desired {
	out := objects
	for i, d := range objects {
		secret, ok := d.Object.(*corev1.Secret)
		if !ok {
			continue
		}
		if &out[0] == &objects[0] {
			out = slices.Clone(objects)
		}
		fresh := *d
		fresh.Object = replace(secret)
		out[i] = &fresh
	}
	return out
}

func (v *Vault) seal(s *corev1.Secret, key string, value []byte) []byte {
	mac := hmac.New(sha256.New, v.key)
	fmt.Fprintf(mac, "%s/%s/%s\x00", s.Namespace, s.Name, key)
	mac.Write(value)
	return mac.Sum(nil)
}

// Hold takes over values of Secrets that are, or may become, the cluster's. They are
// not forgotten before settled is called, once the cluster has them or never will.
func (v *Vault) Hold(values Values) (settled func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for sum, value := range values {
		v.bytes += int64(len(value) - len(v.values[sum]))
		v.values[sum] = value
	}
	v.held++
	turn := v.held
	v.coming[turn] = values
	return func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.coming, turn)
	}
}

// Open returns the values of a sealed Secret; false when one is not known, as
// after a start until its source was read again.
func (v *Vault) Open(s *corev1.Secret) (map[string][]byte, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string][]byte, len(s.Data))
	for k, sum := range s.Data {
		value, ok := v.values[string(sum)]
		if !ok {
			return nil, false
		}
		out[k] = value
	}
	return out, true
}

// Forget drops the values that no Secret of the newest snapshot has, and that are not
// on their way there. Sources are judged side by side: what one has handed over counts
// as coming until a snapshot has it, so that another forgets none of it.
func (v *Vault) Forget(newest func() *state.Snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := map[string]bool{}
	for s := range state.All[*corev1.Secret](newest(), "") {
		for _, sum := range s.Data {
			kept[string(sum)] = true
		}
	}
	for _, values := range v.coming {
		for sum := range values {
			kept[sum] = true
		}
	}
	maps.DeleteFunc(v.values, func(sum string, value []byte) bool {
		if !kept[sum] {
			v.bytes -= int64(len(value))
		}
		return !kept[sum]
	})
}

// tooMuch refuses values that, with those of other sources' Secrets, are more than may be
// delivered, or more than a source may have that a tree declares. What the cluster's
// Secrets have is added up only where it could be too much. Values that take no more than
// the source's did are never refused.
func (v *Vault) tooMuch(r state.Reader, source schema.SourceName, sealed []*schema.Desired, values Values) schema.Diagnostics {
	own := int64(0)
	for _, value := range values {
		own += int64(len(value))
	}
	share := int64(schema.MaxSecretBytes)
	if src, ok := state.Source(r, source); ok && schema.SourceOf(src) != "" {
		share /= schema.DeclaredShare
	}
	if v.fits(own, share) {
		return nil
	}
	before, others := v.sizes(r, source)
	diag := schema.Diagnostic{Position: largestSecret(sealed, values), Severity: schema.Error, Hint: "remove Secrets or make them smaller"}
	switch {
	case own <= before:
		return nil
	case own > share:
		diag.Message = fmt.Sprintf("the values of the Secrets of source %s take %d bytes, at most %d can be delivered", source, own, share)
	case own+others > schema.MaxSecretBytes:
		diag.Message = fmt.Sprintf("the values of all Secrets would take %d bytes, at most %d can be delivered: source %s %d, other sources %d", own+others, schema.MaxSecretBytes, source, own, others)
		diag.Hint += ", here or in another source"
	default:
		return nil
	}
	return schema.Diagnostics{diag}
}

// fits reports whether values of that size are certainly not too much.
func (v *Vault) fits(own, share int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return own == 0 || own <= share && own+v.bytes <= schema.MaxSecretBytes
}

// sizes is what the values take of the source's Secrets, and of all others.
func (v *Vault) sizes(r state.Reader, source schema.SourceName) (own, others int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for s := range state.All[*corev1.Secret](r, "") {
		of := &others
		if schema.SourceOf(s) == source {
			of = &own
		}
		for _, sum := range s.Data {
			*of += int64(len(v.values[string(sum)]))
		}
	}
	return own, others
}

// largestSecret is where the Secret stands whose values take most.
func largestSecret(sealed []*schema.Desired, values Values) (at schema.Position) {
	most := -1
	for _, d := range sealed {
		secret, ok := d.Object.(*corev1.Secret)
		if !ok {
			continue
		}
		size := 0
		for _, sum := range secret.Data {
			size += len(values[string(sum)])
		}
		if size > most {
			most, at = size, d.Position
		}
	}
	return at
}

// uncompared is sealed objects with the values that a Secret of known has, whatever
// they are: a plan of them tells which keys come and go, and of no value whether it is
// the one that is guessed. It names the Secrets.
func uncompared(objects []*schema.Desired, known func(schema.Key) *corev1.Secret) (out []*schema.Desired, names []string) {
	out = replaceSecrets(objects, func(secret *corev1.Secret) *corev1.Secret {
		other := known(schema.KeyOf(secret))
		if other == nil {
			return secret
		}
		names = append(names, schema.KeyOf(secret).String())
		blind := state.Edit(secret)
		for k := range blind.Data {
			if sum, ok := other.Data[k]; ok {
				blind.Data[k] = sum
			}
		}
		return blind
	})
	for _, d := range out {
		if _, ok := d.Object.(*corev1.Secret); ok {
			d.Same = nil // it may remember that the value was equal
		}
	}
	return out, names
}
