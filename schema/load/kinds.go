package load

import (
	"fmt"
	"slices"
	"strings"

	"fairlead/schema"
)

// verdict is why a document yields no object; the zero verdict lets it through.
type verdict struct {
	severity  schema.Severity
	message   string
	hint      string
	atVersion bool // it is about apiVersion, not kind
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

// kubernetesKinds are the kinds Kubernetes knows besides ours: real, but not
// acted on yet.
var kubernetesKinds = []string{
	"APIService", "CertificateSigningRequest", "ControllerRevision", "CronJob", "CSIDriver", "CSINode", "DaemonSet", "Endpoints", "FlowSchema",
	"Gateway", "GatewayClass", "HTTPRoute", "HorizontalPodAutoscaler", "Ingress", "IngressClass", "Job", "Kustomization", "Lease", "LimitRange",
	"MutatingWebhookConfiguration", "NetworkPolicy", "PersistentVolume", "PersistentVolumeClaim", "PodDisruptionBudget", "PodTemplate",
	"PriorityClass", "PriorityLevelConfiguration", "ReplicationController", "ResourceQuota", "RuntimeClass", "StatefulSet", "StorageClass",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttachment",
}

// restrictingWords mark foreign kinds that may forbid something: those are never
// waved through.
var restrictingWords = []string{"Policy", "Quota", "Limit", "Budget", "Constraint", "Authorization", "Authentication"}

// judgeKind finds the kind of a document or says why it is not one of ours.
func judgeKind(apiVersion, kind, unsupported string) (schema.KindInfo, verdict) {
	group, version, found := strings.Cut(apiVersion, "/")
	if !found {
		group, version = "", apiVersion
	}
	if isForeign(group) {
		return schema.KindInfo{}, foreign(group, kind, unsupported)
	}
	info, ours := schema.Lookup(schema.Kind(kind))
	if !ours {
		return schema.KindInfo{}, notOurs(kind)
	}
	switch {
	case !info.Desired:
		return info, verdict{severity: schema.Error, message: fmt.Sprintf("%s cannot stand in Git: the cluster makes it", withArticle(kind)), hint: madeFrom[info.Kind]}
	case info.Group != group || info.Version != version:
		return info, verdict{severity: schema.Error, atVersion: true, message: fmt.Sprintf("%s is not served as %q", kind, apiVersion), hint: apiVersionHint(kind)}
	}
	return info, verdict{}
}

func withArticle(kind string) string {
	if strings.ContainsRune("AEIOU", rune(kind[0])) {
		return "an " + kind
	}
	return "a " + kind
}

// madeFrom says what to write instead of kinds that the cluster makes.
var madeFrom = map[schema.Kind]string{
	schema.KindReplicaSet:    "write a Deployment",
	schema.KindEndpointSlice: "write a Service",
	schema.KindNode:          "a node joins with a token",
}

func apiVersionHint(kind string) string {
	if info, ok := schema.Lookup(schema.Kind(kind)); ok {
		return "write apiVersion: " + info.APIVersion()
	}
	return ""
}

// isForeign reports whether a group belongs neither to Kubernetes nor to us.
func isForeign(group string) bool {
	return strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")
}

func foreign(group, kind, unsupported string) verdict {
	restricts := slices.ContainsFunc(restrictingWords, func(word string) bool { return strings.Contains(kind, word) })
	switch {
	case restricts:
		return verdict{severity: schema.Error, message: fmt.Sprintf("kind %s of %s is not supported, and it may restrict something", kind, group)}
	case unsupported == "warn":
		return verdict{severity: schema.Warning, message: fmt.Sprintf("kind %s of %s is not supported and left out", kind, group)}
	}
	return verdict{severity: schema.Error, message: fmt.Sprintf("kind %s of %s is not supported", kind, group), hint: `"unsupported: warn" in the Source leaves it out`}
}

func notOurs(kind string) verdict {
	if why, ok := meaninglessKinds[kind]; ok {
		return verdict{severity: schema.Warning, message: fmt.Sprintf("kind %s has no meaning here: %s", kind, why)}
	}
	if slices.Contains(kubernetesKinds, kind) {
		return verdict{severity: schema.Error, message: fmt.Sprintf("kind %s is not supported yet", kind)}
	}
	v := verdict{severity: schema.Error, message: fmt.Sprintf("unknown kind %q", kind)}
	if best := schema.Nearest(kind, knownKinds()); best != "" {
		v.hint = fmt.Sprintf("did you mean %q?", best)
	}
	return v
}

// knownKinds are ours that may stand in Git first, so that they win ties.
func knownKinds() []string {
	var names []string
	for _, info := range schema.Kinds() {
		if info.Desired {
			names = append(names, string(info.Kind))
		}
	}
	return append(names, kubernetesKinds...)
}
