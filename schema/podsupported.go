package schema

// What is acted on of pods, wherever they stand, and of their containers and probes.
const (
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
)
