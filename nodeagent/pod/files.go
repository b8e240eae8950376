package pod

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// maxHostname is what the kernel takes, less one.
const maxHostname = 63

// Hostname is spec.hostname, or the pod's name, cut to what the kernel takes.
func Hostname(pod *corev1.Pod) string {
	h := pod.Spec.Hostname
	if h == "" {
		h = pod.Name
	}
	return strings.TrimRight(h[:min(len(h), maxHostname)], "-.")
}

// maxUTSName is what the kernel takes.
const maxUTSName = 64

// SandboxHostname is what the pod's processes find as their host's name: with
// setHostnameAsFQDN its full name, where it has one.
func SandboxHostname(pod *corev1.Pod, domain string) (string, error) {
	fqdn, ok := fullName(pod, domain)
	if as := pod.Spec.SetHostnameAsFQDN; as == nil || !*as || !ok {
		return Hostname(pod), nil
	}
	if len(fqdn) > maxUTSName {
		return "", UnusableError(fmt.Sprintf("setHostnameAsFQDN: %s has %d characters, and the kernel takes %d: choose a shorter hostname or subdomain", fqdn, len(fqdn), maxUTSName))
	}
	return fqdn, nil
}

// fullName is the pod's name within the cluster, which one without a subdomain has not.
func fullName(pod *corev1.Pod, domain string) (string, bool) {
	return fmt.Sprintf("%s.%s.%s.svc.%s", Hostname(pod), pod.Spec.Subdomain, pod.Namespace, domain), pod.Spec.Subdomain != ""
}

// Hosts is the content of a pod's /etc/hosts.
func Hosts(pod *corev1.Pod, ip string, cluster wire.ClusterInfo) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	names := Hostname(pod)
	if fqdn, ok := fullName(pod, cluster.Domain); ok {
		names = fqdn + "\t" + names
	}
	fmt.Fprintf(&b, "%s\t%s\n", ip, names)
	for _, a := range pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	return b.String()
}

// ResolvConf is the content of a pod's /etc/resolv.conf; node is the node's own.
func ResolvConf(pod *corev1.Pod, cluster wire.ClusterInfo, node string) string {
	var servers, search []string
	options := []corev1.PodDNSConfigOption{}
	switch pod.Spec.DNSPolicy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		servers, search, options = parseResolv(node)
	default:
		svc := "svc." + cluster.Domain
		servers, search = slices.Clone(cluster.DNS), []string{pod.Namespace + "." + svc, svc, cluster.Domain}
		ndots := "5"
		options = append(options, corev1.PodDNSConfigOption{Name: "ndots", Value: &ndots})
	}
	if c := pod.Spec.DNSConfig; c != nil {
		servers = merge(servers, c.Nameservers)
		search = merge(search, c.Searches)
		for _, o := range c.Options {
			options = slices.DeleteFunc(options, func(x corev1.PodDNSConfigOption) bool { return x.Name == o.Name })
			options = append(options, o)
		}
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		b.WriteString("options")
		for _, o := range options {
			b.WriteString(" " + o.Name)
			if o.Value != nil {
				b.WriteString(":" + *o.Value)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func parseResolv(text string) (servers, search []string, options []corev1.PodDNSConfigOption) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			servers = append(servers, f[1])
		case "search":
			search = f[1:]
		case "options":
			for _, o := range f[1:] {
				name, value, has := strings.Cut(o, ":")
				opt := corev1.PodDNSConfigOption{Name: name}
				if has {
					opt.Value = &value
				}
				options = append(options, opt)
			}
		}
	}
	return servers, search, options
}

func merge(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

// HostPortsOf lists the node ports that lead to a pod with address ip.
func HostPortsOf(pod *corev1.Pod, ip string) []HostPort {
	var out []HostPort
	for c := range schema.StayingContainers(&pod.Spec) {
		for _, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			protocol := p.Protocol
			if protocol == "" {
				protocol = corev1.ProtocolTCP
			}
			out = append(out, HostPort{HostIP: p.HostIP, HostPort: uint16(p.HostPort), Protocol: protocol, PodIP: ip, PodPort: uint16(p.ContainerPort)})
		}
	}
	return out
}
