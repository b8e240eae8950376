package schema

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

func (p *problems) podSpec(at string, s *corev1.PodSpec) {
	oneOf(p, at, ".restartPolicy", s.RestartPolicy, corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)
	within(p, at, ".terminationGracePeriodSeconds", *s.TerminationGracePeriodSeconds, 0, maxInt32)
	if s.Hostname != "" {
		p.rule(at, ".hostname", s.Hostname, validation.IsDNS1123Label)
	}
	if s.Subdomain != "" {
		p.rule(at, ".subdomain", s.Subdomain, validation.IsDNS1123Label)
	}
	p.labels(at+".nodeSelector", s.NodeSelector)
	if s.Affinity != nil && s.Affinity.NodeAffinity != nil {
		p.nodeAffinity(at+".affinity.nodeAffinity", s.Affinity.NodeAffinity)
	}
	for i := range s.Tolerations {
		p.toleration(at+".tolerations["+strconv.Itoa(i)+"]", &s.Tolerations[i])
	}
	if s.ActiveDeadlineSeconds != nil {
		within(p, at, ".activeDeadlineSeconds", *s.ActiveDeadlineSeconds, 1, maxInt32)
	}
	p.hostAliases(at+".hostAliases", s.HostAliases)
	p.podContext(at+".securityContext", s.SecurityContext)
	p.dns(at, s)
	volumes := p.volumes(at+".volumes", s)
	for i, secret := range s.ImagePullSecrets {
		if secret.Name == "" {
			p.add(fmt.Sprintf("%s.imagePullSecrets[%d].name", at, i), "is missing")
		}
	}
	p.containers(at, s, volumes)
}

// maxContainers bounds the containers of one pod: each is told of in every report of its
// node, about 1 KiB, and a hundred such pods fit into one.
const maxContainers = 64

func (p *problems) containers(at string, s *corev1.PodSpec, volumes map[string]bool) {
	if len(s.Containers) == 0 {
		p.add(at+".containers", "must hold at least one container")
	}
	if n := len(s.Containers) + len(s.InitContainers); n > maxContainers {
		p.add(at+".containers", "a pod has at most %d containers, init containers among them, not %d", maxContainers, n)
		return
	}
	names := make(map[string]string, len(s.Containers)+len(s.InitContainers))
	hostPorts := make(map[string]string)
	for i := range s.InitContainers {
		field := at + ".initContainers[" + strconv.Itoa(i) + "]"
		c := &s.InitContainers[i]
		p.container(field, c, volumes, names)
		p.containerContext(field+".securityContext", c.SecurityContext, s.SecurityContext)
		p.initContainer(field, c, s, hostPorts)
	}
	for i := range s.Containers {
		field := at + ".containers[" + strconv.Itoa(i) + "]"
		c := &s.Containers[i]
		p.container(field, c, volumes, names)
		p.containerContext(field+".securityContext", c.SecurityContext, s.SecurityContext)
		p.stays(field, c, s, hostPorts)
	}
}

// initContainer judges what only some init containers may have: what is asked of those
// that stay, of one that runs to its end would never be.
func (p *problems) initContainer(at string, c *corev1.Container, s *corev1.PodSpec, hostPorts map[string]string) {
	if IsSidecar(c) {
		p.stays(at, c, s, hostPorts)
		return
	}
	if c.RestartPolicy != nil {
		return // told of by the table of fields
	}
	if len(Hooks(c)) > 0 {
		p.hint(at+".lifecycle", "with restartPolicy Always it is one that stays, and takes them", "an init container runs to its end and takes no hooks")
	}
	if c.ReadinessProbe != nil || c.LivenessProbe != nil || c.StartupProbe != nil {
		p.hint(at, "with restartPolicy Always it is one that stays, and takes them", "an init container runs to its end and takes no probes")
	}
}

// stays judges what a container has that is not to end by itself.
func (p *problems) stays(at string, c *corev1.Container, s *corev1.PodSpec, hostPorts map[string]string) {
	p.hostPorts(at, c, hostPorts)
	for kind, hook := range Hooks(c) {
		p.hook(at+".lifecycle."+string(kind), hook, c, s)
	}
	p.probe(at, ".readinessProbe", c.ReadinessProbe, c, true)
	p.probe(at, ".livenessProbe", c.LivenessProbe, c, false)
	p.probe(at, ".startupProbe", c.StartupProbe, c, false)
}

func (p *problems) container(at string, c *corev1.Container, volumes map[string]bool, names map[string]string) {
	p.rule(at, ".name", c.Name, validation.IsDNS1123Label)
	if first, twice := names[c.Name]; twice {
		p.add(at+".name", "%q is the name of %s too", c.Name, first)
	}
	names[c.Name] = at
	p.image(at, c.Image)
	oneOf(p, at, ".imagePullPolicy", c.ImagePullPolicy, corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
	for i := range c.Env {
		p.env(at, i, &c.Env[i])
	}
	for i := range c.EnvFrom {
		p.envFrom(fmt.Sprintf("%s.envFrom[%d]", at, i), &c.EnvFrom[i])
	}
	p.process(at, c)
	p.containerPorts(at, c.Ports)
	p.resources(at, &c.Resources)
	p.volumeMounts(at, c.VolumeMounts, volumes)
	p.subPathExprs(at, c)
}

// process judges what a program is started with.
func (p *problems) process(at string, c *corev1.Container) {
	p.noNUL(at+".command", c.Command)
	p.noNUL(at+".args", c.Args)
	if c.WorkingDir != "" && !isPath(c.WorkingDir) {
		p.add(at+".workingDir", "%q must be an absolute path", c.WorkingDir)
	}
	if !isPath(c.TerminationMessagePath) || path.Clean(c.TerminationMessagePath) == "/" || strings.Contains(c.TerminationMessagePath, ":") {
		p.hint(at+".terminationMessagePath", "write it like "+corev1.TerminationMessagePathDefault, "%q must be the absolute path of a file, without a colon", c.TerminationMessagePath)
	}
	oneOf(p, at, ".terminationMessagePolicy", c.TerminationMessagePolicy, corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError)
}

// isPath tells absolute paths that the kernel takes.
func isPath(s string) bool { return path.IsAbs(s) && !strings.ContainsRune(s, 0) }

// noNUL reports words that no program can be given.
func (p *problems) noNUL(list string, words []string) {
	for i, word := range words {
		if strings.ContainsRune(word, 0) {
			p.add(fmt.Sprintf("%s[%d]", list, i), "%q contains a NUL byte, which no argument can carry", word)
		}
	}
}

func (p *problems) image(container, image string) {
	if isSimpleImage(image) {
		return
	}
	field := container + ".image"
	if image == "" {
		p.add(field, "must be set")
		return
	}
	if image != strings.TrimSpace(image) {
		p.add(field, "%q has spaces around it", image)
		return
	}
	if _, err := NormalizeImage(image); err != nil {
		p.hint(field, imageHint(image), "%q is not an image name", image)
	}
}

// imageHint is what to write instead of what is not an image name.
func imageHint(image string) string {
	name, tag, _ := strings.Cut(image, ":")
	switch {
	case unfilledHint(image) != "":
		return unfilledHint(image)
	case strings.ContainsAny(image, "\u201c\u201d\u2018\u2019\u00ab\u00bb"):
		return "quotes of a word processor are part of the text: write plain ones"
	case strings.Contains(image, "://"):
		return "leave out what comes before the registry: " + image[strings.Index(image, "://")+3:]
	case strings.Contains(image, " "):
		return "it has a space in it"
	case name != strings.ToLower(name) && !strings.Contains(tag, "/"):
		return "names are in lower case: " + strings.ToLower(name) + strings.TrimPrefix(image, name)
	}
	return "write it like registry.example/team/app:1.0"
}

func (p *problems) env(container string, i int, e *corev1.EnvVar) {
	at := func() string { return fmt.Sprintf("%s.env[%d]", container, i) }
	if e.Name == "" {
		p.add(at()+".name", "must be set")
	} else if !isSimpleVariable(e.Name) {
		if wrong := validation.IsRelaxedEnvVarName(e.Name); len(wrong) > 0 {
			p.add(at()+".name", "%q is not valid: %s", e.Name, shortRule(wrong[0]))
		}
	}
	if strings.ContainsRune(e.Value, 0) {
		p.add(at()+".value", "contains a NUL byte, which no environment can carry: mount it as a file instead")
	}
	if e.ValueFrom == nil {
		return
	}
	field := at() + ".valueFrom"
	if e.Value != "" {
		p.add(field, "must be left out when value is set")
	}
	from := e.ValueFrom
	if countTrue(from.ConfigMapKeyRef != nil, from.SecretKeyRef != nil, from.FieldRef != nil, from.ResourceFieldRef != nil) != 1 {
		p.add(field, "must hold exactly one of configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef")
		return
	}
	switch {
	case from.ConfigMapKeyRef != nil:
		p.reference(field+".configMapKeyRef", from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key)
	case from.SecretKeyRef != nil:
		p.reference(field+".secretKeyRef", from.SecretKeyRef.Name, from.SecretKeyRef.Key)
	case from.ResourceFieldRef != nil:
		p.resourceFieldRef(field+".resourceFieldRef", from.ResourceFieldRef, nil)
	default:
		p.fieldRef(field+".fieldRef", from.FieldRef, fieldPaths)
	}
}

// isSimpleVariable tells names of environment variables that every rule accepts.
func isSimpleVariable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

func countTrue(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

func (p *problems) reference(at, name, key string) {
	p.rule(at, ".name", name, validation.IsDNS1123Subdomain)
	if key == "" {
		p.add(at+".key", "must be set")
		return
	}
	p.dataKey(at+".key", key)
}

// fieldPaths are what an environment variable may take from its pod, besides
// single labels and annotations.
var fieldPaths = []string{
	"metadata.name", "metadata.namespace", "metadata.uid",
	"spec.nodeName", "spec.serviceAccountName",
	"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
}

// filePaths are what a file may show of its pod, besides single labels and annotations.
var filePaths = []string{"metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"}

func (p *problems) fieldRef(at string, ref *corev1.ObjectFieldSelector, paths []string) {
	if ref.APIVersion != "v1" {
		p.add(at+".apiVersion", "%q must be v1", ref.APIVersion)
	}
	if slices.Contains(paths, ref.FieldPath) {
		return
	}
	path, closed := strings.CutSuffix(ref.FieldPath, "']")
	name, key, ok := strings.Cut(path, "['")
	switch {
	case !closed || !ok || name != "metadata.labels" && name != "metadata.annotations":
	default:
		if name == "metadata.annotations" {
			key = strings.ToLower(key) // as Kubernetes takes the keys of annotations
		}
		if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
			p.add(at+".fieldPath", "%q names no key that there can be: %s", ref.FieldPath, shortRule(wrong[0]))
		}
		return
	}
	p.hint(at+".fieldPath", "metadata.labels['key'], metadata.annotations['key'], "+strings.Join(paths, ", "), "%q is not a field a container can read", ref.FieldPath)
}

func (p *problems) envFrom(at string, e *corev1.EnvFromSource) {
	switch {
	case (e.ConfigMapRef != nil) == (e.SecretRef != nil):
		p.add(at, "must hold exactly one of configMapRef and secretRef")
	case e.ConfigMapRef != nil:
		p.rule(at, ".configMapRef.name", e.ConfigMapRef.Name, validation.IsDNS1123Subdomain)
	default:
		p.rule(at, ".secretRef.name", e.SecretRef.Name, validation.IsDNS1123Subdomain)
	}
	if e.Prefix != "" {
		for _, wrong := range validation.IsRelaxedEnvVarName(e.Prefix) {
			p.add(at+".prefix", "%q is not valid: %s", e.Prefix, shortRule(wrong))
		}
	}
}

func (p *problems) containerPorts(at string, ports []corev1.ContainerPort) {
	for i := range ports {
		port := &ports[i]
		field := at + ".ports[" + strconv.Itoa(i) + "]"
		p.portNumber(field, ".containerPort", port.ContainerPort)
		oneOf(p, field, ".protocol", port.Protocol, corev1.ProtocolTCP, corev1.ProtocolUDP)
		if port.HostPort != 0 {
			p.portNumber(field, ".hostPort", port.HostPort)
		}
		if port.Name == "" {
			continue
		}
		p.namedPort(field, ".name", port.Name)
		if slices.ContainsFunc(ports[:i], func(o corev1.ContainerPort) bool { return o.Name == port.Name }) {
			p.add(field+".name", "%q is the name of another port of the container too", port.Name)
		}
	}
}

// hostPorts reports host ports that two containers of a pod both ask for.
func (p *problems) hostPorts(at string, c *corev1.Container, taken map[string]string) {
	for i := range c.Ports {
		port := &c.Ports[i]
		if port.HostPort == 0 {
			continue
		}
		id := fmt.Sprintf("%d/%s", port.HostPort, port.Protocol)
		field := fmt.Sprintf("%s.ports[%d].hostPort", at, i)
		if first, twice := taken[id]; twice {
			p.add(field, "%s is taken by %s already", id, first)
		}
		taken[id] = field
	}
}

func (p *problems) resources(at string, r *corev1.ResourceRequirements) {
	for name, limit := range r.Limits {
		if limit.Sign() < 0 {
			p.add(at+".resources.limits["+string(name)+"]", "%s must not be negative", limit.String())
		}
	}
	for name, request := range r.Requests {
		limit, limited := r.Limits[name]
		if request.Sign() < 0 && !(limited && limit.Equal(request)) { // an equal limit is told of, and may be where the request is from
			p.add(at+".resources.requests["+string(name)+"]", "%s must not be negative", request.String())
		}
		if limited && request.Cmp(limit) > 0 {
			p.add(at+".resources.requests["+string(name)+"]", "%s is more than the limit, %s", request.String(), limit.String())
			p.because(at + ".resources.limits[" + string(name) + "]")
		}
	}
}

func (p *problems) volumeMounts(at string, mounts []corev1.VolumeMount, volumes map[string]bool) {
	for i := range mounts {
		m := &mounts[i]
		field := at + ".volumeMounts[" + strconv.Itoa(i) + "]"
		switch {
		case m.Name == "":
			p.add(field+".name", "must be set")
		case !volumes[m.Name] && !volumes[""]: // a volume whose name could not be read may be the one
			p.hint(field+".name", cmp.Or(nearestHint(m.Name, sortedKeys(volumes)), "declare it in volumes"), "the pod has no volume %q", m.Name)
			p.because(at[:strings.LastIndexByte(at, '.')] + ".volumes")
		}
		switch {
		case !isPath(m.MountPath):
			p.add(field+".mountPath", "%q must be an absolute path", m.MountPath)
		case path.Clean(m.MountPath) == "/":
			p.hint(field+".mountPath", "mount it below a directory", "%q is the container's whole root, which no volume can replace", m.MountPath)
		case strings.Contains(m.MountPath, ":"):
			p.add(field+".mountPath", "%q must not hold a colon", m.MountPath)
		case slices.ContainsFunc(mounts[:i], func(o corev1.VolumeMount) bool { return path.Clean(o.MountPath) == path.Clean(m.MountPath) }):
			p.add(field+".mountPath", "%q is mounted twice", m.MountPath)
		}
		if m.SubPath != "" && !safeRelative(m.SubPath) {
			p.add(field+".subPath", "%q must be a relative path inside the volume", m.SubPath)
		}
		switch {
		case m.SubPathExpr == "":
		case m.SubPath != "":
			p.add(field+".subPathExpr", "must be left out when subPath is set")
		case !safeRelative(m.SubPathExpr):
			p.add(field+".subPathExpr", "%q must be a relative path inside the volume", m.SubPathExpr)
		}
	}
}

// subPathExprs reports paths that would tell a Secret's value, as far as the container's env
// shows it: what envFrom brings only the node sees.
func (p *problems) subPathExprs(at string, c *corev1.Container) {
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.SubPathExpr != "" }) {
		return
	}
	secrets := secretVariables(c)
	for i := range c.VolumeMounts {
		if name := usesOneOf(c.VolumeMounts[i].SubPathExpr, secrets); name != "" {
			p.hint(fmt.Sprintf("%s.volumeMounts[%d].subPathExpr", at, i), "use a variable that has not",
				"variable %s has its value from a Secret, which the names of directories and messages would tell", name)
		}
	}
}

// secretVariables are the variables of a container's env whose values are a Secret's or
// hold one.
func secretVariables(c *corev1.Container) map[string]bool {
	secrets := map[string]bool{}
	for i := range c.Env {
		e := &c.Env[i]
		of := e.ValueFrom
		secrets[e.Name] = of != nil && of.SecretKeyRef != nil || of == nil && usesOneOf(e.Value, secrets) != ""
	}
	return secrets
}

// usesOneOf is a variable in a text that is one of those, "" when none is.
func usesOneOf(text string, variables map[string]bool) (found string) {
	Expand(text, func(name string) (string, bool) {
		if variables[name] {
			found = name
		}
		return "", false
	})
	return found
}

func (p *problems) probe(container, name string, probe *corev1.Probe, c *corev1.Container, readiness bool) {
	if probe == nil {
		return
	}
	at := container + name
	if countTrue(probe.HTTPGet != nil, probe.TCPSocket != nil, probe.Exec != nil, probe.GRPC != nil) != 1 {
		p.add(at, "must hold exactly one of httpGet, tcpSocket, exec and grpc")
		return
	}
	within(p, at, ".initialDelaySeconds", int64(probe.InitialDelaySeconds), 0, maxInt32)
	within(p, at, ".timeoutSeconds", int64(probe.TimeoutSeconds), 1, maxInt32)
	within(p, at, ".periodSeconds", int64(probe.PeriodSeconds), 1, maxInt32)
	within(p, at, ".successThreshold", int64(probe.SuccessThreshold), 1, maxInt32)
	within(p, at, ".failureThreshold", int64(probe.FailureThreshold), 1, maxInt32)
	if !readiness && probe.SuccessThreshold > 1 {
		p.add(at+".successThreshold", "%d must be 1 for this probe", probe.SuccessThreshold)
	}
	switch grace := probe.TerminationGracePeriodSeconds; {
	case grace == nil:
	case readiness:
		p.add(at+".terminationGracePeriodSeconds", "must be left out: a readiness probe ends no container")
	default:
		within(p, at, ".terminationGracePeriodSeconds", *grace, 1, maxInt32)
	}
	if probe.GRPC != nil {
		p.portNumber(at, ".grpc.port", probe.GRPC.Port)
	}
	p.action(at, probe.HTTPGet, probe.TCPSocket, probe.Exec, c)
}

// action judges the one of the three that is not nil.
func (p *problems) action(at string, get *corev1.HTTPGetAction, socket *corev1.TCPSocketAction, exec *corev1.ExecAction, c *corev1.Container) {
	switch {
	case get != nil:
		p.httpProbe(at, get)
		p.probePort(at, ".httpGet.port", get.Port, c)
	case socket != nil:
		p.probePort(at, ".tcpSocket.port", socket.Port, c)
	case exec != nil && len(exec.Command) == 0:
		p.add(at+".exec.command", "must be set")
	case exec != nil:
		p.noNUL(at+".exec.command", exec.Command)
	}
}

// hook judges a handler of a container's lifecycle.
func (p *problems) hook(at string, h *corev1.LifecycleHandler, c *corev1.Container, s *corev1.PodSpec) {
	if countTrue(h.HTTPGet != nil, h.TCPSocket != nil, h.Exec != nil, h.Sleep != nil) != 1 {
		p.add(at, "must hold exactly one of exec, httpGet, tcpSocket and sleep")
		return
	}
	if h.Sleep != nil {
		within(p, at, ".sleep.seconds", h.Sleep.Seconds, 0, *s.TerminationGracePeriodSeconds)
	}
	p.action(at, h.HTTPGet, h.TCPSocket, h.Exec, c)
}

func (p *problems) httpProbe(at string, get *corev1.HTTPGetAction) {
	oneOf(p, at, ".httpGet.scheme", get.Scheme, corev1.URISchemeHTTP, corev1.URISchemeHTTPS)
	for i, header := range get.HTTPHeaders {
		field := fmt.Sprintf("%s.httpGet.httpHeaders[%d]", at, i)
		p.rule(field+".name", "", header.Name, validation.IsHTTPHeaderName)
		if strings.ContainsFunc(header.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			p.hint(field+".value", "write it on one line", "%q holds a line break or another control character, which no header can carry", header.Value)
		}
	}
}

func (p *problems) probePort(at, name string, port intstr.IntOrString, c *corev1.Container) {
	if port.Type == intstr.Int {
		p.portNumber(at, name, port.IntVal)
		return
	}
	var names []string
	for i := range c.Ports {
		if c.Ports[i].Name == port.StrVal {
			return
		}
		if c.Ports[i].Name != "" {
			names = append(names, c.Ports[i].Name)
		}
	}
	p.hint(at+name, nearestHint(port.StrVal, names), "the container has no port named %q", port.StrVal)
}

func (p *problems) dns(at string, s *corev1.PodSpec) {
	oneOf(p, at, ".dnsPolicy", s.DNSPolicy, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone)
	config := s.DNSConfig
	if s.DNSPolicy == corev1.DNSNone && (config == nil || len(config.Nameservers) == 0) {
		p.add(at+".dnsPolicy", "None needs nameservers in dnsConfig")
	}
	if config == nil {
		return
	}
	if len(config.Nameservers) > 3 {
		p.add(at+".dnsConfig.nameservers", "has %d addresses, at most 3 are used", len(config.Nameservers))
	}
	for i, server := range config.Nameservers {
		if _, err := netip.ParseAddr(server); err != nil {
			p.add(fmt.Sprintf("%s.dnsConfig.nameservers[%d]", at, i), "%q is not an IP address", server)
		}
	}
	for i, search := range config.Searches {
		if search != "." {
			p.rule(fmt.Sprintf("%s.dnsConfig.searches[%d]", at, i), "", strings.TrimSuffix(search, "."), validation.IsDNS1123SubdomainWithUnderscore)
		}
	}
	for i, option := range config.Options {
		if option.Name == "" {
			p.add(fmt.Sprintf("%s.dnsConfig.options[%d].name", at, i), "must be set")
		}
	}
}

// volumes returns the names, for the mounts.
func (p *problems) volumes(at string, s *corev1.PodSpec) map[string]bool {
	volumes := s.Volumes
	names := make(map[string]bool, len(volumes))
	for i := range volumes {
		v := &volumes[i]
		field := at + "[" + strconv.Itoa(i) + "]"
		p.rule(field, ".name", v.Name, validation.IsDNS1123Label)
		if names[v.Name] {
			p.add(field+".name", "%q is the name of another volume too", v.Name)
		}
		names[v.Name] = true
		p.volume(field, v, s)
	}
	return names
}

func (p *problems) volume(at string, v *corev1.Volume, s *corev1.PodSpec) {
	if countTrue(v.ConfigMap != nil, v.Secret != nil, v.EmptyDir != nil, v.HostPath != nil, v.Projected != nil, v.DownwardAPI != nil) > 1 {
		p.add(at, "must hold exactly one of configMap, secret, emptyDir, hostPath, downwardAPI and projected")
		return
	}
	switch {
	case v.ConfigMap != nil:
		p.rule(at, ".configMap.name", v.ConfigMap.Name, validation.IsDNS1123Subdomain)
		p.mode(at+".configMap.defaultMode", v.ConfigMap.DefaultMode)
		p.items(at+".configMap.items", v.ConfigMap.Items)
	case v.Secret != nil:
		p.rule(at, ".secret.secretName", v.Secret.SecretName, validation.IsDNS1123Subdomain)
		p.mode(at+".secret.defaultMode", v.Secret.DefaultMode)
		p.items(at+".secret.items", v.Secret.Items)
	case v.HostPath != nil:
		p.hostPath(at+".hostPath", v.HostPath)
	case v.Projected != nil:
		p.projected(at+".projected", v.Projected, s)
	case v.DownwardAPI != nil:
		p.mode(at+".downwardAPI.defaultMode", v.DownwardAPI.DefaultMode)
		p.fieldFiles(at+".downwardAPI.items", v.DownwardAPI.Items, s)
	case v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil:
		p.sizeLimit(at+".emptyDir.sizeLimit", v.EmptyDir)
	}
}

func (p *problems) sizeLimit(field string, e *corev1.EmptyDirVolumeSource) {
	switch {
	case e.Medium != corev1.StorageMediumMemory && e.SizeLimit.Sign() > 0:
		p.hint(field, "without it the volume takes what the node's disk has", "a limit on disk is not supported yet")
	case e.SizeLimit.Sign() < 0:
		p.add(field, "%s must not be negative", e.SizeLimit.String())
	}
}

func (p *problems) hostPath(at string, h *corev1.HostPathVolumeSource) {
	if !path.IsAbs(h.Path) || slices.Contains(strings.Split(h.Path, "/"), "..") {
		p.add(at+".path", "%q must be an absolute path without \"..\"", h.Path)
	}
	oneOf(p, at, ".type", *h.Type, corev1.HostPathUnset, corev1.HostPathDirectoryOrCreate, corev1.HostPathDirectory, corev1.HostPathFileOrCreate,
		corev1.HostPathFile, corev1.HostPathSocket, corev1.HostPathCharDev, corev1.HostPathBlockDev)
}

func (p *problems) projected(at string, v *corev1.ProjectedVolumeSource, spec *corev1.PodSpec) {
	p.mode(at+".defaultMode", v.DefaultMode)
	for i := range v.Sources {
		s := &v.Sources[i]
		field := fmt.Sprintf("%s.sources[%d]", at, i)
		switch {
		case s.ServiceAccountToken != nil && countTrue(s.ConfigMap != nil, s.Secret != nil, s.DownwardAPI != nil) == 0:
			// told of by the table of fields
		case countTrue(s.ConfigMap != nil, s.Secret != nil, s.DownwardAPI != nil) != 1:
			p.add(field, "must hold exactly one of configMap, secret and downwardAPI")
		case s.DownwardAPI != nil:
			p.fieldFiles(field+".downwardAPI.items", s.DownwardAPI.Items, spec)
		case s.ConfigMap != nil:
			p.rule(field, ".configMap.name", s.ConfigMap.Name, validation.IsDNS1123Subdomain)
			p.items(field+".configMap.items", s.ConfigMap.Items)
		default:
			p.rule(field, ".secret.name", s.Secret.Name, validation.IsDNS1123Subdomain)
			p.items(field+".secret.items", s.Secret.Items)
		}
	}
}

func (p *problems) items(at string, items []corev1.KeyToPath) {
	for i := range items {
		field := fmt.Sprintf("%s[%d]", at, i)
		if items[i].Key == "" {
			p.add(field+".key", "must be set")
		}
		p.filePath(field+".path", items[i].Path)
		p.mode(field+".mode", items[i].Mode)
	}
}

// filePath judges where in its volume a file is.
func (p *problems) filePath(field, path string) {
	switch {
	case !safeRelative(path):
		p.add(field, "%q must be a relative path inside the volume", path)
	case strings.HasPrefix(path, ".."):
		p.add(field, "%q must not begin with \"..\": such names are the volume's own", path)
	}
}

func (p *problems) mode(field string, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		p.hint(field, "write it like 0644", "%#o is not a file mode", *mode)
	}
}
