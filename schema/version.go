package schema

// KubernetesMajor and KubernetesMinor are the version of Kubernetes whose types,
// defaults and behaviour are followed, that of the k8s.io/api module: what the API and
// probes say of themselves.
const (
	KubernetesMajor = "1"
	KubernetesMinor = "37"
)
