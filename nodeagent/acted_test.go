package nodeagent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"fairlead/nodeagent/pod"
	"fairlead/nodeagent/volume"
	"fairlead/reconciler/scheduler"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/rowtest"
	"fairlead/schema/wire"
)

// plainPod has every field of a pod that is acted on, as schema's table names them.
const plainPod = `
hostname: web-0
imagePullSecrets: [{name: registry}]
subdomain: web
enableServiceLinks: true
restartPolicy: Always
terminationGracePeriodSeconds: 30
dnsPolicy: ClusterFirst
dnsConfig: {searches: [one.example]}
nodeSelector: {disk: ssd}
volumes:
- {name: conf, configMap: {name: conf, defaultMode: 0o644, items: [{key: a, path: a, mode: 0o600}, {key: b, path: b}]}}
- {name: key, secret: {secretName: key, defaultMode: 0o644, items: [{key: t, path: t, mode: 0o600}, {key: u, path: u}]}}
- {name: none, configMap: {name: none, optional: true}}
- {name: unset, secret: {secretName: none, optional: true}}
- {name: d, emptyDir: {}}
- {name: m, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: host, hostPath: {path: HOST, type: Directory}}
- name: all
  projected:
    defaultMode: 0o644
    sources:
    - {configMap: {name: conf, items: [{key: a, path: a, mode: 0o600}, {key: b, path: b}]}}
    - {secret: {name: key, items: [{key: t, path: t, mode: 0o600}, {key: u, path: u}]}}
    - {configMap: {name: none, optional: true}}
    - {secret: {name: none, optional: true}}
    - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
- {name: me, downwardAPI: {items: [{path: limit, resourceFieldRef: {containerName: c, resource: limits.memory}}]}}
initContainers: [{name: i, image: localhost/c:1}]
containers:
- name: c
  image: localhost/c:1
  imagePullPolicy: IfNotPresent
  command: [/c]
  args: [a]
  workingDir: /w
  terminationMessagePath: /dev/termination-log
  terminationMessagePolicy: File
  env:
  - {name: A, value: a}
  - {name: B, valueFrom: {configMapKeyRef: {name: conf, key: a}}}
  - {name: C, valueFrom: {secretKeyRef: {name: key, key: t}}}
  - {name: D, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  - {name: E, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
  envFrom: [{configMapRef: {name: conf}}]
  ports: [{name: web, containerPort: 80, hostPort: 8080, protocol: TCP}]
  resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 128Mi}}
  volumeMounts: [{name: d, mountPath: /d, subPath: x}, {name: conf, mountPath: /conf}, {name: host, mountPath: /host}, {name: m, mountPath: /m, subPathExpr: $(A)}]
  readinessProbe: {httpGet: {path: /r, port: web, scheme: HTTP, httpHeaders: [{name: X-A, value: a}]}, initialDelaySeconds: 1, timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3}
  livenessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 7}
  startupProbe: {exec: {command: [/ok]}}
  lifecycle:
    postStart: {httpGet: {path: /p, port: web, scheme: HTTP, httpHeaders: [{name: X-A, value: a}]}}
    preStop: {exec: {command: [/bye]}}
`

type change = func(p *corev1.PodSpec, c *corev1.Container)

func limit(list func(*corev1.Container) corev1.ResourceList, name corev1.ResourceName, quantity string) change {
	return func(_ *corev1.PodSpec, c *corev1.Container) { list(c)[name] = resource.MustParse(quantity) }
}

func limits(c *corev1.Container) corev1.ResourceList   { return c.Resources.Limits }
func requests(c *corev1.Container) corev1.ResourceList { return c.Resources.Requests }

func to[T any](field func(*corev1.PodSpec) *T, value T) change {
	return func(p *corev1.PodSpec, _ *corev1.Container) { *field(p) = value }
}

func ofContainer[T any](field func(*corev1.Container) *T, value T) change {
	return func(_ *corev1.PodSpec, c *corev1.Container) { *field(c) = value }
}

func ofPod(context corev1.PodSecurityContext) change {
	return to(func(p *corev1.PodSpec) **corev1.PodSecurityContext { return &p.SecurityContext }, &context)
}

func inContext(context corev1.SecurityContext) change {
	return ofContainer(func(c *corev1.Container) **corev1.SecurityContext { return &c.SecurityContext }, &context)
}

func ptrTo[T any](v T) *T { return &v }

// changes has for each field that is acted on a change by which it is seen to be.
var changes = map[string]change{
	"affinity.nodeAffinity": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"ssd"}}}}},
		}}}
	},
	"activeDeadlineSeconds": to(func(p *corev1.PodSpec) **int64 { return &p.ActiveDeadlineSeconds }, ptrTo(int64(5))),
	"hostAliases":           to(func(p *corev1.PodSpec) *[]corev1.HostAlias { return &p.HostAliases }, []corev1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"x"}}}),
	"setHostnameAsFQDN":     to(func(p *corev1.PodSpec) **bool { return &p.SetHostnameAsFQDN }, ptrTo(true)),
	"volumes.downwardAPI": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[8].DownwardAPI.Items[0].ResourceFieldRef.Resource = "requests.memory"
	},
	"volumes.projected.sources.downwardAPI": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[7].Projected.Sources[4].DownwardAPI.Items[0].FieldRef.FieldPath = "metadata.uid"
	},
	"containers.env.valueFrom.resourceFieldRef": func(_ *corev1.PodSpec, c *corev1.Container) {
		c.Env[4].ValueFrom.ResourceFieldRef.Resource = "requests.cpu"
	},
	"containers.volumeMounts.subPathExpr": func(_ *corev1.PodSpec, c *corev1.Container) { c.VolumeMounts[3].SubPathExpr = "z" },
	"containers.probe.grpc.port": func(_ *corev1.PodSpec, c *corev1.Container) {
		c.ReadinessProbe.ProbeHandler = corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 80}}
	},
	"containers.probe.grpc.service": func(_ *corev1.PodSpec, c *corev1.Container) {
		c.ReadinessProbe.ProbeHandler = corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 80, Service: ptrTo("s")}}
	},
	"containers.probe.terminationGracePeriodSeconds": func(_ *corev1.PodSpec, c *corev1.Container) { *c.LivenessProbe.TerminationGracePeriodSeconds = 8 },
	"dnsConfig":                     to(func(p *corev1.PodSpec) **corev1.PodDNSConfig { return &p.DNSConfig }, nil),
	"dnsPolicy":                     to(func(p *corev1.PodSpec) *corev1.DNSPolicy { return &p.DNSPolicy }, corev1.DNSDefault),
	"enableServiceLinks":            to(func(p *corev1.PodSpec) **bool { return &p.EnableServiceLinks }, ptrTo(false)),
	"hostname":                      to(func(p *corev1.PodSpec) *string { return &p.Hostname }, "other"),
	"subdomain":                     to(func(p *corev1.PodSpec) *string { return &p.Subdomain }, "other"),
	"nodeSelector":                  to(func(p *corev1.PodSpec) *map[string]string { return &p.NodeSelector }, map[string]string{"disk": "none"}),
	"restartPolicy":                 to(func(p *corev1.PodSpec) *corev1.RestartPolicy { return &p.RestartPolicy }, corev1.RestartPolicyNever),
	"terminationGracePeriodSeconds": to(func(p *corev1.PodSpec) **int64 { return &p.TerminationGracePeriodSeconds }, ptrTo(int64(5))),
	"tolerations": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.NodeSelector = map[string]string{"disk": "old"} // of the tainted node
		p.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	},
	"initContainers": func(p *corev1.PodSpec, _ *corev1.Container) { p.InitContainers = nil },
	"initContainers.restartPolicy": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.InitContainers[0].RestartPolicy = ptrTo(corev1.ContainerRestartPolicyAlways)
	},
	"securityContext.runAsUser":          ofPod(corev1.PodSecurityContext{RunAsUser: ptrTo(int64(7))}),
	"securityContext.runAsGroup":         ofPod(corev1.PodSecurityContext{RunAsGroup: ptrTo(int64(7))}),
	"securityContext.runAsNonRoot":       ofPod(corev1.PodSecurityContext{RunAsNonRoot: ptrTo(true)}),
	"securityContext.supplementalGroups": ofPod(corev1.PodSecurityContext{SupplementalGroups: []int64{7}}),
	"securityContext.fsGroup":            ofPod(corev1.PodSecurityContext{FSGroup: ptrTo(int64(7))}),
	"securityContext.seccompProfile":     ofPod(corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}),
	"securityContext.sysctls":            ofPod(corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net.ipv4.tcp_fin_timeout", Value: "7"}}}),
	"imagePullSecrets.name":              func(p *corev1.PodSpec, _ *corev1.Container) { p.ImagePullSecrets[0].Name = "key" },
	"volumes.name":                       func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[0].Name = "other" },

	"volumes.configMap.name":        func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[0].ConfigMap.Name = "conf2" },
	"volumes.configMap.defaultMode": func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[0].ConfigMap.DefaultMode = 0o400 },
	"volumes.configMap.items.key":   func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[0].ConfigMap.Items[0].Key = "b" },
	"volumes.configMap.items.path":  func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[0].ConfigMap.Items[0].Path = "sub/a" },
	"volumes.configMap.items.mode":  func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[0].ConfigMap.Items[0].Mode = 0o444 },
	"volumes.configMap.optional":    func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[2].ConfigMap.Optional = false },
	"volumes.secret.secretName":     func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[1].Secret.SecretName = "key2" },
	"volumes.secret.defaultMode":    func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[1].Secret.DefaultMode = 0o400 },
	"volumes.secret.items.key":      func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[1].Secret.Items[0].Key = "u" },
	"volumes.secret.items.path":     func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[1].Secret.Items[0].Path = "sub/t" },
	"volumes.secret.items.mode":     func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[1].Secret.Items[0].Mode = 0o444 },
	"volumes.secret.optional":       func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[3].Secret.Optional = false },
	"volumes.emptyDir.medium": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[4].EmptyDir.Medium = corev1.StorageMediumMemory
	},
	"volumes.emptyDir.sizeLimit": func(p *corev1.PodSpec, _ *corev1.Container) {
		*p.Volumes[5].EmptyDir.SizeLimit = resource.MustParse("2Mi")
	},
	"volumes.hostPath.path":         func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[6].HostPath.Path += "/sub" },
	"volumes.hostPath.type":         func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[6].HostPath.Type = corev1.HostPathFile },
	"volumes.projected.defaultMode": func(p *corev1.PodSpec, _ *corev1.Container) { *p.Volumes[7].Projected.DefaultMode = 0o400 },

	"volumes.projected.sources.configMap.name": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[7].Projected.Sources[0].ConfigMap.Name = "conf2"
	},
	"volumes.projected.sources.configMap.items.key": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[7].Projected.Sources[0].ConfigMap.Items[0].Key = "b"
	},
	"volumes.projected.sources.configMap.items.path": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[7].Projected.Sources[0].ConfigMap.Items[0].Path = "x"
	},
	"volumes.projected.sources.configMap.items.mode": func(p *corev1.PodSpec, _ *corev1.Container) {
		*p.Volumes[7].Projected.Sources[0].ConfigMap.Items[0].Mode = 0o444
	},
	"volumes.projected.sources.configMap.optional": func(p *corev1.PodSpec, _ *corev1.Container) {
		*p.Volumes[7].Projected.Sources[2].ConfigMap.Optional = false
	},
	"volumes.projected.sources.secret.name": func(p *corev1.PodSpec, _ *corev1.Container) { p.Volumes[7].Projected.Sources[1].Secret.Name = "key2" },
	"volumes.projected.sources.secret.items.key": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[7].Projected.Sources[1].Secret.Items[0].Key = "u"
	},
	"volumes.projected.sources.secret.items.path": func(p *corev1.PodSpec, _ *corev1.Container) {
		p.Volumes[7].Projected.Sources[1].Secret.Items[0].Path = "x"
	},
	"volumes.projected.sources.secret.items.mode": func(p *corev1.PodSpec, _ *corev1.Container) {
		*p.Volumes[7].Projected.Sources[1].Secret.Items[0].Mode = 0o444
	},
	"volumes.projected.sources.secret.optional": func(p *corev1.PodSpec, _ *corev1.Container) {
		*p.Volumes[7].Projected.Sources[3].Secret.Optional = false
	},

	"containers.name":                                     ofContainer(func(c *corev1.Container) *string { return &c.Name }, "other"),
	"containers.image":                                    ofContainer(func(c *corev1.Container) *string { return &c.Image }, "localhost/c:2"),
	"containers.imagePullPolicy":                          ofContainer(func(c *corev1.Container) *corev1.PullPolicy { return &c.ImagePullPolicy }, corev1.PullAlways),
	"containers.command":                                  ofContainer(func(c *corev1.Container) *[]string { return &c.Command }, nil),
	"containers.args":                                     ofContainer(func(c *corev1.Container) *[]string { return &c.Args }, nil),
	"containers.workingDir":                               ofContainer(func(c *corev1.Container) *string { return &c.WorkingDir }, "/x"),
	"containers.terminationMessagePath":                   ofContainer(func(c *corev1.Container) *string { return &c.TerminationMessagePath }, "/why"),
	"containers.terminationMessagePolicy":                 ofContainer(func(c *corev1.Container) *corev1.TerminationMessagePolicy { return &c.TerminationMessagePolicy }, corev1.TerminationMessageFallbackToLogsOnError),
	"containers.env.name":                                 func(_ *corev1.PodSpec, c *corev1.Container) { c.Env[0].Name = "Z" },
	"containers.env.value":                                func(_ *corev1.PodSpec, c *corev1.Container) { c.Env[0].Value = "z" },
	"containers.env.valueFrom.configMapKeyRef":            func(_ *corev1.PodSpec, c *corev1.Container) { c.Env[1].ValueFrom.ConfigMapKeyRef.Key = "b" },
	"containers.env.valueFrom.secretKeyRef":               func(_ *corev1.PodSpec, c *corev1.Container) { c.Env[2].ValueFrom.SecretKeyRef.Key = "u" },
	"containers.env.valueFrom.fieldRef":                   func(_ *corev1.PodSpec, c *corev1.Container) { c.Env[3].ValueFrom.FieldRef.FieldPath = "metadata.uid" },
	"containers.envFrom":                                  func(_ *corev1.PodSpec, c *corev1.Container) { c.EnvFrom[0].Prefix = "P_" },
	"containers.ports.name":                               func(_ *corev1.PodSpec, c *corev1.Container) { c.Ports[0].Name = "other" },
	"containers.ports.containerPort":                      func(_ *corev1.PodSpec, c *corev1.Container) { c.Ports[0].ContainerPort = 81 },
	"containers.ports.hostPort":                           func(_ *corev1.PodSpec, c *corev1.Container) { c.Ports[0].HostPort = 8081 },
	"containers.ports.protocol":                           func(_ *corev1.PodSpec, c *corev1.Container) { c.Ports[0].Protocol = corev1.ProtocolUDP },
	"containers.resources.requests.cpu":                   limit(requests, corev1.ResourceCPU, "150m"),
	"containers.resources.requests.memory":                limit(requests, corev1.ResourceMemory, "1Ti"),
	"containers.resources.limits.cpu":                     limit(limits, corev1.ResourceCPU, "300m"),
	"containers.resources.limits.memory":                  limit(limits, corev1.ResourceMemory, "256Mi"),
	"containers.securityContext.runAsUser":                inContext(corev1.SecurityContext{RunAsUser: ptrTo(int64(7))}),
	"containers.securityContext.runAsGroup":               inContext(corev1.SecurityContext{RunAsGroup: ptrTo(int64(7))}),
	"containers.securityContext.runAsNonRoot":             inContext(corev1.SecurityContext{RunAsNonRoot: ptrTo(true)}),
	"containers.securityContext.privileged":               inContext(corev1.SecurityContext{Privileged: ptrTo(true)}),
	"containers.securityContext.allowPrivilegeEscalation": inContext(corev1.SecurityContext{AllowPrivilegeEscalation: ptrTo(false)}),
	"containers.securityContext.readOnlyRootFilesystem":   inContext(corev1.SecurityContext{ReadOnlyRootFilesystem: ptrTo(true)}),
	"containers.securityContext.capabilities":             inContext(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}),
	"containers.securityContext.seccompProfile":           inContext(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}),
	"containers.volumeMounts.name":                        func(_ *corev1.PodSpec, c *corev1.Container) { c.VolumeMounts[0].Name = "m" },
	"containers.volumeMounts.mountPath":                   func(_ *corev1.PodSpec, c *corev1.Container) { c.VolumeMounts[0].MountPath = "/x" },
	"containers.volumeMounts.readOnly":                    func(_ *corev1.PodSpec, c *corev1.Container) { c.VolumeMounts[0].ReadOnly = true },
	"containers.volumeMounts.subPath":                     func(_ *corev1.PodSpec, c *corev1.Container) { c.VolumeMounts[0].SubPath = "y" },
	"containers.hook.httpGet.path":                        func(_ *corev1.PodSpec, c *corev1.Container) { c.Lifecycle.PostStart.HTTPGet.Path = "/q" },
	"containers.hook.httpGet.port": func(_ *corev1.PodSpec, c *corev1.Container) {
		c.Lifecycle.PostStart.HTTPGet.Port = intstr.FromInt32(81)
	},
	"containers.hook.httpGet.scheme": func(_ *corev1.PodSpec, c *corev1.Container) {
		c.Lifecycle.PostStart.HTTPGet.Scheme = corev1.URISchemeHTTPS
	},
	"containers.hook.httpGet.httpHeaders": func(_ *corev1.PodSpec, c *corev1.Container) { c.Lifecycle.PostStart.HTTPGet.HTTPHeaders = nil },
	"containers.hook.exec.command":        func(_ *corev1.PodSpec, c *corev1.Container) { c.Lifecycle.PreStop.Exec.Command = []string{"/x"} },
	"containers.hook.tcpSocket.port": func(_ *corev1.PodSpec, c *corev1.Container) {
		c.Lifecycle.PreStop = &corev1.LifecycleHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}
	},
	"containers.hook.sleep.seconds": func(_ *corev1.PodSpec, c *corev1.Container) {
		c.Lifecycle.PreStop = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}
	},
	"containers.probe.httpGet.path":        func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.HTTPGet.Path = "/s" },
	"containers.probe.httpGet.port":        func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.HTTPGet.Port = intstr.FromInt32(82) },
	"containers.probe.httpGet.scheme":      func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.HTTPGet.Scheme = corev1.URISchemeHTTPS },
	"containers.probe.httpGet.httpHeaders": func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.HTTPGet.HTTPHeaders = nil },
	"containers.probe.tcpSocket.port":      func(_ *corev1.PodSpec, c *corev1.Container) { c.LivenessProbe.TCPSocket.Port = intstr.FromInt32(82) },
	"containers.probe.exec.command":        func(_ *corev1.PodSpec, c *corev1.Container) { c.StartupProbe.Exec.Command = []string{"/ok", "x"} },
	"containers.probe.initialDelaySeconds": func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.InitialDelaySeconds = 2 },
	"containers.probe.timeoutSeconds":      func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.TimeoutSeconds = 2 },
	"containers.probe.periodSeconds":       func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.PeriodSeconds = 2 },
	"containers.probe.successThreshold":    func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.SuccessThreshold = 2 },
	"containers.probe.failureThreshold":    func(_ *corev1.PodSpec, c *corev1.Container) { c.ReadinessProbe.FailureThreshold = 2 },
}

// What the table of supported fields calls acted on is: each field has a change that
// scheduler or agent see. Who lists a field there adds its change here.
func TestFieldsAreActedOn(t *testing.T) {
	listed := rowtest.ActedOn(schema.KindPod, "spec")
	host := t.TempDir()
	if err := os.Mkdir(filepath.Join(host, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	plain := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid-1"}}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(plainPod, "HOST", host)), &plain.Spec); err != nil {
		t.Fatal(err)
	}
	before := observe(t, plain)
	if again := observe(t, plain); !reflect.DeepEqual(before, again) {
		t.Fatalf("the same pod is seen as\n%v\nand as\n%v", before, again)
	}
	for _, path := range listed {
		if path == "containers" {
			continue
		}
		alter := changes[path]
		if alter == nil {
			t.Errorf("%s is said to be acted on: no change shows it", path)
			continue
		}
		p := plain.DeepCopy()
		alter(&p.Spec, &p.Spec.Containers[0])
		if reflect.DeepEqual(before, observe(t, p)) {
			t.Errorf("%s is said to be acted on: a change of it is not seen", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(changes)) {
		if !slices.Contains(listed, path) && path != "initContainers" {
			t.Errorf("%s has a change, and is not listed as acted on", path)
		}
	}
}

// observe tells what scheduler and agent make of a pod, by subject.
func observe(t *testing.T, p *corev1.Pod) map[string]any {
	t.Helper()
	out := map[string]any{}
	out["node"] = fmt.Sprint(scheduler.NewView(twoNodes()).Schedule(p, ""))
	c := &p.Spec.Containers[0]
	cluster := wire.ClusterInfo{DNS: schema.List[string]{"10.96.0.10"}, Domain: "cluster.local"}
	sandbox, err := pod.SandboxOf(p, netip.MustParseAddr("10.112.0.1"), cluster.Domain, nil)
	out["sandbox"] = fmt.Sprint(sandbox, err)
	out["files"] = []string{pod.Hosts(p, "10.112.0.1", cluster), pod.ResolvConf(p, cluster, "nameserver 192.0.2.1\n")}
	out["credentials"] = fmt.Sprint(pod.CredentialsFor(p, "registry.example.org/c:1", everything))
	out["host ports"] = fmt.Sprint(pod.HostPortsOf(p, "10.112.0.1"))
	out["end"] = fmt.Sprint(pod.Grace(p), pod.MessageFromLog(c, 1), pod.Deadline(p, &pod.Observed{}))
	out["volumes"], out["mounts"] = observeVolumes(t, p, c)
	w := &pod.Wanted{PodWork: wire.PodWork{Pod: p}}
	spec, err := pod.BuildSpec(w, c, 0, pod.Frame{Sources: make([]string, len(c.VolumeMounts)), Files: "/f", Message: "/m", Data: everything})
	data, _ := json.Marshal(spec)
	out["container"] = fmt.Sprint(string(data), err)
	images := map[string]string{"localhost/c:1": "id"}
	now := time.Unix(0, 0)
	up := &pod.Observed{UID: p.UID, Sandbox: true, VolumesReady: true}
	out["before all"] = fmt.Sprint(pod.Plan(w, up, images, now))
	up.Containers = map[string]pod.Container{"i": {ID: "i", State: pod.StateRunning, Started: true, SpecHash: pod.SpecHash(&corev1.Container{Name: "i", Image: "localhost/c:1"})}}
	out["beside what began"] = fmt.Sprint(pod.Plan(w, up, images, now))
	up.Initialized, up.Containers = true, nil
	out["first steps"] = fmt.Sprint(pod.Plan(w, up, images, now))
	up.Containers = map[string]pod.Container{c.Name: {ID: "x", State: pod.StateExited, SpecHash: pod.SpecHash(c), ExitCode: 1, Crashes: 1}}
	out["after a crash"] = fmt.Sprint(pod.Plan(w, up, images, now))
	up.Containers = map[string]pod.Container{c.Name: {ID: "x", State: pod.StateRunning, SpecHash: pod.SpecHash(c), Unlively: "no", PostStarted: true, Started: true, PreStopped: true}}
	for _, op := range pod.Plan(w, up, images, now) {
		out["unlively "+op.Container] = fmt.Sprint(op, op.Grace)
	}
	out["probes"] = observeProbes(c)
	out["hooks"] = observeHooks(c)
	return out
}

// observeHooks tells what hooks ask.
func observeHooks(c *corev1.Container) (out []string) {
	for _, kind := range []schema.HookKind{schema.PostStart, schema.PreStop} {
		h, run := schema.Hooks(c)[kind], probe{container: c, ip: "10.112.0.1"}
		run.exec = func(_ context.Context, command []string, limit time.Duration) (pod.ExecResult, error) {
			out = append(out, fmt.Sprint(command, limit))
			return pod.ExecResult{}, nil
		}
		if h.HTTPGet != nil {
			req, err := run.request(context.Background(), h.HTTPGet)
			if err != nil {
				return append(out, err.Error())
			}
			out = append(out, fmt.Sprint(req.URL, req.Header))
			continue
		}
		began := time.Now()
		err := run.handle(context.Background(), h, time.Minute)
		out = append(out, fmt.Sprint(err, time.Since(began) >= time.Second))
	}
	return out
}

var everything = pod.Data{
	ConfigMaps: map[string]map[string][]byte{"shop/conf": {"a": []byte("A"), "b": []byte("B")}, "shop/conf2": {"a": []byte("2"), "b": []byte("3")}},
	Secrets:    map[string]map[string][]byte{"shop/registry": {corev1.DockerConfigJsonKey: []byte(`{"auths": {"registry.example.org": {"username": "u", "password": "p"}}}`)}, "shop/key": {"t": []byte("T"), "u": []byte("U")}, "shop/key2": {"t": []byte("4"), "u": []byte("5")}},
	Services:   map[string]wire.Service{"shop/db": {ClusterIPs: schema.List[string]{"10.96.0.5"}, Ports: []wire.ServicePort{{Port: 5432, Protocol: "TCP"}}}},
}

func twoNodes() state.Reader {
	tx := state.Empty(state.Counters{}).Begin()
	for name, disk := range map[string]string{"n1": "ssd", "n2": "old"} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"disk": disk}}}
		n.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi"), "pods": resource.MustParse("10")}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		if name == "n2" {
			n.Spec.Taints = []corev1.Taint{{Key: "old", Effect: corev1.TaintEffectNoSchedule}}
		}
		tx.Put(n)
	}
	return tx.Commit()
}

// observeVolumes makes the volumes and tells what is in them, and what mounts show.
func observeVolumes(t *testing.T, p *corev1.Pod, c *corev1.Container) (volumes, mounts []string) {
	t.Helper()
	dir := t.TempDir()
	v := volume.New(dir)
	defer func() {
		if err := v.Remove(p.UID); err != nil {
			t.Error(err)
		}
	}()
	err := v.Prepare(p, everything, pod.Place{})
	volumes = append(volumes, fmt.Sprint(err))
	root := filepath.Join(dir, string(p.UID), "volumes")
	for _, vol := range p.Spec.Volumes {
		volumes = append(volumes, contentOf(t, filepath.Join(root, vol.Name))...)
	}
	c, err = pod.WithSubPaths(p, c, everything, pod.Place{})
	if err != nil {
		return volumes, append(mounts, err.Error())
	}
	sources, err := v.Bind(p, c)
	mounts = append(mounts, fmt.Sprint(err))
	for i, s := range sources {
		mounts = append(mounts, c.VolumeMounts[i].MountPath)
		mounts = append(mounts, contentOf(t, s)...)
	}
	for _, vol := range []string{"d", "m"} {
		made, _ := filepath.Glob(filepath.Join(root, vol, "*"))
		for _, m := range made {
			mounts = append(mounts, strings.TrimPrefix(m, dir))
		}
	}
	return volumes, mounts
}

// contentOf tells the files below a directory, followed, and the file system it is on.
func contentOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	var on unix.Statfs_t
	if unix.Statfs(dir, &on) == nil {
		size := uint64(0)
		if on.Type == unix.TMPFS_MAGIC {
			size = on.Blocks
		}
		out = append(out, fmt.Sprintf("%d of %d", on.Type, size))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return append(out, "nothing")
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		if err != nil || strings.HasPrefix(e.Name(), "..") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil && !info.IsDir() {
			t.Error(err)
		}
		out = append(out, fmt.Sprint(e.Name(), info.Mode(), string(data)))
	}
	return out
}

// observeProbes tells what probes ask, when, and what they make of the answers.
func observeProbes(c *corev1.Container) (out []string) {
	stopped, stop := context.WithCancel(context.Background())
	stop()
	for _, kind := range []pod.ProbeKind{pod.ProbeStartup, pod.ProbeReadiness, pod.ProbeLiveness} {
		spec := pod.ProbesOf(c)[kind]
		run := probe{kind: kind, spec: spec, container: c, ip: "10.112.0.1"}
		run.exec = func(_ context.Context, command []string, limit time.Duration) (pod.ExecResult, error) {
			out = append(out, fmt.Sprint(command, limit))
			return pod.ExecResult{}, nil
		}
		switch {
		case spec.Exec != nil:
			_, _ = run.once(context.Background())
		case spec.HTTPGet != nil:
			req, err := run.request(context.Background(), spec.HTTPGet)
			if err != nil {
				out = append(out, err.Error())
				break
			}
			out = append(out, fmt.Sprint(req.URL, req.Host, req.Header))
		case spec.GRPC != nil:
			out = append(out, fmt.Sprint(spec.GRPC.Port, spec.GRPC.Service != nil), fmt.Sprint(run.connect(stopped)))
		case spec.TCPSocket != nil:
			address, err := run.address("", spec.TCPSocket.Port)
			out = append(out, fmt.Sprint(address, err))
		}
		out = append(out, fmt.Sprint(run.delay(), pod.ProbePeriod(spec), pod.ProbeTimeout(spec)))
		var n pod.ProbeCount
		for _, ok := range []bool{true, true, false, false, false} {
			out = append(out, fmt.Sprint(n.Count(ok, spec)))
		}
	}
	return out
}
