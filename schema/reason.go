package schema

import corev1 "k8s.io/api/core/v1"

// The reasons are the words by which nodes and master say in conditions, states
// and events what is wrong. Who reports writes them, package why reads them and
// nothing else: two faults that ask for different people, or for different acts,
// have two reasons. Where Kubernetes has a word for it, it is Kubernetes' word.

// Reasons for which a container waits.
const (
	ReasonCrashLoop           = "CrashLoopBackOff"
	ReasonErrImagePull        = "ErrImagePull"
	ReasonImagePullBackOff    = "ImagePullBackOff"  // ErrImagePull, again
	ReasonErrImageNeverPull   = "ErrImageNeverPull" // it may not be pulled, or names no registry, and is not on the node
	ReasonRegistryUnavailable = "RegistryUnavailable"
	ReasonRegistryDenied      = "RegistryDenied"             // the registry does not take this node's credentials, or wants some
	ReasonNodeError           = "NodeError"                  // the node, and not the pod, keeps the container from being fetched, made or started
	ReasonContainerConfig     = "CreateContainerConfigError" // a ConfigMap, Secret or key is missing
	ReasonContainerCreate     = "CreateContainerError"
	ReasonContainerRun        = "RunContainerError"
	// ReasonStatusUnknown of a container that waits: it lives, and the runtime
	// does not know it. Of one that ended: nobody saw how.
	ReasonStatusUnknown = "ContainerStatusUnknown"
)

// NotFound ends the message of ReasonContainerConfig where the whole ConfigMap or Secret
// is not there, and not just a key of it.
const NotFound = " not found"

// Reasons with which a container ended, beside Completed and Error.
const (
	ReasonOOMKilled    = "OOMKilled"
	ReasonUnhealthy    = "Unhealthy" // stopped for its liveness or startup probe; of an event: a probe failed
	ReasonNodeRebooted = "NodeRebooted"
	ReasonPostStart    = "PostStartHookError" // stopped because its postStart hook failed
)

// Reasons of a pod's events: a hook of a container failed.
const (
	ReasonPostStartFailed = "FailedPostStartHook"
	ReasonPreStopFailed   = "FailedPreStopHook"
)

// ReasonDeadlineExceeded is the reason of a pod that was active for longer than its
// activeDeadlineSeconds.
const ReasonDeadlineExceeded = "DeadlineExceeded"

// PostStartRuns is what a container says that runs and waits for its postStart hook to
// end.
const PostStartRuns = "its postStart hook runs"

// Reasons for which a pod's sandbox or volumes cannot be made, of its condition
// PodReadyToStartContainers; ReasonContainerConfig and ReasonNodeError are two of them.
const (
	ReasonSandbox = "FailedCreatePodSandBox" // namespaces, address, links
	ReasonMount   = "FailedMount"
)

// ReasonConmonDied is the reason of a pod's condition Ready: a container runs
// and nobody watches it any more.
const ReasonConmonDied = "ConmonDied"

// Reasons of a pod's events that say how its end goes.
const (
	ReasonTerminating         = "Terminating"
	ReasonKill                = "FailedKillPod"
	ReasonExceededGracePeriod = "ExceededGracePeriod" // SIGKILL had to follow
)

// ReasonServiceLinks is the reason of a pod's event: the services of its namespace are
// too many to make variables for.
const ReasonServiceLinks = "ServiceLinksLeftOut"

// ReasonProbeWarning is the reason of a pod's event: a probe passed, and may not have
// asked what was meant.
const ReasonProbeWarning = "ProbeWarning"

// ReasonBadAddress is the reason of a pod's event: its node gave it an address
// that is not the node's to give, and is not believed. It is one of a node's
// condition Ready too: the node reports an address that is not its own.
const ReasonBadAddress = "BadAddress"

// ReasonReportRefused is the reason of a node's event: it said what it may not say,
// which is not taken.
const ReasonReportRefused = "ReportRefused"

// ConditionLacking tells on a pod that no node takes it, in one word what for;
// PodScheduled tells it in all words.
const ConditionLacking corev1.PodConditionType = "Lacking"

// Its reasons.
const (
	ReasonNoCapacity    = "NoCapacity"    // a node would do and is full
	ReasonNoReadyNode   = "NoReadyNode"   // a node would do and is not ready, or takes no pods
	ReasonNoFittingNode = "NoFittingNode" // no node would do
)

// ReasonPlannedNodeFull is the reason of PodScheduled while a pod waits for room on
// the node where its revision planned it.
const ReasonPlannedNodeFull = "PlannedNodeFull"

// ConditionStale tells on a pod that its node has not been heard for a while:
// its status is as last reported, not as it is.
const ConditionStale corev1.PodConditionType = "Stale"

// ConditionPaused tells on a silent node that most nodes are silent at once, so that
// nothing is evicted. Its type keeps the name that it was published under.
const ConditionPaused corev1.NodeConditionType = "Doubted"

// ConditionStartsFailing tells on a node that it keeps pods from being started though it
// is ready. While it is true the node has the taint StartsFailing.
const ConditionStartsFailing corev1.NodeConditionType = "StartsFailing"

// Its reasons, beside ReasonNodeError while a pod waits for it.
const (
	ReasonStartsFailed = "StartsFailed" // no pod waits for it any more; it is avoided for a while
	ReasonStartsTried  = "StartsTried"  // it is used like any other again
)

// StartsFailing is the taint of a node that new pods avoid where another takes them.
var StartsFailing = corev1.Taint{Key: "fairlead/starts-failing", Effect: corev1.TaintEffectPreferNoSchedule}

// Reasons of a node's condition Ready, and of ConditionPaused. What a silent node
// suffers from the master cannot know: a machine without power, one that is cut
// off and an agent that does not run have one reason.
const (
	ReasonAgentReady         = "AgentReady"
	ReasonNodeSilent         = "NodeSilent"
	ReasonMostNodesSilent    = "MostNodesSilent"
	ReasonRuntimeUnavailable = "RuntimeUnavailable" // the container runtime answers nothing
	ReasonNetworkUnavailable = "NetworkUnavailable" // routes, services and names cannot be programmed
	ReasonNodeUnfit          = "NodeUnfit"          // a check of `fairlead doctor` that every node must pass fails there
)

// ConditionFetched is a Source's condition that tells whether its repository
// could be looked at.
const ConditionFetched = "Fetched"

// Its reasons.
const (
	ReasonFetched        = "Fetched"
	ReasonUnreachable    = "Unreachable"    // nobody answers, or no repository is there
	ReasonUnauthorized   = "Unauthorized"   // the remote does not take the credentials, or is not who it should be
	ReasonBadCredentials = "BadCredentials" // the credentials' file cannot be used
	ReasonBadURL         = "BadURL"         // the address is none that is followed
	ReasonBadRepository  = "BadRepository"  // what it sends is cut off, corrupt or no repository
	ReasonTooLarge       = "TooLarge"       // it sends more than is taken
	ReasonNotStored      = "NotStored"      // this machine cannot keep what it sends
	ReasonBranchGone     = "BranchGone"     // it has no such branch (any more)
	ReasonRewound        = "Rewound"        // the branch does not contain the commit that runs
	ReasonPathGone       = "PathGone"       // the commit has no such directory
	ReasonTreeRefused    = "TreeRefused"    // the commit's tree is beyond the bounds
)

// ConditionComplete is a Source's condition that tells whether all it applied is
// there; one that never missed anything has none.
const ConditionComplete = "Complete"

// Its reasons.
const (
	ReasonSetAside = "RecordsSetAside" // records could not be read at the master's start
	ReasonMadeAnew = "MadeAnew"
)

// ConditionHeld tells on a Revision that a guard holds it.
const ConditionHeld = "Held"

// Its reasons.
const (
	ReasonPruneGuard  = "PruneGuard"  // more would go than may go at once
	ReasonTreeEmpty   = "TreeEmpty"   // everything would go
	ReasonQuarantined = "Quarantined" // the same tree failed before
	ReasonNoWayBack   = "NoWayBack"   // it failed, and what was healthy cannot be applied any more
)

// ConditionSynced and ConditionHealthy say on a Revision what its status says in
// sync and health, for clients that know conditions. The reason of the first is its
// word, of the second a code of package health.
const (
	ConditionSynced  = "Synced"
	ConditionHealthy = "Healthy"
)

// ConditionAllocated tells on a Service whether it holds the cluster address and
// node ports in its spec. Its message when True names exactly what is held.
const ConditionAllocated = "Allocated"

// Its reasons.
const (
	ReasonAllocated           = "Allocated"
	ReasonClusterIPInUse      = "ClusterIPInUse"
	ReasonClusterIPOutOfRange = "ClusterIPOutOfRange"
	ReasonNodePortInUse       = "NodePortInUse"
	ReasonNodePortOutOfRange  = "NodePortOutOfRange"
	ReasonClusterIPsExhausted = "ClusterIPNotAllocated" // none of the range is free
	ReasonNodePortsExhausted  = "NodePortNotAllocated"
)

// ReasonParked is the reason of an event: controllers undid each other's work on
// the object and were taken out of the loop.
const ReasonParked = "Parked"

// ReasonRecovering is the reason of the API's refusals while the cluster of a
// lost store is gathered from its nodes.
const ReasonRecovering = "Recovering"
