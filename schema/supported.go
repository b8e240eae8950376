package schema

import (
	"fmt"
	"strings"
)

// Treatment is what Fairlead does with a field that Kubernetes knows.
type Treatment int

// Nothing is silently ignored: a field is acted on, dropped with a warning, or
// refused.
const (
	Restricts   Treatment = iota // not acted on, and leaving it out would loosen what the user asked for: always refused
	Adds                         // not acted on, only adds behaviour: refused, or with `unsupported: warn` left out with a warning
	Supported                    // acted on
	Meaningless                  // has no meaning here: kept, with a warning
	ServerSet                    // written by a server, never by a person: dropped with a warning
)

// FieldSupport is one field of the table of supported fields.
type FieldSupport struct {
	Treatment Treatment
	Values    []string // if not empty, only these and "" are supported
	Nothing   []string // values of a field that is not acted on which ask for what happens anyway: they are accepted
	Note      string   // why, or what to do instead; may be empty
	children  map[string]*FieldSupport
}

var (
	everything = &FieldSupport{Treatment: Supported}
	unlisted   = &FieldSupport{Treatment: Restricts}
)

// Field is what the table says of a field or map key below f. List elements
// are not steps of the path. It is never nil.
func (f *FieldSupport) Field(name string) *FieldSupport {
	if f.children == nil {
		return everything
	}
	if c := f.children[name]; c != nil {
		return c
	}
	return unlisted
}

// SupportedFields is the table for a kind that may stand in Git; other kinds
// panic. The result is shared; do not change it.
func SupportedFields(kind Kind) *FieldSupport {
	f := supported[kind]
	if f == nil {
		panic(fmt.Sprintf("schema: no supported fields for kind %q", kind))
	}
	return f
}

var supported = compileSupport()

func compileSupport() map[Kind]*FieldSupport {
	tables := map[Kind][]string{
		KindNamespace:  {metadataFields, namespaceFields},
		KindDeployment: {metadataFields, deploymentFields, below("spec.template.spec", podSpecFields)},
		KindPod:        {metadataFields, below("spec", podSpecFields)},
		KindService:    {metadataFields, serviceFields},
		KindConfigMap:  {metadataFields, configMapFields},
		KindSecret:     {metadataFields, secretFields},
		KindSource:     {metadataFields, sourceFields},
	}
	out := make(map[Kind]*FieldSupport, len(tables))
	for kind, parts := range tables {
		root := &FieldSupport{Treatment: Supported, children: make(map[string]*FieldSupport)}
		for line := range strings.Lines(strings.Join(parts, "\n")) {
			root.add(strings.TrimSpace(line))
		}
		out[kind] = root
	}
	return out
}

// below expands the @container and @probe parts and puts every line of a table
// below a prefix.
func below(prefix, table string) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		path, part, found := strings.Cut(strings.TrimSpace(line), " @")
		switch {
		case path == "":
		case found:
			b.WriteString(below(prefix+"."+path, map[string]string{"container": containerFields, "probe": probeFields}[part]))
		default:
			b.WriteString(prefix + "." + path + "\n")
		}
	}
	return b.String()
}

func (f *FieldSupport) add(line string) {
	if line == "" {
		return
	}
	path, rest, _ := strings.Cut(line, " ")
	leaf := f
	fresh := false
	for name := range strings.SplitSeq(path, ".") {
		fresh = leaf.children[name] == nil
		if leaf.children == nil {
			leaf.children = make(map[string]*FieldSupport)
		}
		next := leaf.children[name]
		if next == nil {
			next = &FieldSupport{Treatment: Supported}
			leaf.children[name] = next
		}
		leaf = next
	}
	if rest == "" {
		return
	}
	sign, note, _ := strings.Cut(strings.TrimSpace(rest), " ")
	switch sign {
	case "=":
		leaf.Values = strings.Split(note, " | ")
		return
	case "?":
		leaf.Nothing = strings.Split(note, " | ")
		if fresh {
			leaf.Treatment = Restricts
		}
		return
	case "~":
		leaf.Treatment = Meaningless
	case "+":
		leaf.Treatment = Adds
	case "!":
		leaf.Treatment = Restricts
	case "-":
		leaf.Treatment = ServerSet
	default:
		panic(fmt.Sprintf("schema: supported fields: %q", line))
	}
	leaf.Note = note
}

// The tables: one field a line, list indexes left out. A path alone is
// supported with all that is below it, unless deeper paths are listed; then
// only those are. What is not listed is refused as something that restricts. What is
// empty says nothing and is accepted anywhere, but where a choice is made by it, as
// among the kinds of volumes.
//
//	path = a | b   only these values
//	path ~ note    has no meaning here
//	path + note    not acted on yet, only adds behaviour
//	path ! note    not acted on yet, restricts; listed for the note
//	path - note    set by a server
//	path ? a | b   values of what is not acted on that change nothing
const (
	metadataFields = `
		apiVersion
		kind
		metadata.name
		metadata.namespace
		metadata.labels
		metadata.annotations
		metadata.generateName ! an object in Git needs a fixed name
		metadata.finalizers ! a deletion is decided by Git alone
		metadata.uid -
		metadata.resourceVersion -
		metadata.generation -
		metadata.creationTimestamp -
		metadata.deletionTimestamp -
		metadata.deletionGracePeriodSeconds -
		metadata.managedFields -
		metadata.ownerReferences -
		metadata.selfLink -
		status -`

	namespaceFields = `
		spec.finalizers -`

	deploymentFields = `
		spec.replicas
		spec.selector
		spec.strategy
		spec.minReadySeconds
		spec.revisionHistoryLimit
		spec.progressDeadlineSeconds
		spec.paused = false
		spec.template.metadata.labels
		spec.template.metadata.annotations
		spec.template.metadata.name ~ pods are named after their Deployment
		spec.template.metadata.namespace ~ pods live in their Deployment's namespace
		spec.template.metadata.creationTimestamp -`

	podSpecFields = `
		containers @container
		initContainers @container
		restartPolicy
		terminationGracePeriodSeconds
		nodeSelector
		affinity.nodeAffinity
		tolerations
		hostname
		subdomain
		dnsPolicy = ClusterFirst | Default | None
		dnsConfig
		enableServiceLinks
		volumes.name
		volumes.configMap.name
		volumes.configMap.items.key
		volumes.configMap.items.path
		volumes.configMap.items.mode
		volumes.configMap.defaultMode
		volumes.configMap.optional
		volumes.secret.secretName
		volumes.secret.items.key
		volumes.secret.items.path
		volumes.secret.items.mode
		volumes.secret.defaultMode
		volumes.secret.optional
		volumes.emptyDir.medium = Memory
		volumes.emptyDir.sizeLimit
		volumes.hostPath.path
		volumes.hostPath.type
		volumes.projected.defaultMode
		volumes.projected.sources.configMap.name
		volumes.projected.sources.configMap.items.key
		volumes.projected.sources.configMap.items.path
		volumes.projected.sources.configMap.items.mode
		volumes.projected.sources.configMap.optional
		volumes.projected.sources.secret.name
		volumes.projected.sources.secret.items.key
		volumes.projected.sources.secret.items.path
		volumes.projected.sources.secret.items.mode
		volumes.projected.sources.secret.optional
		serviceAccountName ~ pods have no identity towards the API
		serviceAccountName ? default
		serviceAccount ~ pods have no identity towards the API
		serviceAccount ? default
		automountServiceAccountToken ~ no token is ever mounted
		automountServiceAccountToken ? false
		schedulerName = default-scheduler
		os.name = linux
		hostNetwork = false
		hostPID = false
		hostIPC = false
		hostUsers = true
		shareProcessNamespace = false
		setHostnameAsFQDN = false
		securityContext.runAsNonRoot ? false
		securityContext.fsGroupChangePolicy ? Always
		securityContext.supplementalGroupsPolicy ? Merge
		nodeName ! use nodeSelector or affinity.nodeAffinity with kubernetes.io/hostname
		hostAliases +
		imagePullSecrets +
		priorityClassName +
		priority +
		priority ? 0
		preemptionPolicy +
		preemptionPolicy ? PreemptLowerPriority`

	containerFields = `
		name
		image
		command
		args
		workingDir
		env.name
		env.value
		env.valueFrom.configMapKeyRef
		env.valueFrom.secretKeyRef
		env.valueFrom.fieldRef
		envFrom
		ports.name
		ports.containerPort
		ports.hostPort
		ports.protocol = TCP | UDP
		ports.hostIP ? 0.0.0.0
		resources.requests.cpu
		resources.requests.memory
		resources.limits.cpu
		resources.limits.memory
		volumeMounts.name
		volumeMounts.mountPath
		volumeMounts.readOnly
		volumeMounts.subPath
		volumeMounts.mountPropagation = None
		volumeMounts.recursiveReadOnly = Disabled
		readinessProbe @probe
		livenessProbe @probe
		startupProbe @probe
		imagePullPolicy
		terminationMessagePath
		terminationMessagePolicy
		securityContext.privileged ? false
		securityContext.readOnlyRootFilesystem ? false
		securityContext.runAsNonRoot ? false
		securityContext.allowPrivilegeEscalation ? true
		securityContext.procMount ? Default
		stdin = false
		stdinOnce = false
		tty = false
		lifecycle +
		resizePolicy +`

	probeFields = `
		httpGet.path
		httpGet.port
		httpGet.scheme
		httpGet.httpHeaders
		tcpSocket.port
		exec.command
		initialDelaySeconds
		timeoutSeconds
		periodSeconds
		successThreshold
		failureThreshold`

	serviceFields = `
		spec.type = ClusterIP | NodePort
		spec.selector
		spec.ports.name
		spec.ports.protocol = TCP | UDP
		spec.ports.port
		spec.ports.targetPort
		spec.ports.nodePort
		spec.ports.appProtocol ~ connections are forwarded as they are
		spec.clusterIP
		spec.clusterIPs
		spec.publishNotReadyAddresses
		spec.sessionAffinity = None
		spec.externalTrafficPolicy
		spec.internalTrafficPolicy = Cluster
		spec.ipFamilies = IPv4
		spec.ipFamilyPolicy = SingleStack
		spec.trafficDistribution +
		spec.loadBalancerClass +
		spec.healthCheckNodePort ? 0
		spec.allocateLoadBalancerNodePorts +
		spec.allocateLoadBalancerNodePorts ? true`

	configMapFields = `
		data
		binaryData
		immutable`

	secretFields = `
		data
		stringData
		type
		immutable`

	sourceFields = `
		spec`
)
