package load

import (
	"fmt"
	"slices"
	"strings"

	"fairlead/schema"
	"fairlead/schema/load/kustomize"
)

// finding is why a document yields no object; the zero finding lets it through.
type finding struct {
	severity  schema.Severity
	message   string
	hint      string
	atVersion bool // it is about apiVersion, not kind
	unclear   bool // it is an object of a kind that is not known: it may be any
}

// meaninglessKinds say nothing to Fairlead: it has no identities for pods, and
// no objects of other kinds to describe or allow.
var meaninglessKinds = map[string]string{
	"ServiceAccount":           "pods have no identity towards the API",
	"Role":                     "pods have no identity towards the API",
	"RoleBinding":              "pods have no identity towards the API",
	"ClusterRole":              "pods have no identity towards the API",
	"ClusterRoleBinding":       "pods have no identity towards the API",
	"PodSecurityPolicy":        "Kubernetes removed it",
	"CustomResourceDefinition": "there are no custom resources",
}

// kubernetesKinds are the groups of Kubernetes and the kinds that each has besides
// ours: real, but not acted on.
var kubernetesKinds = map[string][]string{
	"": {"Binding", "ComponentStatus", "Endpoints", "LimitRange", "PersistentVolume", "PersistentVolumeClaim", "PodTemplate", "ReplicationController", "ResourceQuota"},
	"admissionregistration.k8s.io": {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "ValidatingAdmissionPolicy",
		"ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration"},
	"apiextensions.k8s.io":         {},
	"apiregistration.k8s.io":       {"APIService"},
	"apps":                         {"ControllerRevision", "DaemonSet", "StatefulSet"},
	"authentication.k8s.io":        {"SelfSubjectReview", "TokenRequest", "TokenReview"},
	"authorization.k8s.io":         {"LocalSubjectAccessReview", "SelfSubjectAccessReview", "SelfSubjectRulesReview", "SubjectAccessReview"},
	"autoscaling":                  {"HorizontalPodAutoscaler", "Scale"},
	"batch":                        {},
	"certificates.k8s.io":          {"CertificateSigningRequest", "ClusterTrustBundle", "PodCertificateRequest"},
	"coordination.k8s.io":          {"Lease", "LeaseCandidate"},
	"discovery.k8s.io":             {},
	"events.k8s.io":                {},
	"extensions":                   {},
	"flowcontrol.apiserver.k8s.io": {"FlowSchema", "PriorityLevelConfiguration"},
	"internal.apiserver.k8s.io":    {"StorageVersion"},
	"networking.k8s.io":            {"IPAddress", "Ingress", "IngressClass", "NetworkPolicy", "ServiceCIDR"},
	"node.k8s.io":                  {"RuntimeClass"},
	"policy":                       {"Eviction", "PodDisruptionBudget"},
	"rbac.authorization.k8s.io":    {},
	"resource.k8s.io":              {"DeviceClass", "DeviceTaintRule", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice"},
	"scheduling.k8s.io":            {"PodGroup", "PriorityClass", "Workload"},
	"storage.k8s.io":               {"CSIDriver", "CSINode", "CSIStorageCapacity", "StorageClass", "VolumeAttachment", "VolumeAttributesClass"},
	"storagemigration.k8s.io":      {"StorageVersionMigration"},
}

// extensions are well known and no part of Kubernetes: a group, with what it is of and
// those of its kinds that people write under another group. A group that begins with
// a dot stands for all that end so.
var extensions = []struct {
	group, name string
	kinds       []string
}{
	{"acme.cert-manager.io", "cert-manager", nil},
	{"argoproj.io", "Argo", []string{"AppProject", "Application", "ApplicationSet", "Rollout", "Workflow"}},
	{"autoscaling.k8s.io", "the Vertical Pod Autoscaler", []string{"VerticalPodAutoscaler", "VerticalPodAutoscalerCheckpoint"}},
	{"bitnami.com", "Sealed Secrets", []string{"SealedSecret"}},
	{"cert-manager.io", "cert-manager", []string{"Certificate", "CertificateRequest", "ClusterIssuer", "Issuer"}},
	{"cilium.io", "Cilium", []string{"CiliumClusterwideNetworkPolicy", "CiliumNetworkPolicy"}},
	{".cluster.x-k8s.io", "Cluster API", nil},
	{"cluster.x-k8s.io", "Cluster API", nil},
	{"crd.projectcalico.org", "Calico", nil},
	{".crossplane.io", "Crossplane", nil},
	{"external-secrets.io", "External Secrets", []string{"ClusterExternalSecret", "ClusterSecretStore", "ExternalSecret", "PushSecret", "SecretStore"}},
	{"externaldns.k8s.io", "ExternalDNS", []string{"DNSEndpoint"}},
	{"helm.cattle.io", "the Helm controller", nil},
	{".fluxcd.io", "Flux", []string{"GitRepository", "HelmRelease", "HelmRepository", "OCIRepository"}},
	{".gatekeeper.sh", "Gatekeeper", []string{"ConstraintTemplate"}},
	{"gateway.networking.k8s.io", "the Gateway API", []string{"BackendTLSPolicy", "GRPCRoute", "Gateway", "GatewayClass", "HTTPRoute", "ReferenceGrant", "TCPRoute", "TLSRoute", "UDPRoute"}},
	{".istio.io", "Istio", []string{"AuthorizationPolicy", "DestinationRule", "PeerAuthentication", "ServiceEntry", "VirtualService"}},
	{"keda.sh", "KEDA", []string{"ScaledJob", "ScaledObject", "TriggerAuthentication"}},
	{".knative.dev", "Knative", nil},
	{"kyverno.io", "Kyverno", []string{"ClusterPolicy"}},
	{"longhorn.io", "Longhorn", nil},
	{"metallb.io", "MetalLB", []string{"IPAddressPool", "L2Advertisement"}},
	{".metrics.k8s.io", "Kubernetes' metrics server", nil},
	{"metrics.k8s.io", "Kubernetes' metrics server", []string{"NodeMetrics", "PodMetrics"}},
	{"monitoring.coreos.com", "the Prometheus Operator", []string{"Alertmanager", "PodMonitor", "Prometheus", "PrometheusRule", "ServiceMonitor"}},
	{".openshift.io", "OpenShift", []string{"DeploymentConfig", "Route"}},
	{"operators.coreos.com", "the Operator Lifecycle Manager", nil},
	{"postgresql.cnpg.io", "CloudNativePG", nil},
	{"projectcalico.org", "Calico", []string{"GlobalNetworkPolicy"}},
	{"secrets-store.csi.x-k8s.io", "the Secrets Store CSI driver", []string{"SecretProviderClass"}},
	{"snapshot.storage.k8s.io", "volume snapshots", []string{"VolumeSnapshot", "VolumeSnapshotClass", "VolumeSnapshotContent"}},
	{"tekton.dev", "Tekton", nil},
	{"traefik.containo.us", "Traefik", nil},
	{"traefik.io", "Traefik", []string{"IngressRoute", "IngressRouteTCP", "Middleware", "TLSOption"}},
	{"velero.io", "Velero", nil},
}

// restrictingWords mark foreign kinds that may forbid something, and restrictingGroups
// groups all of whose kinds may: those are never waved through.
var (
	restrictingWords  = []string{"Policy", "Quota", "Limit", "Budget", "Constraint", "Authorization", "Authentication"}
	restrictingGroups = []string{".gatekeeper.sh", "kyverno.io"}
	// harmlessKinds have such a word in their name and restrict nothing: they say how to
	// ask a queue for its length, and which of an image's tags is the newest.
	harmlessKinds = map[string][]string{"keda.sh": {"ClusterTriggerAuthentication", "TriggerAuthentication"}, "image.toolkit.fluxcd.io": {"ImagePolicy"}}
)

// kustomizeGroup is of files that kustomize builds from.
const kustomizeGroup = kustomize.Group

// judgeKind finds the kind of a document or says why it is not one of ours.
func judgeKind(apiVersion, kind, unsupported string) (schema.KindInfo, finding) {
	group, version, found := strings.Cut(apiVersion, "/")
	if !found {
		group, version = "", apiVersion
	}
	if isForeign(group) {
		return schema.KindInfo{}, foreign(group, kind, unsupported)
	}
	info, ours := schema.Lookup(schema.Kind(kind))
	if !ours {
		return schema.KindInfo{}, notOurs(apiVersion, kind)
	}
	switch {
	case !info.Desired:
		return info, finding{severity: schema.Error, message: fmt.Sprintf("%s cannot stand in Git: the cluster makes it", withArticle(kind)), hint: info.Instead}
	case info.Group != group || info.Version != version:
		return info, otherVersion(info, apiVersion)
	}
	return info, finding{}
}

// otherVersion refuses one of our kinds in a form that it does not have here. What an
// older one means may differ, so that none is read as the present one.
func otherVersion(info schema.KindInfo, apiVersion string) finding {
	v := finding{
		severity: schema.Error, atVersion: true, unclear: true,
		message: fmt.Sprintf("%s is not served as %q", info.Kind, apiVersion), hint: "write apiVersion: " + info.APIVersion(),
	}
	if i := slices.IndexFunc(info.Older, func(o schema.Older) bool { return o.APIVersion == apiVersion }); i >= 0 {
		v.message = fmt.Sprintf("%s is no longer served as %q", info.Kind, apiVersion)
		if differs := info.Older[i].Differs; differs != "" {
			v.hint += "; " + differs
		} else {
			v.hint += "; nothing else differs"
		}
	}
	return v
}

func withArticle(kind string) string {
	if strings.ContainsRune("AEIOU", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
}

func apiVersionHint(kind string) string {
	if info, ok := schema.Lookup(schema.Kind(kind)); ok {
		return "write apiVersion: " + info.APIVersion()
	}
	return ""
}

// isForeign reports whether a group belongs neither to Kubernetes nor to us.
func isForeign(group string) bool {
	_, known := kubernetesKinds[group]
	return !known && strings.Contains(group, ".")
}

func isOfGroup(group, pattern string) bool {
	return group == pattern || pattern[0] == '.' && strings.HasSuffix(group, pattern)
}

// inWords names a group, and what it is of if that is known.
func inWords(group string) string {
	for _, e := range extensions {
		if isOfGroup(group, e.group) {
			return fmt.Sprintf("%s (%s)", group, e.name)
		}
	}
	return group
}

func foreign(group, kind, unsupported string) finding {
	restricts := !slices.Contains(harmlessKinds[group], kind) && slices.ContainsFunc(restrictingWords, func(word string) bool { return strings.Contains(kind, word) }) ||
		slices.ContainsFunc(restrictingGroups, func(pattern string) bool { return isOfGroup(group, pattern) })
	if group == kustomizeGroup {
		return finding{severity: schema.Error, message: fmt.Sprintf("kind %s is kustomize's, and a file of this name is not built", kind), hint: "name it kustomization.yaml, in a directory of its own"}
	}
	if meant := misspeltGroup(group, kind); meant != "" {
		return finding{severity: schema.Error, atVersion: true, unclear: true, message: fmt.Sprintf("unknown API group %q", group), hint: fmt.Sprintf("did you mean %q?", meant)}
	}
	named := fmt.Sprintf("kind %s of %s", kind, inWords(group))
	switch {
	case restricts:
		return finding{severity: schema.Error, message: named + " is not supported, and it may restrict something"}
	case unsupported == "warn":
		return finding{severity: schema.Warning, message: named + " is not supported and left out"}
	}
	return finding{severity: schema.Error, message: named + " is not supported", hint: `"unsupported: warn" in the Source leaves it out`}
}

// misspeltGroup is the group of Kubernetes that was probably meant: one that has the
// kind and is spelt much like it. Groups that exist are not misspelt.
func misspeltGroup(group, kind string) string {
	if inWords(group) != group {
		return ""
	}
	var groups []string
	for _, info := range schema.Kinds() {
		if string(info.Kind) == kind && info.Group != "" {
			groups = append(groups, info.Group)
		}
	}
	for name, kinds := range kubernetesKinds {
		if name != "" && slices.Contains(kinds, kind) {
			groups = append(groups, name)
		}
	}
	slices.Sort(groups)
	return schema.Nearest(group, groups)
}

func notOurs(apiVersion, kind string) finding {
	if why, ok := meaninglessKinds[kind]; ok {
		return finding{severity: schema.Warning, message: fmt.Sprintf("kind %s has no meaning here: %s", kind, why)}
	}
	for _, kinds := range kubernetesKinds {
		if slices.Contains(kinds, kind) {
			return finding{severity: schema.Error, message: fmt.Sprintf("kind %s is not supported yet", kind)}
		}
	}
	for _, e := range extensions {
		if slices.Contains(e.kinds, kind) {
			return finding{severity: schema.Error, message: fmt.Sprintf("kind %s is not of %s but of %s, which is not supported", kind, apiVersion, e.name)}
		}
	}
	v := finding{severity: schema.Error, unclear: true, message: fmt.Sprintf("unknown kind %q", kind)}
	if of := strings.TrimSuffix(kind, "List"); of != kind && slices.Contains(knownKinds(), of) {
		v.message, v.hint = fmt.Sprintf("a %s without items holds nothing", kind), "write items, a list of objects of kind "+of
		return v
	}
	if best := schema.Nearest(kind, knownKinds()); best != "" {
		v.hint = fmt.Sprintf("did you mean %q?", best)
	}
	return v
}

// knownKinds are ours that may stand in Git first, so that they win ties.
func knownKinds() []string {
	var names, others []string
	for _, info := range schema.Kinds() {
		if info.Desired {
			names = append(names, string(info.Kind))
		}
	}
	for _, kinds := range kubernetesKinds {
		others = append(others, kinds...)
	}
	slices.Sort(others)
	return append(names, others...)
}
