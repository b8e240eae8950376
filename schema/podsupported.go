package schema

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// IgnoredOfPod is the first field by which a pod asks for what nodes do not act on, ""
// for none. Nodes refuse such a pod: it may come from a master of another version.
func IgnoredOfPod(spec *corev1.PodSpec) string {
	return ignored("", reflect.ValueOf(spec).Elem(), SupportedFields(KindPod).Field("spec"), false)
}

// ignored walks a value and the table side by side. What is empty asks for nothing, but
// for a scalar that is pointed to: that one was written.
func ignored(at string, v reflect.Value, f *FieldSupport, written bool) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		return ignored(at, v.Elem(), f, true)
	}
	scalar := v.Kind() != reflect.Struct && v.Kind() != reflect.Slice && v.Kind() != reflect.Map
	empty := v.IsZero() && !(written && scalar) || !scalar && v.Kind() != reflect.Struct && v.Len() == 0
	switch {
	case empty || f.OnNodes || f.Treatment == Meaningless || f.Treatment == ServerSet:
		return ""
	case f.Treatment != Supported:
		return unless(slices.Contains(f.Nothing, fmt.Sprint(v.Interface())), at)
	case len(f.Values) > 0:
		return unless(slices.Contains(f.Values, fmt.Sprint(v.Interface())), at)
	case f.children == nil:
		return ""
	}
	return ignoredBelow(at, v, f)
}

func unless(ok bool, at string) string {
	if ok {
		return ""
	}
	return at
}

func ignoredBelow(at string, v reflect.Value, f *FieldSupport) string {
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			if found := ignored(fmt.Sprintf("%s[%d]", at, i), v.Index(i), f, false); found != "" {
				return found
			}
		}
	case reflect.Map:
		keys := stringKeys(v)
		for _, key := range sortedKeys(keys) {
			if found := ignored(at+"["+key+"]", v.MapIndex(keys[key]), f.Field(key), true); found != "" {
				return found
			}
		}
	case reflect.Struct:
		for _, field := range fieldsOf(v.Type()) {
			below, support := at, f
			if !field.embedded {
				below, support = strings.TrimPrefix(at+"."+field.name, "."), f.Field(field.name)
			}
			if found := ignored(below, v.Field(field.index), support, false); found != "" {
				return found
			}
		}
	}
	return ""
}

// stringKeys are the keys of a map by their text.
func stringKeys(m reflect.Value) map[string]reflect.Value {
	out := make(map[string]reflect.Value, m.Len())
	for _, key := range m.MapKeys() {
		out[key.String()] = key
	}
	return out
}

// What is acted on of pods, wherever they stand, and of their containers, hooks and probes.
const (
	podSpecFields = `
		containers @container
		initContainers @container
		initContainers.restartPolicy = Always
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
		setHostnameAsFQDN
		securityContext.runAsUser
		securityContext.runAsGroup
		securityContext.runAsNonRoot
		securityContext.supplementalGroups
		securityContext.supplementalGroupsPolicy = Merge
		securityContext.fsGroup
		securityContext.fsGroupChangePolicy ? OnRootMismatch | Always
		securityContext.seccompProfile
		securityContext.sysctls
		nodeName ^
		nodeName ! use nodeSelector or affinity.nodeAffinity with kubernetes.io/hostname
		hostAliases
		activeDeadlineSeconds
		volumes.downwardAPI
		volumes.projected.sources.downwardAPI
		volumes.projected.sources.serviceAccountToken ! pods have no identity towards the API, and no token of one
		imagePullSecrets.name
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
		env.valueFrom.resourceFieldRef
		envFrom
		ports.name
		ports.containerPort
		ports.hostPort
		ports.protocol = TCP | UDP
		ports.hostIP ^
		ports.hostIP ? 0.0.0.0
		resources.requests.cpu
		resources.requests.memory
		resources.limits.cpu
		resources.limits.memory
		volumeMounts.name
		volumeMounts.mountPath
		volumeMounts.readOnly
		volumeMounts.subPath
		volumeMounts.subPathExpr
		volumeMounts.mountPropagation = None
		volumeMounts.mountPropagation ^
		volumeMounts.recursiveReadOnly = Disabled
		readinessProbe @probe
		livenessProbe @probe
		startupProbe @probe
		imagePullPolicy
		terminationMessagePath
		terminationMessagePolicy
		securityContext.runAsUser
		securityContext.runAsGroup
		securityContext.runAsNonRoot
		securityContext.privileged
		securityContext.allowPrivilegeEscalation
		securityContext.readOnlyRootFilesystem
		securityContext.capabilities
		securityContext.seccompProfile
		securityContext.procMount = Default
		stdin = false
		stdinOnce = false
		tty = false
		lifecycle.postStart @hook
		lifecycle.preStop @hook
		resizePolicy +`

	hookFields = `
		httpGet.path
		httpGet.port
		httpGet.scheme
		httpGet.httpHeaders
		tcpSocket.port
		exec.command
		sleep.seconds`

	probeFields = `
		httpGet.path
		httpGet.port
		httpGet.scheme
		httpGet.httpHeaders
		tcpSocket.port
		exec.command
		grpc.port
		grpc.service
		terminationGracePeriodSeconds
		initialDelaySeconds
		timeoutSeconds
		periodSeconds
		successThreshold
		failureThreshold`
)
