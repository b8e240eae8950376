package schema

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// reservedDomains are those whose labels are not for everybody to give: Kubernetes'
// and Fairlead's own, with all below them.
var reservedDomains = []string{"kubernetes.io", "k8s.io", Group}

// nodesOwnLabels are the reserved labels that a node may give itself, as
// Kubernetes' admission plugin NodeRestriction has them.
var nodesOwnLabels = []string{
	corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable,
	corev1.LabelTopologyZone, corev1.LabelTopologyRegion, corev1.LabelInstanceTypeStable,
	corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion, corev1.LabelInstanceType,
	"beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

// nodesOwnDomains are the domains, with all below them, in which it may give any.
var nodesOwnDomains = []string{"node.kubernetes.io", "kubelet.kubernetes.io"}

// LabelIsReserved reports whether only the registry gives a node the label of that
// key. Any other a node gives itself in its configuration, and nobody else vouches
// for it.
func LabelIsReserved(key string) bool {
	domain, _, found := strings.Cut(key, "/")
	if !found || !inDomain(domain, reservedDomains) {
		return false
	}
	return !slices.Contains(nodesOwnLabels, key) && !inDomain(domain, nodesOwnDomains)
}

// inDomain reports whether a domain is one of others, or below one.
func inDomain(domain string, others []string) bool {
	domain = strings.ToLower(domain)
	return slices.ContainsFunc(others, func(o string) bool { return domain == o || strings.HasSuffix(domain, "."+o) })
}

// WrongLabel tells why a key and value make no label, "" when they do.
func WrongLabel(key, value string) string {
	if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
		return "the key is not valid: " + shortRule(wrong[0])
	}
	if wrong := validation.IsValidLabelValue(value); len(wrong) > 0 {
		return "the value is not valid: " + shortRule(wrong[0])
	}
	return ""
}

// WrongOwnLabel tells why a node may not give itself a label, "" when it may.
func WrongOwnLabel(node NodeName, key, value string) string {
	switch wrong := WrongLabel(key, value); {
	case wrong != "":
		return wrong
	case LabelIsReserved(key):
		return "only the master's registry gives it, when the node joins: fairlead token --node " + string(node) + " --label " + key + "=" + value
	case key == corev1.LabelHostname && value != string(node):
		return "it is the node's name, " + string(node)
	case (key == corev1.LabelOSStable || key == "beta.kubernetes.io/os") && value != "linux":
		return "it is linux"
	}
	return ""
}
