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

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// APIVersion is the version of the JSON form.
const APIVersion = "fairlead/why/v1"

// Code names a cause. The names are stable: alerts and scripts may rely on them.
// For a source whose repository cannot be followed it is the reason of its
// condition Fetched.
type Code string

// The codes, from what matters most of several to what matters least.
const (
	Recovering          Code = "Recovering"          // the master gathers the cluster of a lost store
	MostNodesSilent     Code = "MostNodesSilent"     // the leader doubts itself
	NodeSilent          Code = "NodeSilent"          // the node does not report
	RuntimeUnavailable  Code = "RuntimeUnavailable"  // the node's container runtime does not answer
	NetworkFailing      Code = "NetworkFailing"      // the network of the node, or of a pod on it, cannot be made
	NodeNotReady        Code = "NodeNotReady"        // the node reports that it cannot work
	Parked              Code = "Parked"              // controllers undo each other's work on it
	BadAddress          Code = "BadAddress"          // the node reports an address, its own or a pod's, that it does not have
	Unknown             Code = "Unknown"             // Podman does not know what its container does
	ConmonDied          Code = "ConmonDied"          // nobody watches the container any more
	OOMKilled           Code = "OOMKilled"           // out of memory
	ConfigMissing       Code = "ConfigMissing"       // a ConfigMap, Secret or key is not there
	ImagePull           Code = "ImagePull"           // the image cannot be had
	ImageNotOnNode      Code = "ImageNotOnNode"      // the image may not be pulled and is not there
	RegistryUnavailable Code = "RegistryUnavailable" // nobody can say whether the image can be had
	StartFailing        Code = "StartFailing"        // the container cannot be started
	SetupFailing        Code = "SetupFailing"        // the pod's volumes cannot be made
	CrashLoop           Code = "CrashLoop"           // the container ends again and again
	ProbeFailing        Code = "ProbeFailing"        // it runs and a probe says no
	EndUnseen           Code = "EndUnseen"           // the container ended and nobody saw how
	NodeRebooted        Code = "NodeRebooted"        // the container ended with its node
	NoCapacity          Code = "NoCapacity"          // no node has room
	NoReadyNode         Code = "NoReadyNode"         // the nodes that would do are not ready
	NoFittingNode       Code = "NoFittingNode"       // no node is what the pod asks for
	NoMatchingPods      Code = "NoMatchingPods"      // a service selects no pod
	AddressRefused      Code = "AddressRefused"      // a service asks for an address or port it cannot have
	AddressesExhausted  Code = "AddressesExhausted"  // no address or node port is free
	Invalid             Code = "Invalid"             // the tree has errors
	TreeEmpty           Code = "TreeEmpty"           // the tree is empty, and everything would go
	PruneGuard          Code = "PruneGuard"          // more would go than may go at once
	NoWayBack           Code = "NoWayBack"           // it failed, and what was healthy cannot be applied any more
	Held                Code = "Held"                // a guard of which this program knows nothing holds it
	Quarantined         Code = "Quarantined"         // the tree failed and the cluster went back
	NothingToGoBackTo   Code = "NothingToGoBackTo"   // it failed, and nothing before it was healthy
	Failed              Code = "Failed"              // it failed and stays, as its source says
	Stalled             Code = "Stalled"             // it waits for room, a node or an image
	SourceTrouble       Code = "SourceTrouble"       // the repository cannot be read or followed
	Unschedulable       Code = "Unschedulable"       // the node takes no new pods
	StopFailing         Code = "StopFailing"         // the node cannot end the pod
	StopIgnored         Code = "StopIgnored"         // it did not end when asked to, and is killed
	RollingOut          Code = "RollingOut"          // under way
	Draining            Code = "Draining"            // on its way out of every node's tables
	Terminating         Code = "Terminating"         // on its way out
	Superseded          Code = "Superseded"          // a newer commit took its place
	Completed           Code = "Completed"           // it has done its work
	Healthy             Code = "Healthy"             // as Git asks
)

// Actor is who must act.
type Actor string

// The actors.
const (
	Developer Actor = "developer" // commits a fix
	Operator  Actor = "operator"  // capacity, nodes, registries
	Nobody    Actor = "nobody"    // it is as it should be, or on its way
)

// rule is what is to be done about a code.
type rule struct {
	code  Code
	actor Actor
	todo  string
}

// rules are in the order of the codes: of several causes the first one is told.
var rules = []rule{
	{Recovering, Operator, "bring back the nodes that are waited for; what runs goes on running"},
	{MostNodesSilent, Operator, "see to the master's own network first; nothing is moved and no node is given up meanwhile"},
	{NodeSilent, Operator, "see to the node or its network; its pods are replaced once their tolerance is over"},
	{RuntimeUnavailable, Operator, "see to Podman on the node: its service, its storage and the disk below; what runs goes on running"},
	{NetworkFailing, Operator, "see to the node's network: its links, its nftables, and the addresses left in its range"},
	{NodeNotReady, Operator, "see to the node"},
	{Parked, Operator, "restart the master or change the object in Git, and report it: it is a fault of ours"},
	{BadAddress, Operator, "see to the node: it reports an address that is not its own or its pods', as one that its agent kept from another range"},
	{Unknown, Operator, "look at the container on its node: Podman has lost it"},
	{ConmonDied, Operator, "find out what killed conmon on the node; the container is replaced by itself"},
	{OOMKilled, Developer, "raise the memory limit, or make the program need less, and commit"},
	{ConfigMissing, Developer, "add what is missing to the tree and commit"},
	{ImagePull, Developer, "push the image, or name one that exists and commit"},
	{ImageNotOnNode, Developer, "have an operator put the image on the node, or commit an imagePullPolicy that allows to pull it"},
	{RegistryUnavailable, Operator, "make the registry reachable from the node"},
	{StartFailing, Developer, "correct command, image or limits and commit"},
	{SetupFailing, Developer, "correct the volume and commit, or provide on the node what it names"},
	{CrashLoop, Developer, "read the log, fix the program or its configuration and commit"},
	{ProbeFailing, Developer, "fix the program or the probe and commit"},
	{EndUnseen, Operator, "find out what ended the container and who watched it on the node, its log may tell; it is started again"},
	{NodeRebooted, Operator, "find out why the node booted; its containers are started again"},
	{NoCapacity, Operator, "add a node or free room; it goes on by itself"},
	{NoReadyNode, Operator, "see to the nodes that are not ready, or let them take pods again; it goes on by itself"},
	{NoFittingNode, Developer, "ask for a node that exists and commit, or have an operator label or untaint one"},
	{NoMatchingPods, Developer, "make the selector and the pods' labels agree and commit"},
	{AddressRefused, Developer, "leave the address or port to the cluster, or name another, and commit"},
	{AddressesExhausted, Operator, "take away services that are not needed; it goes on by itself"},
	{Invalid, Developer, "correct the tree and commit"},
	{TreeEmpty, Developer, "bring the tree back, or have the source read the right directory; to let everything go, commit with the trailer " + schema.TrailerAllowPrune},
	{PruneGuard, Developer, "bring back what is missing, or let it go by a commit with the trailer " + schema.TrailerAllowPrune},
	{NoWayBack, Developer, "commit a fix: the revision before can no longer be applied"},
	{Held, Developer, "commit a tree that goes ahead, or one with the trailer that lifts the guard"},
	{Quarantined, Developer, "commit a fix; the same tree is not tried again without the trailer " + schema.TrailerRetry},
	{NothingToGoBackTo, Developer, "commit a fix: no revision before it was healthy"},
	{Failed, Developer, "commit a fix, or go back with `fairlead rollback`"},
	{Stalled, Operator, "provide what is missing; it goes on by itself"},
	{SourceTrouble, Operator, "see to the repository; what ran goes on running"},
	{Unschedulable, Operator, "let the node take pods again when it may"},
	{StopFailing, Operator, "see to the container on its node: it cannot be ended"},
	{StopIgnored, Developer, "have the program end when it hears the stop signal, or give it a longer terminationGracePeriodSeconds, and commit"},
	{RollingOut, Nobody, "it is on its way; follow it with `fairlead status --wait`"},
	{Draining, Nobody, "it is asked to end once no node sends it new requests, after five seconds at the latest"},
	{Terminating, Nobody, "it is on its way out"},
	{Superseded, Nobody, "a newer commit took its place"},
	{Completed, Nobody, "it has done its work"},
	{Healthy, Nobody, "all is as Git asks"},
}

// sourceRules are for the reasons for which a source's repository gives nothing new.
var sourceRules = []rule{
	{schema.ReasonUnreachable, Operator, "make the repository reachable from the master; what ran goes on running"},
	{schema.ReasonUnauthorized, Operator, "give the source credentials that the repository takes"},
	{schema.ReasonBadCredentials, Operator, "correct the file with the source's credentials"},
	{schema.ReasonBadURL, Operator, "correct the source's url"},
	{schema.ReasonBadRepository, Operator, "repair the repository; what ran goes on running"},
	{schema.ReasonTooLarge, Developer, "make the repository smaller"},
	{schema.ReasonNotStored, Operator, "give the master's disk room"},
	{schema.ReasonBranchGone, Developer, "push the branch again, or have the source follow another"},
	{schema.ReasonRewound, Developer, "push a branch that contains what runs, or a commit with the trailer " + schema.TrailerAllowRewind},
	{schema.ReasonPathGone, Developer, "push the directory that the source reads, or have it read another"},
	{schema.ReasonTreeRefused, Developer, "make the tree smaller"},
}

func ruleOf(code Code) (rank int, r rule) {
	if i := slices.IndexFunc(sourceRules, func(r rule) bool { return r.code == code }); i >= 0 {
		rank, _ = ruleOf(SourceTrouble)
		return rank, sourceRules[i]
	}
	rank = slices.IndexFunc(rules, func(r rule) bool { return r.code == code })
	if rank < 0 {
		panic(fmt.Sprintf("why: no rule for %q", code))
	}
	return rank, rules[rank]
}

// Chain is the answer. The JSON form is stable.
type Chain struct {
	APIVersion string  `json:"apiVersion"`
	Object     string  `json:"object"` // Kind namespace/name
	Code       Code    `json:"code"`
	Reason     string  `json:"reason"` // one sentence, no full stop
	Actor      Actor   `json:"actor"`
	Todo       string  `json:"todo"`
	Author     string  `json:"author,omitempty"` // who changed the object last
	File       string  `json:"file,omitempty"`   // path:line
	Links      []Link  `json:"links"`            // from the commit to the cause
	Events     []Event `json:"events"`           // newest first
	Log        *Log    `json:"log,omitempty"`
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
// fetches Lines; Error says why there are none.
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
	code Code
	text string
	log  *Log
}

// worse reports whether a is to be told rather than b.
func (a cause) worse(b cause) bool {
	rankA, _ := ruleOf(a.code)
	rankB, _ := ruleOf(b.code)
	return rankA < rankB
}

// chain is a Chain being made.
type chain struct {
	Chain
	r     state.Reader
	about []schema.Object // whose events are told
}

// Explain answers for the object of that key, which must be in r. The reader needs
// nodes, pods, replica sets, deployments, services, endpoint slices, events,
// sources and revisions.
func Explain(r state.Reader, key schema.Key) (*Chain, error) {
	obj := r.Get(key)
	if obj == nil {
		return nil, fmt.Errorf("there is no %s", key)
	}
	c := &chain{Chain: Chain{APIVersion: APIVersion, Object: key.String(), Links: []Link{}, Events: []Event{}}, r: r}
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
	c.settle(cause{code: Recovering, text: reason})
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
			return cause{code: Parked, text: e.Message}, true
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
	_, r := ruleOf(found.code)
	c.Code, c.Reason, c.Actor, c.Todo, c.Log = found.code, found.text, r.actor, r.todo, found.log
}

func (c *chain) explain(obj schema.Object) cause {
	switch obj := obj.(type) {
	case *corev1.Node:
		return c.node(obj.Name)
	case *schema.Revision:
		return c.revision(obj)
	case *schema.Source:
		return c.source(obj)
	}
	c.origin(obj)
	var found cause
	switch obj := obj.(type) {
	case *corev1.Pod:
		c.owners(obj)
		found = c.pod(obj)
	case *appsv1.ReplicaSet:
		c.owners(obj)
		found = c.replicaSet(obj)
	case *appsv1.Deployment:
		found = c.deployment(obj)
	case *corev1.Service:
		found = c.service(obj)
	default:
		c.add(obj, Link{State: "applied", OK: true})
		found = cause{code: Healthy, text: "it is as Git asks"}
	}
	return c.unlessGitWantsOther(obj, found)
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
	commit := Link{Step: "commit", Name: short(o.Commit), OK: true}
	if rev, ok := state.Get[*schema.Revision](c.r, "", schema.RevisionName(o.Source, o.Commit)); ok {
		commit.State = fmt.Sprintf("%q by %s, revision %s is %s", rev.Spec.Subject, rev.Spec.Author, rev.Name, rev.Status.Phase)
		commit.OK = !slices.Contains([]schema.Phase{schema.PhaseFailed, schema.PhaseRolledBack, schema.PhaseHeld, schema.PhaseStalled, schema.PhaseInvalid}, rev.Status.Phase)
		if !rev.Spec.Time.IsZero() {
			commit.At = &rev.Spec.Time
		}
	} else if o.Author != "" {
		commit.State = "by " + o.Author
	}
	c.Author, c.File = o.Author, schema.Position{Path: o.Path, Line: o.Line}.String()
	c.Links = append(c.Links, commit, Link{Step: "file", Name: c.File, State: "of source " + o.Source, OK: true})
}

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
	switch owner := owner.(type) {
	case *appsv1.ReplicaSet:
		c.owners(owner)
		c.add(owner, setLink(owner))
	case *appsv1.Deployment:
		c.add(owner, deploymentLink(owner))
	}
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

func short(commit string) string { return commit[:min(12, len(commit))] }
