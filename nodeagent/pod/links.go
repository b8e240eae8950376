package pod

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema/wire"
)

// linksBytes bounds the variables that services make for one container: a quarter of
// what Linux gives a program for its whole environment, about 1,500 services.
const linksBytes = 512 << 10

// masterService is the one service that every pod is told of, where there is one.
const masterService = "kubernetes"

// serviceLinks are the variables that Kubernetes makes for services: those of the
// pod's namespace, unless enableServiceLinks is false, and default/kubernetes always.
// They tell of the services that are there when a container starts. Sorted by service.
func serviceLinks(pod *corev1.Pod, services map[string]wire.Service) []EnvVar {
	links := linksOf(linked(pod, services), services)
	if !fit(links) {
		return linksOf(master(services), services)
	}
	return links
}

// LinksLeftOut tells why a container gets no variables for the services of its
// namespace although it should; "" when it gets them.
func LinksLeftOut(pod *corev1.Pod, services map[string]wire.Service) string {
	all := linked(pod, services)
	if fit(linksOf(all, services)) {
		return ""
	}
	return fmt.Sprintf("no variables are made for the %d services of namespace %s: they take more than %d KiB; set enableServiceLinks: false and use DNS", len(all), pod.Namespace, linksBytes>>10)
}

func fit(links []EnvVar) bool {
	n := 0
	for _, l := range links {
		n += len(l.Name) + len(l.Value) + 2
	}
	return n <= linksBytes
}

// linked are the keys of the services by the name that their variables have.
func linked(pod *corev1.Pod, services map[string]wire.Service) map[string]string {
	out := master(services)
	if e := pod.Spec.EnableServiceLinks; e != nil && !*e {
		return out
	}
	for key, s := range services {
		if namespace, name, _ := strings.Cut(key, "/"); namespace == pod.Namespace && hasAddress(s) {
			out[name] = key
		}
	}
	return out
}

func master(services map[string]wire.Service) map[string]string {
	out := map[string]string{}
	if key := metav1.NamespaceDefault + "/" + masterService; hasAddress(services[key]) {
		out[masterService] = key
	}
	return out
}

func hasAddress(s wire.Service) bool { return len(s.ClusterIPs) > 0 && !s.Headless && len(s.Ports) > 0 }

func linksOf(keys map[string]string, services map[string]wire.Service) []EnvVar {
	var out []EnvVar
	for _, name := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, linksTo(variable(name), services[keys[name]])...)
	}
	return out
}

// variable is a name as part of a variable's.
func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// linksTo are one service's variables, those that Docker's links had among them.
func linksTo(prefix string, s wire.Service) []EnvVar {
	first := strconv.Itoa(int(s.Ports[0].Port))
	out := []EnvVar{{Name: prefix + "_SERVICE_HOST", Value: s.ClusterIPs.First()}, {Name: prefix + "_SERVICE_PORT", Value: first}}
	for _, p := range s.Ports {
		if p.Name != "" {
			out = append(out, EnvVar{Name: prefix + "_SERVICE_PORT_" + variable(p.Name), Value: strconv.Itoa(int(p.Port))})
		}
	}
	for i, p := range s.Ports {
		port, protocol := strconv.Itoa(int(p.Port)), strings.ToLower(string(p.Protocol))
		url := protocol + "://" + s.ClusterIPs.First() + ":" + port // services have IPv4 addresses
		if i == 0 {
			out = append(out, EnvVar{Name: prefix + "_PORT", Value: url})
		}
		link := prefix + "_PORT_" + port + "_" + strings.ToUpper(protocol)
		out = append(out, EnvVar{Name: link, Value: url}, EnvVar{Name: link + "_PROTO", Value: protocol},
			EnvVar{Name: link + "_PORT", Value: port}, EnvVar{Name: link + "_ADDR", Value: s.ClusterIPs.First()})
	}
	return out
}
