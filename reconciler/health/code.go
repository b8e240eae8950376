package health

import (
	"fmt"
	"slices"

	"fairlead/schema"
)

// Code names a cause. The names are stable: alerts and scripts may rely on them.
// For a source whose repository cannot be followed it is the reason of its
// condition Fetched.
type Code string

// The codes, from what matters most of several to what matters least.
const (
	Recovering          Code = "Recovering"          // the master gathers the cluster of a lost store
	MostNodesSilent     Code = "MostNodesSilent"     // evictions are paused
	NodeSilent          Code = "NodeSilent"          // the node does not report
	NodeUnfit           Code = "NodeUnfit"           // the node lacks what containers need
	RuntimeUnavailable  Code = "RuntimeUnavailable"  // the node's container runtime does not answer
	NetworkFailing      Code = "NetworkFailing"      // the network of the node, or of a pod on it, cannot be made
	NodeNotReady        Code = "NodeNotReady"        // the node reports that it cannot work
	Parked              Code = "Parked"              // controllers undo each other's work on it
	BadAddress          Code = "BadAddress"          // the node reports an address, its own or a pod's, that it does not have
	Unknown             Code = "Unknown"             // Podman does not know what its container does
	ConmonDied          Code = "ConmonDied"          // nobody watches the container any more
	OOMKilled           Code = "OOMKilled"           // out of memory
	ConfigMissing       Code = "ConfigMissing"       // a key is not there, or what a container asks for cannot be
	ReferenceMissing    Code = "ReferenceMissing"    // a ConfigMap or Secret is not there
	NodeFailing         Code = "NodeFailing"         // the node cannot start the container, and the container is not why
	ImagePull           Code = "ImagePull"           // the registry has no such image
	ImageNotOnNode      Code = "ImageNotOnNode"      // the image may not be pulled and is not there
	RegistryDenied      Code = "RegistryDenied"      // the registry does not let the node have the image
	RegistryUnavailable Code = "RegistryUnavailable" // nobody can say whether the image can be had
	StartFailing        Code = "StartFailing"        // the container cannot be started
	SetupFailing        Code = "SetupFailing"        // the pod's volumes cannot be made
	CrashLoop           Code = "CrashLoop"           // the container ends again and again
	HookFailing         Code = "HookFailing"         // its postStart hook fails
	ProbeFailing        Code = "ProbeFailing"        // it runs and a probe says no
	EndUnseen           Code = "EndUnseen"           // the container ended and nobody saw how
	NodeRebooted        Code = "NodeRebooted"        // the container ended with its node
	NoCapacity          Code = "NoCapacity"          // no node has room
	NoReadyNode         Code = "NoReadyNode"         // the nodes that would do are not ready
	NoFittingNode       Code = "NoFittingNode"       // no node is what the pod asks for
	NoMatchingPods      Code = "NoMatchingPods"      // a service selects no pod
	NoMatchingPort      Code = "NoMatchingPort"      // a service's port is none of its pods'
	AddressRefused      Code = "AddressRefused"      // a service asks for an address or port it cannot have
	AddressesExhausted  Code = "AddressesExhausted"  // no address or node port is free
	Invalid             Code = "Invalid"             // the tree has errors
	TreeEmpty           Code = "TreeEmpty"           // the tree is empty, and everything would go
	PruneGuard          Code = "PruneGuard"          // more would go than may go at once
	NoWayBack           Code = "NoWayBack"           // it failed, and what was healthy cannot be applied any more
	Held                Code = "Held"                // a guard of which this program knows nothing holds it
	Quarantined         Code = "Quarantined"         // the tree failed and the cluster went back
	NothingToGoBackTo   Code = "NothingToGoBackTo"   // it failed, and nothing before it has run well for long enough
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
	Developer        Actor = "developer" // commits a fix
	Operator         Actor = "operator"  // capacity, nodes, their credentials
	RegistryOperator Actor = "registry"  // whoever runs the registry
	Nobody           Actor = "nobody"    // it is as it should be, or on its way
)

// Rule is whose fault a code tells of, who must act and what is to be done.
type Rule struct {
	Code  Code
	Actor Actor
	Fault Fault
	Todo  string // one sentence, no full stop
}

// Fault is whose doing it is that something is not well. What is the revision's own
// takes it back; what is the cluster's or the registry's never does.
type Fault string

// The faults.
const (
	NoFault  Fault = ""         // nothing is known to be wrong yet, or it is too early to tell
	Revision Fault = "revision" // what was committed
	Cluster  Fault = "cluster"  // room, a node, the network
	Registry Fault = "registry" // an image, or who has it
)

// rules are in the order of the codes: of several causes the first one is told.
var rules = []Rule{
	{Recovering, Operator, Cluster, "bring back the nodes that are waited for; what runs keeps running"},
	{MostNodesSilent, Operator, Cluster, "check the master's own network first; nothing is moved and no node is given up meanwhile"},
	{NodeSilent, Operator, Cluster, "check the node or its network; its pods are replaced once their tolerance is over"},
	{NodeUnfit, Operator, Cluster, "run `fairlead doctor` on the node and do what it says; the node looks again by itself, and what waits for it starts then"},
	{RuntimeUnavailable, Operator, Cluster, "check Podman on the node: its service, its storage and the disk below; what runs keeps running"},
	{NetworkFailing, Operator, Cluster, "check the node's network: its links, its nftables, and the addresses left in its range"},
	{NodeNotReady, Operator, Cluster, "check the node"},
	{Parked, Operator, Cluster, "restart the master or change the object in Git, and report it: it is a fault of ours"},
	{BadAddress, Operator, Cluster, "check the node: it reports an address that is not its own or its pods', as one that its agent kept from another range"},
	{Unknown, Operator, NoFault, "look at the container on its node: Podman has lost it"},
	{ConmonDied, Operator, NoFault, "find out what killed conmon on the node; the container is replaced by itself"},
	{OOMKilled, Developer, Revision, "raise the memory limit, or make the program need less, and commit"},
	{ConfigMissing, Developer, Revision, "add or correct what the message names, and commit"},
	{ReferenceMissing, Developer, Cluster, "commit it to this source or another; the pods that wait for it start then by themselves"},
	{NodeFailing, Operator, Cluster, "repair the node: the message says what it lacks, `fairlead doctor` there may say more; the start is tried again by itself"},
	{ImagePull, Developer, Revision, "push the image, or name one that exists and commit"},
	{ImageNotOnNode, Developer, Revision, "have an operator load the image on the node, or push it to a registry and commit a reference to it there that may be pulled"},
	{RegistryDenied, Operator, Registry, "give the node credentials for the registry, in auth.json in its agent's directory, or have the image's owner let it read; many registries say the same of an image that does not exist, so compare the name too"},
	{RegistryUnavailable, RegistryOperator, Registry, "bring the registry back, or make it reachable from the node; the pull is tried again by itself"},
	{StartFailing, Developer, Revision, "correct command, image or limits and commit"},
	{SetupFailing, Developer, Revision, "correct the volume and commit, or provide on the node what it names"},
	{CrashLoop, Developer, Revision, "read the log, fix the program or its configuration and commit"},
	{HookFailing, Developer, Revision, "fix the postStart hook or the program and commit"},
	{ProbeFailing, Developer, Revision, "fix the program or the probe and commit"},
	{EndUnseen, Operator, NoFault, "find out what ended the container and who watched it on the node, its log may tell; it is started again"},
	{NodeRebooted, Operator, NoFault, "find out why the node booted; its containers are started again"},
	{NoCapacity, Operator, Cluster, "add a node or free room; the rollout then resumes"},
	{NoReadyNode, Operator, Cluster, "check the nodes that are not ready, or let them take pods again; the rollout then resumes"},
	{NoFittingNode, Developer, Cluster, "ask for a node that exists and commit, or have an operator label or untaint one"},
	{NoMatchingPods, Developer, Revision, "make the selector and the pods' labels agree and commit"},
	{NoMatchingPort, Developer, Revision, "give the container's port that name, or set targetPort to one that the pods have, and commit"},
	{AddressRefused, Developer, Revision, "leave the address or port to the cluster, or name another, and commit"},
	{AddressesExhausted, Operator, Cluster, "remove services that are not needed; the rollout then resumes"},
	{Invalid, Developer, Revision, "correct the tree and commit"},
	{TreeEmpty, Developer, Revision, "bring the tree back, or have the source read the right directory; to let everything go, commit with the trailer " + schema.TrailerAllowPrune},
	{PruneGuard, Developer, Revision, "bring back what is missing, or let it go by a commit with the trailer " + schema.TrailerAllowPrune},
	{NoWayBack, Developer, Revision, "commit a fix, or remove what the reason names: it then goes back by itself"},
	{Held, Developer, Revision, "commit a fix, or commit with the trailer that lifts the guard"},
	{Quarantined, Developer, Revision, "commit a fix; the same tree is not tried again without the trailer " + schema.TrailerRetry},
	{NothingToGoBackTo, Developer, Revision, "commit a fix: no revision before it has run well for long enough to go back to"},
	{Failed, Developer, Revision, "commit a fix, or go back with `fairlead rollback`"},
	{Stalled, Operator, Cluster, "provide what is missing; the rollout then resumes"},
	{SourceTrouble, Operator, Cluster, "check the repository; what ran keeps running"},
	{Unschedulable, Operator, Cluster, "let the node take pods again when it may"},
	{StopFailing, Operator, Cluster, "check the container on its node: it cannot be ended"},
	{StopIgnored, Developer, Revision, "make the program end on the stop signal, or give it a longer terminationGracePeriodSeconds, and commit"},
	{RollingOut, Nobody, NoFault, "it is in progress; follow it with `fairlead status --wait`"},
	{Draining, Nobody, NoFault, "it is asked to end once no node sends it new requests, after five seconds at the latest"},
	{Terminating, Nobody, NoFault, "it is being deleted"},
	{Superseded, Nobody, NoFault, "a newer commit replaced it"},
	{Completed, Nobody, NoFault, "it has done its work"},
	{Healthy, Nobody, NoFault, "all is as Git asks"},
}

// sourceRules are for the reasons for which a source's repository gives nothing new.
var sourceRules = []Rule{
	{schema.ReasonUnreachable, Operator, Cluster, "make the repository reachable from the master; what ran keeps running"},
	{schema.ReasonUnauthorized, Operator, Cluster, "give the source credentials that the repository takes"},
	{schema.ReasonBadCredentials, Operator, Cluster, "correct the file with the source's credentials"},
	{schema.ReasonBadURL, Operator, Cluster, "correct the source's url"},
	{schema.ReasonBadRepository, Operator, Cluster, "repair the repository; what ran keeps running"},
	{schema.ReasonTooLarge, Developer, Revision, "make the repository smaller"},
	{schema.ReasonNotStored, Operator, Cluster, "free space on the master's disk"},
	{schema.ReasonBranchGone, Developer, Revision, "push the branch again, or have the source follow another"},
	{schema.ReasonRewound, Developer, Revision, "push a branch that contains what runs, or a commit with the trailer " + schema.TrailerAllowRewind},
	{schema.ReasonPathGone, Developer, Revision, "push the directory that the source reads, or have it read another"},
	{schema.ReasonTreeRefused, Developer, Revision, "make the tree smaller"},
}

// RuleOf is the code's row, and its rank: of several causes the one of the lowest
// rank is told.
func RuleOf(code Code) (rank int, r Rule) {
	if i := slices.IndexFunc(sourceRules, func(r Rule) bool { return r.Code == code }); i >= 0 {
		rank, _ = RuleOf(SourceTrouble)
		return rank, sourceRules[i]
	}
	rank = slices.IndexFunc(rules, func(r Rule) bool { return r.Code == code })
	if rank < 0 {
		panic(fmt.Sprintf("health: no rule for %q", code))
	}
	return rank, rules[rank]
}

// Rules are the rows of all codes.
func Rules() []Rule { return slices.Concat(rules, sourceRules) }

// OfSource reports whether the code tells of a source's repository.
func (c Code) OfSource() bool {
	return slices.ContainsFunc(sourceRules, func(r Rule) bool { return r.Code == c })
}
