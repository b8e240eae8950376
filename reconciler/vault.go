package reconciler

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/plan"
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

// OpenAt is Open for the Secret of that name.
func (v *Vault) OpenAt(r state.Reader, namespace, name string) (map[string][]byte, bool) {
	secret, ok := state.Get[*corev1.Secret](r, namespace, name)
	if !ok {
		return nil, false
	}
	return v.Open(secret)
}

// isLocked reports whether a value of one of the source's Secrets is not known: after a
// start.
func (v *Vault) isLocked(r state.Reader, source schema.SourceName) bool {
	for obj := range r.BySource(schema.KindSecret, source) {
		if _, ok := v.Open(obj.(*corev1.Secret)); !ok {
			return true
		}
	}
	return false
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
	maps.DeleteFunc(v.values, func(sum string, _ []byte) bool { return !kept[sum] })
}

// size is that of all values.
func (v Values) size() (n int64) {
	for _, value := range v {
		n += int64(len(value))
	}
	return n
}

// secretKiB is a size as SourceStatus.SecretKiB has it.
func secretKiB(size int64) int64 {
	const unit = schema.SecretUnit << 10
	return (size + unit - 1) / unit * schema.SecretUnit
}

// SecretSize is what the values of a source's applied Secrets take, as it was found when
// they were opened after a start: what an earlier version applied has no size noted.
type SecretSize struct {
	Source schema.SourceName
	Commit schema.Commit // that is applied
	KiB    int64         // as SourceStatus.SecretKiB has it
}

func (SecretSize) input() {}

// noteSecretSize writes it down while the commit is the applied one.
func noteSecretSize(c *control.Context, in SecretSize) {
	src, ok := state.Source(c.Tx, in.Source)
	if !ok || src.Status.Applied.Commit != in.Commit || src.Status.SecretKiB == in.KiB {
		return
	}
	next := state.Edit(src)
	next.Status.SecretKiB = in.KiB
	c.Tx.Put(next)
}

// secretShare is what the values of one source's Secrets may take.
func secretShare(r state.Reader, source schema.SourceName) int64 {
	if control.IsDeclared(r, source) {
		return schema.MaxSecretBytes / schema.DeclaredShare
	}
	return schema.MaxSecretBytes
}

// secretsBefore is what the values take of the source's applied Secrets, and of those of all
// other sources; opened are those known besides, by source: what an earlier version
// applied has no size noted.
func secretsBefore(r state.Reader, source schema.SourceName, opened map[schema.SourceName]int64) (own, others int64) {
	for src := range state.All[*schema.Source](r, "") {
		opened[src.SourceName()] = max(opened[src.SourceName()], src.Status.SecretKiB<<10)
	}
	for other, size := range opened {
		if other == source {
			own = size
		} else {
			others += size
		}
	}
	return own, others
}

// tooManySecrets refuses values that, with those of other sources' Secrets, are more than
// may be delivered, or more than a source may have that a tree declares. Values that take
// no more than the source's did are never refused.
func tooManySecrets(source schema.SourceName, share, own, before, others int64) (message, hint string) {
	const less = "remove Secrets or make them smaller"
	switch {
	case own <= before:
		return "", ""
	case own > share:
		return fmt.Sprintf("the values of the Secrets of source %s take %d bytes, at most %d can be delivered", source, own, share), less
	case own+others > schema.MaxSecretBytes:
		return fmt.Sprintf("the values of all Secrets would take %d bytes, at most %d can be delivered: source %s %d, other sources %d", own+others, schema.MaxSecretBytes, source, own, others),
			less + ", here or in another source"
	}
	return "", ""
}

// tooMuch is tooManySecrets of a candidate.
func (v *Vault) tooMuch(r state.Reader, source schema.SourceName, sealed []*schema.Desired, values Values) schema.Diagnostics {
	own := values.size()
	if own == 0 {
		return nil
	}
	before, others := secretsBefore(r, source, v.sizes(r))
	return secretDiagnostics(r, source, sealed, values, before, others)
}

// secretsTooMuch is the same as the loop judges it, from what it knows alone: two
// candidates may have been judged side by side.
func secretsTooMuch(r state.Reader, cand Candidate) schema.Diagnostics {
	before, others := secretsBefore(r, cand.Source, map[schema.SourceName]int64{})
	return secretDiagnostics(r, cand.Source, cand.Objects, cand.secrets, before, others)
}

// alsoRefused is secretsTooMuch where the candidate was not refused for that already.
func (cand Candidate) alsoRefused(r state.Reader) schema.Diagnostics {
	return slices.DeleteFunc(secretsTooMuch(r, cand), func(d schema.Diagnostic) bool {
		return slices.ContainsFunc(cand.Diagnostics, d.Alike)
	})
}

func secretDiagnostics(r state.Reader, source schema.SourceName, sealed []*schema.Desired, values Values, before, others int64) schema.Diagnostics {
	message, hint := tooManySecrets(source, secretShare(r, source), values.size(), before, others)
	if message == "" {
		return nil
	}
	return schema.Diagnostics{{
		Position: largestSecret(sealed, values), Severity: schema.Error, Message: message, Hint: hint, Elsewhere: values.size() <= secretShare(r, source),
	}}
}

// sizes is what the values that are known take, by source.
func (v *Vault) sizes(r state.Reader) map[schema.SourceName]int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[schema.SourceName]int64{}
	for s := range state.All[*corev1.Secret](r, "") {
		for _, sum := range s.Data {
			out[schema.SourceOf(s)] += int64(len(v.values[string(sum)]))
		}
	}
	return out
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

// compareNoSecrets gives the candidate's Secrets the values that the live ones have,
// and those of what it is compared with, and names them.
func compareNoSecrets(r state.Reader, cand *plan.Candidate) (names []string) {
	live := func(key schema.Key) *corev1.Secret {
		secret, _ := state.Get[*corev1.Secret](r, key.Namespace, key.Name)
		return secret
	}
	if cand.Against != nil {
		other := map[schema.Key]*corev1.Secret{}
		for _, d := range cand.Against.Objects {
			if secret, ok := d.Object.(*corev1.Secret); ok {
				other[schema.KeyOf(secret)] = secret
			}
		}
		cand.Objects, names = uncompared(cand.Objects, func(key schema.Key) *corev1.Secret { return other[key] })
		cand.Against.Objects, _ = uncompared(cand.Against.Objects, live)
	}
	objects, more := uncompared(cand.Objects, live)
	cand.Objects = objects
	return slices.Compact(slices.Sorted(slices.Values(append(names, more...))))
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
