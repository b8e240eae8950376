// Package why answers "why is it as it is, and who must act?" for one object: the
// chain from the commit and the line in a file over the objects that follow from
// it to the pod, its node, its image, its probe or its exit. It reads objects and
// nothing else, so that the client, which has them from the API, and the master
// give the same answer. Pure: the time is an argument.
package why

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// APIVersion is the version of the JSON form.
const APIVersion = "fairlead/why/v1"

// Chain is the answer. The JSON form is stable.
type Chain struct {
	APIVersion string       `json:"apiVersion"`
	Object     string       `json:"object"` // Kind namespace/name
	Code       health.Code  `json:"code"`
	Reason     string       `json:"reason"` // one sentence, no full stop
	Actor      health.Actor `json:"actor"`
	Todo       string       `json:"todo"`
	Author     string       `json:"author,omitempty"` // who changed the object last
	File       string       `json:"file,omitempty"`   // path:line
	Links      []Link       `json:"links"`            // from the commit to the cause
	Events     []Event      `json:"events"`           // newest first
	// Evidence is what a revision keeps of pods that the answer is about.
	Evidence []schema.Evidence `json:"evidence,omitempty"`
	Log      *Log              `json:"log,omitempty"`
}

// Link is one step of the chain.
type Link struct {
	Step  string       `json:"step"` // commit, file, source, deployment, replicaset, service, pod, node, image, container, probe
	Name  string       `json:"name"`
	State string       `json:"state,omitempty"`
	OK    bool         `json:"ok"`
	At    *metav1.Time `json:"at,omitempty"` // when it came to be so
}

// Event is something that happened to an object of the chain.
type Event struct {
	At      metav1.Time `json:"at"`
	Object  string      `json:"object"`
	Type    string      `json:"type"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	Count   int32       `json:"count"`
}

// Log is the end of the log that shows the cause. Whoever asked for the chain
// fetches Lines; Error says why there are none. Of a pod that is gone there are the
// lines that its revision keeps.
type Log struct {
	Namespace string   `json:"namespace"`
	Pod       string   `json:"pod"`
	Container string   `json:"container"`
	Previous  bool     `json:"previous,omitempty"` // of the run before this one
	Lines     []string `json:"lines,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// MaxEvents is how many events a chain tells.
const MaxEvents = 8

// cause is one candidate for the answer.
type cause struct {
	code health.Code
	text string
	log  *Log
}

// worse reports whether a is to be told rather than b.
func (a cause) worse(b cause) bool {
	return health.Trouble{Code: a.code}.Worse(health.Trouble{Code: b.code})
}

// chain is a Chain being made.
type chain struct {
	Chain
	r     state.Reader
	rows  schema.Rows[row]
	about []schema.Object // whose events are told
}

// Explain answers for the object of that key, which must be in r. The reader needs
// the kinds of Needs beside it.
func Explain(r state.Reader, key schema.Key) (*Chain, error) {
	c := &chain{Chain: Chain{APIVersion: APIVersion, Object: key.String(), Links: []Link{}, Events: []Event{}}, r: r, rows: rows}
	obj := r.Get(key)
	if obj == nil {
		rev, evidence := keptOf(r, key)
		if rev == nil {
			return nil, fmt.Errorf("there is no %s", key)
		}
		c.settle(c.gone(key, rev, evidence))
		c.tellEvents()
		return &c.Chain, nil
	}
	found := c.explain(obj)
	if parked, ok := c.parked(); ok && parked.worse(found) {
		found = parked
	}
	c.settle(found)
	c.tellEvents()
	return &c.Chain, nil
}

// InRecovery answers for any object while the cluster is gathered from its nodes,
// which reason tells: nothing is known of the object, and nothing was done to it.
func InRecovery(key schema.Key, reason string) *Chain {
	c := &chain{Chain: Chain{APIVersion: APIVersion, Object: key.String(), Links: []Link{}, Events: []Event{}}}
	c.settle(cause{code: health.Recovering, text: reason})
	return &c.Chain
}

// parked tells of an object of the chain that controllers undid each other's work
// on, and that did not change since.
func (c *chain) parked() (cause, bool) {
	for e := range state.All[*corev1.Event](c.r, "") {
		if e.Reason != schema.ReasonParked {
			continue
		}
		if i := c.subject(e); i >= 0 && version(e) > version(c.about[i]) {
			return cause{code: health.Parked, text: e.Message}, true
		}
	}
	return cause{}, false
}

// subject is which object of the chain an event is about, -1 for none.
func (c *chain) subject(e *corev1.Event) int {
	return slices.IndexFunc(c.about, func(o schema.Object) bool {
		return string(schema.KindOf(o)) == e.InvolvedObject.Kind && o.GetName() == e.InvolvedObject.Name &&
			o.GetNamespace() == e.InvolvedObject.Namespace && (e.InvolvedObject.UID == "" || o.GetUID() == e.InvolvedObject.UID)
	})
}

func (c *chain) settle(found cause) {
	_, r := health.RuleOf(found.code)
	c.Code, c.Reason, c.Actor, c.Todo, c.Log = found.code, found.text, r.Actor, r.Todo, found.log
}

func (c *chain) explain(obj schema.Object) cause {
	row := c.rows.Of(schema.KindOf(obj))
	if row != nil && !row.fromGit {
		return c.tellOf(row, obj)
	}
	c.origin(obj)
	return c.unlessGitWantsOther(obj, c.tellOf(row, obj))
}

// add appends a link about obj, whose events are then told; step and name are the
// object's where the link leaves them out.
func (c *chain) add(obj schema.Object, l Link) {
	info := schema.Info(schema.KindOf(obj))
	if l.Step == "" {
		l.Step = info.Singular
	}
	if l.Name == "" {
		l.Name = obj.GetName()
		if info.Namespaced {
			l.Name = obj.GetNamespace() + "/" + obj.GetName()
		}
	}
	c.Links = append(c.Links, l)
	c.about = append(c.about, obj)
}

// origin tells where an object stands in Git.
func (c *chain) origin(obj schema.Object) {
	o := schema.OriginOf(obj)
	if o.Source == "" {
		return
	}
	commit := Link{Step: "commit", Name: o.Commit.Short(), OK: true}
	if rev, ok := state.Revision(c.r, o.Revision()); ok {
		commit.State = fmt.Sprintf("%q by %s, revision %s is %s", rev.Spec.Subject, rev.Spec.Author, rev.Name, rev.Status.Phase)
		commit.OK = !slices.Contains([]schema.Phase{schema.PhaseFailed, schema.PhaseRolledBack, schema.PhaseHeld, schema.PhaseStalled, schema.PhaseInvalid}, rev.Status.Phase)
		if !rev.Spec.Time.IsZero() {
			commit.At = &rev.Spec.Time
		}
	} else if o.Author != "" {
		commit.State = "by " + o.Author
	}
	c.Author, c.File = o.Author, schema.Position{Path: o.Path, Line: o.Line}.String()
	file := Link{Step: "file", Name: c.File, State: "of source " + string(o.Source), OK: true}
	built := c.built(obj)
	if built.By != "" {
		file.State += ", built by the kustomization in " + built.By
	}
	c.Links = append(c.Links, commit, file)
	for _, s := range built.Set {
		l := Link{Step: "set by", Name: s.At, State: s.By + ": " + strings.Join(s.Fields, ", "), OK: true}
		if s.More > 0 {
			l.State += fmt.Sprintf(" and %d more", s.More)
		}
		c.Links = append(c.Links, l)
	}
}

// built is how an object was built, or what it is derived from.
func (c *chain) built(obj schema.Object) schema.Built {
	for range maxOwners {
		ref := metav1.GetControllerOf(obj)
		if ref == nil {
			break
		}
		info, _ := schema.Lookup(schema.Kind(ref.Kind))
		owner := c.r.Get(schema.Key{Kind: info.Kind, Namespace: obj.GetNamespace(), Name: ref.Name})
		if owner == nil {
			break
		}
		obj = owner
	}
	return schema.BuiltOf(obj)
}

// maxOwners is more than there are between a pod and what stands in Git.
const maxOwners = 4

// owners tells what made an object, from the top.
func (c *chain) owners(obj schema.Object) {
	ref := metav1.GetControllerOf(obj)
	if ref == nil {
		return
	}
	info, ok := schema.Lookup(schema.Kind(ref.Kind))
	if !ok {
		return
	}
	owner := c.r.Get(schema.Key{Kind: info.Kind, Namespace: obj.GetNamespace(), Name: ref.Name})
	if owner == nil {
		return
	}
	c.owners(owner)
	c.workload(owner)
}

// tellEvents gathers the newest events of the objects in the chain.
func (c *chain) tellEvents() {
	all := slices.SortedFunc(state.All[*corev1.Event](c.r, ""), func(a, b *corev1.Event) int {
		return cmp.Or(b.LastTimestamp.Compare(a.LastTimestamp.Time), cmp.Compare(version(b), version(a)))
	})
	for _, e := range all {
		if len(c.Events) == MaxEvents {
			return
		}
		if i := c.subject(e); i >= 0 {
			c.Events = append(c.Events, Event{
				At: e.LastTimestamp, Object: schema.KeyOf(c.about[i]).String(), Type: e.Type, Reason: e.Reason, Message: e.Message, Count: max(1, e.Count),
			})
		}
	}
}

// version orders changes of the same second.
func version(obj schema.Object) uint64 {
	n, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	return n
}
