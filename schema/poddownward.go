package schema

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// resourceFields are the amounts that a container can be told of itself or another one of
// its pod, with the units in which it may ask for them.
var resourceFields = map[string][]string{
	"limits.cpu": cpuUnits, "requests.cpu": cpuUnits, "limits.memory": memoryUnits, "requests.memory": memoryUnits,
}

var (
	cpuUnits    = []string{"1", "1m"}
	memoryUnits = []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}
)

// resourceFieldRef judges one of a variable, which is the container's own unless it names
// another, or of a file of the pod, which has to name one.
func (p *problems) resourceFieldRef(at string, ref *corev1.ResourceFieldSelector, pod *corev1.PodSpec) {
	units, known := resourceFields[ref.Resource]
	if !known {
		names := sortedKeys(resourceFields)
		p.hint(at+".resource", strings.Join(names, ", "), "%q is not an amount a container can read", ref.Resource)
		return
	}
	if !ref.Divisor.IsZero() && !slices.ContainsFunc(units, func(u string) bool { return u == ref.Divisor.String() }) {
		p.hint(at+".divisor", strings.Join(units, ", "), "%q is not a unit of %s", ref.Divisor.String(), ref.Resource)
	}
	switch {
	case pod == nil:
	case ref.ContainerName == "":
		p.add(at+".containerName", "must be set")
	case ContainerOf(pod, ref.ContainerName) == nil:
		p.add(at+".containerName", "the pod has no container %q", ref.ContainerName)
	}
}

// fieldFiles judges the files of a volume that shows fields of its pod.
func (p *problems) fieldFiles(at string, items []corev1.DownwardAPIVolumeFile, pod *corev1.PodSpec) {
	for i := range items {
		item, field := &items[i], fmt.Sprintf("%s[%d]", at, i)
		p.filePath(field+".path", item.Path)
		p.mode(field+".mode", item.Mode)
		switch {
		case (item.FieldRef != nil) == (item.ResourceFieldRef != nil):
			p.add(field, "must hold exactly one of fieldRef and resourceFieldRef")
		case item.FieldRef != nil:
			p.fieldRef(field+".fieldRef", item.FieldRef, filePaths)
		default:
			p.resourceFieldRef(field+".resourceFieldRef", item.ResourceFieldRef, pod)
		}
	}
}

// hostAliases judges the lines that a pod's /etc/hosts gets.
func (p *problems) hostAliases(at string, aliases []corev1.HostAlias) {
	for i, a := range aliases {
		field := fmt.Sprintf("%s[%d]", at, i)
		if _, err := netip.ParseAddr(a.IP); err != nil {
			p.add(field+".ip", "%q is not an IP address", a.IP)
		}
		for j, name := range a.Hostnames {
			p.rule(fmt.Sprintf("%s.hostnames[%d]", field, j), "", name, validation.IsDNS1123Subdomain)
		}
	}
}

// ShowsItself reports whether a volume of the pod shows what may change of the pod while
// it runs, its labels or annotations.
func ShowsItself(pod *corev1.PodSpec) bool {
	for i := range pod.Volumes {
		sources, _ := VolumeSources(&pod.Volumes[i])
		if slices.ContainsFunc(sources, func(s VolumeSource) bool { return len(s.Fields) > 0 }) {
			return true
		}
	}
	return false
}
