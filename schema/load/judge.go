package load

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"fairlead/schema"
)

// judge checks what no object shows by itself: identity, namespaces and what
// objects say of each other. Objects are sorted by key and position. The tree is
// sound when there is nothing to say, nothing outside of it was leaned on and all of it
// could be read: what is judged by what changed starts from such a tree alone.
func (l *loader) judge(objects []*schema.Desired) (sound bool) {
	t := &wholeTree{loader: l, objects: objects, partial: l.diagnostics.HasErrors()}
	before := len(l.diagnostics)
	first := 0
	for i := 1; i < len(objects); i++ {
		key := objectOf(objects[i]).key
		if key != objectOf(objects[first]).key {
			first = i
			continue
		}
		l.fail(objects[i].Position, fmt.Sprintf("%s is defined twice, first at %s", key, objects[first].Position), "")
	}
	t.namespaces()
	t.sources()
	t.rights()
	t.references()
	t.connections()
	t.podSecurity()
	return len(l.diagnostics) == before && !t.leans && !t.hides && !t.partial
}

// wholeTree is the tree as one.
type wholeTree struct {
	*loader
	objects []*schema.Desired
	hints   int  // names that were looked for among all others
	leans   bool // on objects of other sources
	partial bool // some of it was refused: what seems to be missing may be there
	makers  map[schema.Key]*leftOut
	asked   map[string]schema.NamespaceSecurity // by namespace, of those that were looked at
	carried map[*facts]carried                  // of what environments were made from as a whole

	declares map[string]*schema.Declared // see declared; nil before it was asked
}

// Kinds of which a tree as a whole is asked for those that it has.
var (
	declaring  = kindsWith(func(r *schema.Row) bool { return r.Declares.Do != nil })
	followed   = kindsWith(func(r *schema.Row) bool { return r.Followed })
	connecting = kindsWith(func(r *schema.Row) bool { return r.Backends.Do != nil || r.Claims.Do != nil })
)

func kindsWith(has func(*schema.Row) bool) (out []schema.Kind) {
	for _, info := range schema.Kinds() {
		if has(schema.Of(info.Kind)) {
			out = append(out, info.Kind)
		}
	}
	return out
}

// ofKind are the tree's objects of a kind.
func (t *wholeTree) ofKind(kind schema.Kind) []*schema.Desired {
	from, _ := slices.BinarySearchFunc(t.objects, schema.Key{Kind: kind}, byKey)
	rest := t.objects[from:]
	n, _ := slices.BinarySearchFunc(rest, kind, func(d *schema.Desired, kind schema.Kind) int {
		if objectOf(d).key.Kind == kind {
			return -1
		}
		return 1
	})
	return rest[:n]
}

// maxHints is for how many names the nearest one is looked for: that goes through
// all objects, and nobody reads more.
const maxHints = 100

// first is the object of that key, of several the one that comes first; it may be
// none.
func (t *wholeTree) first(key schema.Key) object {
	i, ok := slices.BinarySearchFunc(t.objects, key, byKey)
	if !ok {
		return object{}
	}
	return objectOf(t.objects[i])
}

func (t *wholeTree) at(o object, severity schema.Severity, field, message, hint string) {
	at, by := o.Written(field)
	t.diagnostics = append(t.diagnostics, schema.Diagnostic{
		Position: at, Severity: severity, Message: field + ": " + message + setBy(by), Hint: hint,
	})
}

// setBy ends a message on a value that was written by something else than its object's
// document.
func setBy(by string) string {
	if by == "" {
		return ""
	}
	return ", set by " + by
}

// refuse is for what only this tree can put right.
func (t *wholeTree) refuse(o object, field, message, hint string) {
	t.at(o, schema.Error, field, message, hint)
}

// elsewhere refuses what may become right when another source changes.
func (t *wholeTree) elsewhere(o object, field, message, hint string) {
	t.refuse(o, field, message, hint)
	t.diagnostics[len(t.diagnostics)-1].Elsewhere = true
}

// namespaces refuses objects in a namespace that nobody declares. Where a part of the
// tree could not be read, that may be what declares it.
func (t *wholeTree) namespaces() {
	if t.hides || t.makesNamespaces() {
		return
	}
	declared := make(map[string]bool)
	for _, name := range slices.Concat(schema.GivenNamespaces, t.opts.KnownNamespaces) {
		declared[name] = true
	}
	for name := range t.declared() {
		declared[name] = true
	}
	names := slices.Sorted(maps.Keys(declared))
	last := ""
	for i := range t.objects {
		o := objectOf(t.objects[i])
		if o.key.Namespace == last || declared[o.key.Namespace] || o.key.Namespace == "" {
			last = o.key.Namespace
			continue
		}
		last = ""
		if o.flawed && len(validation.IsDNS1123Label(o.key.Namespace)) > 0 {
			continue // nobody can declare it, which was told
		}
		hint := t.spec.UndeclaredHint(o.key.Namespace, t.opts.Rights)
		best := ""
		if t.hints++; t.hints <= maxHints {
			best = schema.Nearest(o.key.Namespace, names)
		}
		refuse := t.elsewhere
		if best != "" { // most likely it is mistyped here
			hint = fmt.Sprintf("did you mean %q? Otherwise %s", best, hint)
			refuse = t.refuse
		}
		refuse(o, "metadata.namespace", fmt.Sprintf("no namespace %q is declared", o.key.Namespace), hint)
	}
}

// makesNamespaces reports whether namespaces that nobody declares are made.
func (l *loader) makesNamespaces() bool {
	return l.spec.CreateNamespaces && (l.opts.Rights == nil || l.opts.Rights.MayMakeNamespaces())
}

// declared are the namespaces that the tree declares, by name; of several objects that
// declare one, the first counts.
func (t *wholeTree) declared() map[string]*schema.Declared {
	if t.declares != nil {
		return t.declares
	}
	t.declares = make(map[string]*schema.Declared)
	for _, kind := range declaring {
		for _, d := range t.ofKind(kind) {
			if by := objectOf(d).declares; t.declares[by.Namespace] == nil {
				t.declares[by.Namespace] = by
			}
		}
	}
	return t.declares
}

// sources keeps a tree from changing the source it came from.
func (t *wholeTree) sources() {
	if t.opts.Source == "" {
		return
	}
	for _, kind := range followed {
		if o := t.first(schema.Key{Kind: kind, Name: string(t.opts.Source)}); o.exists() {
			t.at(o, schema.Error, "metadata.name", fmt.Sprintf("this tree comes from the source %q and cannot change it", t.opts.Source), "change it where it is configured")
		}
	}
}

// isItsSource reports whether a key is that of the source that the tree comes from.
func (t *wholeTree) isItsSource(key schema.Key) bool {
	return slices.Contains(followed, key.Kind) && key.Name == string(t.opts.Source)
}

// podsOf is what there is to know of the pods an object makes.
func podsOf(obj schema.Object) *podFacts {
	template, ok := schema.PodTemplateOf(obj)
	if !ok {
		return nil
	}
	spec := template.Spec
	pods := podFacts{field: template.SpecField, labels: template.Meta.Labels}
	for c := range schema.StayingContainers(spec) {
		for _, port := range c.Ports {
			if port.Name != "" {
				pods.ports = append(pods.ports, namedPort{port.Name, port.Protocol})
			}
		}
	}
	for r := range schema.References(spec) {
		if (!r.Optional || r.Env || r.Pull) && r.Name != "" {
			pods.references = append(pods.references, r)
		}
	}
	return &pods
}

// references refuses pods that use a ConfigMap, a Secret or a key of one that
// nobody declares.
func (t *wholeTree) references() {
	for i := range t.objects {
		if o := objectOf(t.objects[i]); o.pods != nil {
			for _, r := range o.pods.references {
				t.reference(o, o.pods.field+".", r)
			}
		}
	}
}

func (t *wholeTree) reference(o object, prefix string, r schema.Reference) {
	key := schema.Key{Kind: r.Kind, Namespace: o.key.Namespace, Name: r.Name}
	t.environment(o, prefix, key, r)
	if r.Optional && !r.Pull {
		return
	}
	target, flawed := t.find(key)
	switch maker := t.maker(key); {
	case target == nil && maker != nil:
		// Where the maker is an error itself, this one follows from it.
		if t.spec.Unsupported == "warn" {
			t.at(o, schema.Warning, prefix+r.Field, fmt.Sprintf("no %s is declared: the %s at %s would make it, and is left out", key, maker.kind, maker.at), "")
		}
	case target == nil && t.hides: // it may stand where nothing could be read
	case target == nil && t.opts.Unasked != nil && t.opts.Unasked(key):
		t.at(o, schema.Warning, prefix+r.Field, fmt.Sprintf("it is not known whether %s is declared: the cluster could not be asked", key), t.nearest(key))
	case target == nil && t.spec.MissingReferences == schema.WaitForMissing:
		t.at(o, schema.Warning, prefix+r.Field, fmt.Sprintf("no %s is declared: %s until it is there", key, without(r, "pods wait", "images are pulled without it")), t.nearest(key))
	case target == nil:
		t.at(o, schema.Error, prefix+r.Field, fmt.Sprintf("no %s is declared", key), cmp.Or(t.nearest(key), `"missingReferences: wait" in the Source has `+without(r, "pods wait for it", "images pulled without it")))
	case flawed:
	case !r.Fits(target):
		t.at(o, schema.Error, prefix+r.Field, fmt.Sprintf("%s has none of the keys %s: images are not pulled with it", key, strings.Join(r.OneOf, ", ")), "use a Secret of type kubernetes.io/dockerconfigjson")
	case r.Key == "":
	default:
		keys := schema.DataKeys(target)
		if !slices.Contains(keys, r.Key) {
			hint := ""
			if best := schema.Nearest(r.Key, keys); best != "" {
				hint = fmt.Sprintf("did you mean %q?", best)
			}
			t.at(o, schema.Error, prefix+r.KeyField, fmt.Sprintf("%s has no key %q", key, r.Key), hint)
		}
	}
}

// without tells what comes of a reference to what is not there.
func without(r schema.Reference, waits, pulls string) string {
	if r.Pull {
		return pulls
	}
	return waits
}

// environment refuses what no environment can be made from, as far as this tree has it:
// of other Secrets only names are known for sure.
func (t *wholeTree) environment(o object, prefix string, key schema.Key, r schema.Reference) {
	target := t.first(key)
	if !r.Env || !target.exists() || target.flawed {
		return
	}
	if bad, why := t.noEnvironment(target, r.Key); why != "" {
		t.at(o, schema.Error, prefix+cmp.Or(r.KeyField, r.Field), fmt.Sprintf("key %q of %s %s", bad, key, why), "")
	}
}

// carried is what keeps an environment from being made from all of an object.
type carried struct{ bad, why string }

// noEnvironment is schema.NoEnvironment. Many pods may take the same object as a whole:
// its values are looked through once.
func (t *wholeTree) noEnvironment(target object, key string) (bad, why string) {
	if key != "" {
		return schema.NoEnvironment(target.Object, key)
	}
	c, known := t.carried[target.facts]
	if !known {
		if t.carried == nil {
			t.carried = make(map[*facts]carried)
		}
		c.bad, c.why = schema.NoEnvironment(target.Object, "")
		t.carried[target.facts] = c
	}
	return c.bad, c.why
}

// maker is the object that would make a Secret were it supported; nil without one.
// The tree leans on it: without it, there is something to say.
func (t *wholeTree) maker(secret schema.Key) *leftOut {
	if t.makers == nil {
		t.makers = make(map[schema.Key]*leftOut, len(t.makes))
		for i := range t.makes {
			t.makers[t.makes[i].secret] = &t.makes[i]
		}
	}
	found := t.makers[secret]
	t.leans = t.leans || found != nil
	return found
}

func (t *wholeTree) find(key schema.Key) (target schema.Object, flawed bool) {
	if o := t.first(key); o.exists() {
		return o.Object, o.flawed
	}
	if t.opts.Known == nil {
		return nil, false
	}
	t.leans = true
	return t.opts.Known(key), false
}

// nearest names the object of this tree that was probably meant.
func (t *wholeTree) nearest(key schema.Key) string {
	if t.hints++; t.hints > maxHints {
		return ""
	}
	var names []string
	for i := range t.objects {
		if k := objectOf(t.objects[i]).key; k.Kind == key.Kind && k.Namespace == key.Namespace {
			names = append(names, k.Name)
		}
	}
	if best := schema.Nearest(key.Name, names); best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	for i := range t.objects {
		if k := objectOf(t.objects[i]).key; k.Kind == key.Kind && k.Name == key.Name {
			return fmt.Sprintf("there is one in namespace %q", k.Namespace)
		}
	}
	return ""
}

// connects reports whether objects of a kind claim something for themselves, or lead to
// pods: that is judged of all of them together.
func connects(kind schema.Kind) bool { return slices.Contains(connecting, kind) }

// connections judges ports and addresses that only one object can have, and whether
// there are the pods that objects lead to.
func (t *wholeTree) connections() {
	var asking []object
	for i := range t.objects {
		if o := objectOf(t.objects[i]); connects(o.key.Kind) && (i == 0 || objectOf(t.objects[i-1]).key != o.key) {
			asking = append(asking, o)
		}
	}
	pods := indexPods(t.objects, asking)
	slices.SortFunc(asking, func(a, b object) int { return a.Position.Compare(b.Position) })
	taken := make(map[claimed]claim)
	for _, o := range asking {
		t.claims(o, taken)
		if !o.flawed {
			t.backends(o, pods)
		}
	}
}

// claimed is what only one object can have: a port of every node, or an address.
type claimed struct {
	address  netip.Addr
	protocol corev1.Protocol
	nodePort int32
}

// claim is who has it.
type claim struct {
	object object
	field  string
}

// claims refuses what another object has, or what is not to be had.
func (t *wholeTree) claims(o object, taken map[claimed]claim) {
	claims := schema.Of(o.key.Kind).Claims.Do
	if claims == nil {
		return
	}
	for _, c := range claims(o.Object) {
		id, what, hint := claimed{c.Address, c.Protocol, c.NodePort}, c.Value(), leaveToCluster
		if c.NodePort != 0 {
			hint = ""
		}
		if beyond := t.outOfRange(c); beyond != "" {
			t.at(o, schema.Error, c.Field, beyond, leaveToCluster)
			continue
		}
		if first, twice := taken[id]; twice {
			t.at(o, schema.Error, c.Field, fmt.Sprintf("%s is taken by %s at %s", what, first.object.key, first.object.Locate(first.field)), hint)
			continue
		}
		t.heldElsewhere(o, c.Field, what)
		taken[id] = claim{o, c.Field}
	}
}

const leaveToCluster = "leave it out to have one given"

// outOfRange tells of a claim that is not in the range from which the cluster gives such.
func (t *wholeTree) outOfRange(c schema.Claim) string {
	ports, addresses := t.opts.NodePorts, t.opts.ServiceRange
	switch {
	case c.NodePort != 0 && (c.NodePort < ports.First || c.NodePort > ports.Last):
		return fmt.Sprintf("%d is not between %d and %d", c.NodePort, ports.First, ports.Last)
	case c.NodePort == 0 && addresses.IsValid() && !addresses.Contains(c.Address):
		return fmt.Sprintf("%s is not in %s, from which services have their addresses", c.Address, addresses)
	}
	return ""
}

// heldElsewhere refuses what an object of another source has already.
func (t *wholeTree) heldElsewhere(o object, field, what string) {
	if t.opts.Holder == nil {
		return
	}
	t.leans = true
	holder := t.opts.Holder(what)
	if holder == nil || schema.KeyOf(holder) == o.key { // which is told as the object's
		return
	}
	by := schema.KeyOf(holder).String()
	if origin := schema.OriginOf(holder); origin.Source != "" {
		by += fmt.Sprintf(" of source %s, %s:%d", origin.Source, origin.Path, origin.Line)
	}
	t.elsewhere(o, field, fmt.Sprintf("%s is taken by %s", what, by), leaveToCluster)
}

// backends warns of an object that can never reach a pod. Where something was refused,
// that may be the pod.
func (t *wholeTree) backends(o object, pods podIndex) {
	asked, ok := backendsOf(o)
	if !ok {
		return
	}
	if len(asked.Selector) == 0 {
		t.at(o, schema.Warning, asked.SelectorField, "without a selector the service has no endpoints", "")
		return
	}
	if t.partial {
		return
	}
	matched := pods.matching(o.key.Namespace, asked.Selector)
	if len(matched) == 0 {
		t.at(o, schema.Warning, asked.SelectorField, fmt.Sprintf("no pod of this tree in namespace %q has these labels", o.key.Namespace), "")
		return
	}
	for _, port := range asked.Ports {
		if !slices.ContainsFunc(matched, func(p *podFacts) bool { return slices.Contains(p.ports, namedPort{port.Name, port.Protocol}) }) {
			t.at(o, schema.Warning, port.Field, fmt.Sprintf("no pod the service selects has a %s port named %q", port.Protocol, port.Name), "")
		}
	}
}

// backendsOf are the pods that an object leads to; false for a kind that leads to none.
func backendsOf(o object) (schema.Backends, bool) {
	backends := schema.Of(o.key.Kind).Backends.Do
	if backends == nil {
		return schema.Backends{}, false
	}
	return backends(o.Object), true
}

// podIndex finds pods by one label that some object selects.
type podIndex map[selectable][]*podFacts

// selectable is a label in a namespace.
type selectable struct{ namespace, key, value string }

func indexPods(objects []*schema.Desired, asking []object) podIndex {
	index := make(podIndex)
	for _, o := range asking {
		asked, _ := backendsOf(o)
		for key, value := range asked.Selector {
			index[selectable{o.key.Namespace, key, value}] = nil
		}
	}
	if len(index) == 0 {
		return index
	}
	for i := range objects {
		o := objectOf(objects[i])
		pods := o.pods
		if pods == nil {
			continue
		}
		for key, value := range pods.labels {
			id := selectable{o.key.Namespace, key, value}
			if found, selected := index[id]; selected {
				index[id] = append(found, pods)
			}
		}
	}
	return index
}

// matching goes through the pods of the selector's rarest label.
func (x podIndex) matching(namespace string, selector map[string]string) []*podFacts {
	var fewest []*podFacts
	first := true
	for key, value := range selector {
		if found := x[selectable{namespace, key, value}]; first || len(found) < len(fewest) {
			fewest, first = found, false
		}
	}
	var out []*podFacts
	for _, pods := range fewest {
		if containsAll(pods.labels, selector) {
			out = append(out, pods)
		}
	}
	return out
}

func containsAll(labels, selector map[string]string) bool {
	for key, value := range selector {
		if got, ok := labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}
