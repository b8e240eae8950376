package pod

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

func TestEnv(t *testing.T) {
	data := Data{
		ConfigMaps: map[string]map[string][]byte{"shop/conf": {"A": []byte("a"), "B": []byte("b"), "BIN": {0, 1}, "TEXT": []byte("t")}, "shop/nul": {"Z": {0}}},
		BinaryKeys: map[string][]string{"shop/conf": {"BIN", "TEXT"}},
		Secrets:    map[string]map[string][]byte{"shop/key": {"token": []byte("s3cret")}, "shop/bytes": {"latin": {0xe9}}, "shop/nul": {"Z": []byte("a\x00b")}},
	}
	at := Place{Node: "n1", PodIPs: schema.List[string]{"10.112.0.5"}, HostIP: "10.0.0.1", Allocatable: corev1.ResourceList{"cpu": resource.MustParse("1500m")}}
	tests := []struct{ name, container, want, err string }{
		{name: "values", container: `env: [{name: A, value: x}, {name: B, value: "$(A)-$(NOT)-$$(A)-$"}]`, want: "A=x B=x-$(NOT)-$(A)-$"},
		{name: "a later one wins", container: `env: [{name: A, value: x}, {name: A, value: "$(A)y"}]`, want: "A=xy"},
		{name: "keys", container: `env: [{name: A, valueFrom: {configMapKeyRef: {name: conf, key: A}}}, {name: T, valueFrom: {secretKeyRef: {name: key, key: token}}}]`, want: "A=a T=s3cret"},
		{name: "whole, with prefix", container: `envFrom: [{prefix: P_, configMapRef: {name: conf}}, {secretRef: {name: key}}], env: [{name: X, value: "$(P_A)"}]`, want: "P_A=a P_B=b token=s3cret X=a"},
		{name: "fields", container: `env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, {name: B, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}, {name: C, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: D, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, {name: E, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]`,
			want: "A=web-1 B=web C=10.112.0.5 D=n1 E=10.0.0.1"},
		{name: "optional", container: `envFrom: [{configMapRef: {name: nothing, optional: true}}], env: [{name: A, valueFrom: {secretKeyRef: {name: key, key: other, optional: true}}}]`, want: ""},
		{name: "no ConfigMap", container: `env: [{name: A, valueFrom: {configMapKeyRef: {name: nothing, key: A}}}]`, err: "env A: configmap shop/nothing not found"},
		{name: "no key", container: `env: [{name: A, valueFrom: {configMapKeyRef: {name: conf, key: Z}}}]`, err: "env A: configmap shop/conf has no key Z"},
		{name: "no Secret", container: `envFrom: [{secretRef: {name: nothing}}]`, err: "secret shop/nothing not found"},
		{name: "bytes that are not UTF-8", container: `env: [{name: K, valueFrom: {secretKeyRef: {name: bytes, key: latin}}}, {name: L, value: "$(K)"}], envFrom: [{secretRef: {name: bytes}}]`, want: "latin=\xe9 K=\xe9 L=\xe9"},
		{name: "binaryData", container: `env: [{name: K, valueFrom: {configMapKeyRef: {name: conf, key: TEXT}}}]`, err: "env K: key TEXT of configmap shop/conf is binaryData, which environments are not made from: mount it as a file instead"},
		{name: "NUL of a Secret", container: `env: [{name: K, valueFrom: {secretKeyRef: {name: nul, key: Z}}}]`, err: "env K: key Z of secret shop/nul contains a NUL byte, which no environment can carry: mount it as a file instead"},
		{name: "NUL of a whole Secret", container: `envFrom: [{secretRef: {name: nul, optional: true}}]`, err: "env Z: key Z of secret shop/nul contains a NUL byte, which no environment can carry: mount it as a file instead"},
		{name: "NUL of a whole ConfigMap", container: `envFrom: [{prefix: P_, configMapRef: {name: nul}}]`, err: "env P_Z: key Z of configmap shop/nul contains a NUL byte, which no environment can carry: mount it as a file instead"},
		{name: "NUL as written", container: `env: [{name: K, value: "a\0b"}]`, err: "env K: its value contains a NUL byte, which no environment can carry: mount it as a file instead"},
		{name: "amounts", container: `resources: {requests: {cpu: 250m}, limits: {memory: 64Mi}}, env: [{name: A, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}, {name: B, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}, {name: C, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}, {name: D, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: E, valueFrom: {resourceFieldRef: {resource: requests.memory}}}]`, want: "A=1 B=250 C=64 D=2 E=0"},
		{name: "amount of another container", container: `env: [{name: A, valueFrom: {resourceFieldRef: {containerName: z, resource: limits.cpu}}}]`, err: `env A: the pod has no container "z"`},
		{name: "no such field", container: `env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.secret}}}]`, err: `env A: fieldPath "spec.secret" is not supported`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := podFrom(t, "containers: [{name: c, "+test.container+"}]")
			env, err := Env(p, &p.Spec.Containers[0], data, at)
			var got []string
			for _, e := range env {
				got = append(got, e.Name+"="+e.Value)
			}
			message := ""
			if err != nil {
				message = err.Error()
			}
			if diff := cmp.Diff([]string{test.want, test.err}, []string{strings.Join(got, " "), message}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildSpec(t *testing.T) {
	p := podFrom(t, `
enableServiceLinks: true
securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000}
volumes: [{name: conf, configMap: {name: conf}}, {name: d, emptyDir: {}}]
containers:
- name: c
  command: [/bin/app, "--name=$(NAME)"]
  args: ["$(MISSING)", "$(HOSTNAME)", "$(DB_SERVICE_HOST)"]
  workingDir: /work
  terminationMessagePath: /data/why
  env: [{name: NAME, value: web}]
  resources: {requests: {cpu: 250m}, limits: {cpu: 500m, memory: 64Mi}}
  securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {add: [NET_ADMIN], drop: [ALL]}}
  volumeMounts: [{name: conf, mountPath: /etc/app}, {name: d, mountPath: /data, subPath: sub}]
- name: other
  resources: {limits: {cpu: "1"}}`)
	w := &Wanted{PodWork: wire.PodWork{Pod: p, Epoch: 7, Revision: "main-abc"}}
	got, err := BuildSpec(w, &p.Spec.Containers[0], 2, Frame{
		Cluster: "cl", Place: Place{Node: "n1", PodIPs: schema.List[string]{"10.112.0.5"}}, Sandbox: Sandbox{Net: "/run/net", IPC: "/run/ipc", UTS: "/run/uts", Shm: "/run/shm"},
		Sources: []string{"/v/conf", "/b/1"}, Files: "/f", LogPath: "/l/2.log", Message: "/m/2",
		Data: Data{Services: map[string]wire.Service{"shop/db": {ClusterIPs: schema.List[string]{"10.96.0.5"}, Ports: []wire.ServicePort{{Port: 5432, Protocol: "TCP"}}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := ContainerSpec{
		Name: "fl-uid1-c-2", Image: "i:1", Pod: "uid-1",
		Labels: map[string]string{
			"fairlead/cluster": "cl", "fairlead/node": "n1", "fairlead/pod-uid": "uid-1", "fairlead/namespace": "shop", "fairlead/pod": "web-1", "fairlead/container": "c",
			"fairlead/spec-hash": SpecHash(&p.Spec.Containers[0]), "fairlead/attempt": "2", "fairlead/epoch": "7", "fairlead/revision": "main-abc", "fairlead/ip": "10.112.0.5",
		},
		Sandbox: Sandbox{Net: "/run/net", IPC: "/run/ipc", UTS: "/run/uts", Shm: "/run/shm"},
		Env: []EnvVar{
			{Name: "NAME", Value: "web"}, {Name: "DB_SERVICE_HOST", Value: "10.96.0.5"}, {Name: "DB_SERVICE_PORT", Value: "5432"},
			{Name: "DB_PORT", Value: "tcp://10.96.0.5:5432"}, {Name: "DB_PORT_5432_TCP", Value: "tcp://10.96.0.5:5432"}, {Name: "DB_PORT_5432_TCP_PROTO", Value: "tcp"},
			{Name: "DB_PORT_5432_TCP_PORT", Value: "5432"}, {Name: "DB_PORT_5432_TCP_ADDR", Value: "10.96.0.5"}, {Name: "HOSTNAME", Value: "web-1"},
		},
		Command: []string{"/bin/app", "--name=web"}, Args: []string{"$(MISSING)", "$(HOSTNAME)", "10.96.0.5"}, WorkingDir: "/work",
		Mounts: []Mount{ // what is below another comes after it
			{Source: "/b/1", Target: "/data"}, {Source: "/v/conf", Target: "/etc/app", ReadOnly: true}, {Source: "/run/shm", Target: "/dev/shm"}, {Source: "/m/2", Target: "/data/why"},
			{Source: "/f/hosts", Target: "/etc/hosts"}, {Source: "/f/hostname", Target: "/etc/hostname"}, {Source: "/f/resolv.conf", Target: "/etc/resolv.conf"},
		},
		LogPath:   "/l/2.log",
		Resources: Resources{CPUShares: 256, CPUQuota: 50_000, CPUPeriod: 100_000, MemoryBytes: 64 << 20, PodCPUShares: 256 + 1024},
		Security:  Security{User: "1000:2000", Groups: []string{"3000"}, CapAdd: []string{"NET_ADMIN"}, CapDrop: []string{"ALL"}, ReadOnlyRoot: true, NoNewPrivileges: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Secrets are known for what they are however they come to a variable, and stay as
// written in what may be shown.
func TestSecretsAreNotShown(t *testing.T) {
	data := Data{Secrets: map[string]map[string][]byte{"shop/key": {"TOKEN": []byte("s3cret")}}}
	p := podFrom(t, `
containers:
- name: c
  command: ["$(DIR)/app", "$(TOKEN)"]
  args: ["--url=$(URL)", "$$(TOKEN)", "$(T) $(NOT)"]
  envFrom: [{secretRef: {name: key}}]
  env:
  - {name: DIR, value: /opt}
  - {name: T, valueFrom: {secretKeyRef: {name: key, key: TOKEN}}}
  - {name: URL, value: "x://$(T)@h"}
  - {name: FURTHER, value: "<$(URL)>"}
  - {name: ESCAPED, value: "$$(T)"}`)
	got, err := BuildSpec(&Wanted{PodWork: wire.PodWork{Pod: p}}, &p.Spec.Containers[0], 0, Frame{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	env := []EnvVar{
		{"TOKEN", "s3cret", true}, {"DIR", "/opt", false}, {"T", "s3cret", true}, {"URL", "x://s3cret@h", true},
		{"FURTHER", "<x://s3cret@h>", true}, {"ESCAPED", "$(T)", false}, {"HOSTNAME", "web-1", false},
	}
	if diff := cmp.Diff(env, got.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	argv := []string{"/opt/app", "s3cret", "--url=x://s3cret@h", "$(TOKEN)", "s3cret $(NOT)"}
	if diff := cmp.Diff(argv, append(got.Command, got.Args...)); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/opt/app", "$(TOKEN)", "--url=$(URL)", "$(TOKEN)", "$(T) $(NOT)"}, got.Shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}

func TestBuildSpecRefusesWhatItWouldIgnore(t *testing.T) {
	for spec, want := range map[string]string{
		"hostNetwork: true\ncontainers: [{name: c}]":                                          "hostNetwork",
		"containers: [{name: c, lifecycle: {stopSignal: SIGUSR1}}]":                           "containers[0].lifecycle.stopSignal",
		"hostUsers: false\ncontainers: [{name: c}]":                                           "hostUsers",
		"containers: [{name: c}, {name: d, restartPolicy: Always}]":                           "containers[1].restartPolicy",
		"containers: [{name: c, resources: {limits: {example.org/gpu: 1}}}]":                  "containers[0].resources.limits[example.org/gpu]",
		"containers: [{name: c, securityContext: {procMount: Unmasked}}]":                     "containers[0].securityContext.procMount",
		"containers: [{name: c, securityContext: {seLinuxOptions: {user: x}}}]":               "containers[0].securityContext.seLinuxOptions",
		"securityContext: {appArmorProfile: {type: RuntimeDefault}}\ncontainers: [{name: c}]": "securityContext.appArmorProfile",
		"volumes: [{name: v, nfs: {server: s, path: /}}]\ncontainers: [{name: c}]":            "volumes[0].nfs",
		"securityContext: {supplementalGroupsPolicy: Strict}\ncontainers: [{name: c}]":        "securityContext.supplementalGroupsPolicy",
	} {
		p := podFrom(t, spec)
		_, err := BuildSpec(&Wanted{PodWork: wire.PodWork{Pod: p}}, &p.Spec.Containers[0], 0, Frame{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", spec, err, want)
		}
	}
}

func TestSubPath(t *testing.T) {
	for sub, want := range map[string]string{
		"": ".", ".": ".", "./": ".", "a": "a", "a/": "a", "a//b/.": "a/b", "..a": "..a", "a..": "a..", "...": "...", "..data/x": "..data/x",
	} {
		if got, err := SubPath(&corev1.VolumeMount{SubPath: sub}); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", sub, got, err, want)
		}
	}
	for _, sub := range []string{"..", "../a", "a/..", "a/../b", "/", "/a", "//a", "./.."} {
		if got, err := SubPath(&corev1.VolumeMount{SubPath: sub}); err == nil {
			t.Errorf("%q is taken for %q", sub, got)
		}
	}
	if _, err := SubPath(&corev1.VolumeMount{SubPathExpr: "a"}); err == nil {
		t.Error("subPathExpr is ignored")
	}
}

func TestSubPathsOfVariables(t *testing.T) {
	p := podFrom(t, `containers: [{name: c, env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}], volumeMounts: [{name: v, mountPath: /v, subPathExpr: "logs/$(POD)"}, {name: v, mountPath: /w, subPath: w}]}]`)
	c, err := WithSubPaths(p, &p.Spec.Containers[0], Data{}, Place{})
	if err != nil || c.VolumeMounts[0].SubPath != "logs/web-1" || c.VolumeMounts[0].SubPathExpr != "" || c.VolumeMounts[1].SubPath != "w" {
		t.Errorf("got %+v, %v", c, err)
	}
	if p.Spec.Containers[0].VolumeMounts[0].SubPathExpr == "" {
		t.Error("the pod itself is changed")
	}
	p.Spec.Containers[0].VolumeMounts[0].SubPathExpr = "$(NOBODY)"
	if _, err := WithSubPaths(p, &p.Spec.Containers[0], Data{}, Place{}); err == nil || err.Error() != "subPathExpr of volumeMount v: there is no variable NOBODY" {
		t.Errorf("got %v", err)
	}
}

// A Secret's value is in no path, whatever way it takes, and in no message about one.
func TestNoSubPathIsOfASecret(t *testing.T) {
	data := Data{Secrets: map[string]map[string][]byte{"shop/key": {"TOKEN": []byte("s3cret"), "ROOT": []byte("/s3cret")}}}
	p := podFrom(t, `
containers:
- name: c
  envFrom: [{secretRef: {name: key}}]
  env:
  - {name: T, valueFrom: {secretKeyRef: {name: key, key: TOKEN}}}
  - {name: URL, value: "a-$(T)"}
  - {name: FURTHER, value: "$(URL)"}
  - {name: ESCAPED, value: "$$(T)"}
  volumeMounts: [{name: v, mountPath: /v, subPathExpr: x}]`)
	c := &p.Spec.Containers[0]
	for _, name := range []string{"T", "URL", "FURTHER", "TOKEN", "ROOT"} {
		c.VolumeMounts[0].SubPathExpr = "logs/$(" + name + ")"
		_, err := WithSubPaths(p, c, data, Place{})
		if !errors.As(err, new(UnusableError)) || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "variable "+name+" has its value from a Secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for expr, want := range map[string]string{"$$(T)": "$(T)", "$(ESCAPED)": "$(T)"} {
		c.VolumeMounts[0].SubPathExpr = expr
		if got, err := WithSubPaths(p, c, data, Place{}); err != nil || got.VolumeMounts[0].SubPath != want {
			t.Errorf("%s: %v, %v", expr, got, err)
		}
	}
}

func TestStaticCommand(t *testing.T) {
	c := &corev1.Container{Env: []corev1.EnvVar{{Name: "A", Value: "a"}, {Name: "B", ValueFrom: &corev1.EnvVarSource{}}}}
	if got := strings.Join(StaticCommand(c, []string{"x", "$(A)", "$(B)", "$$(A)"}), " "); got != "x a $(B) $(A)" {
		t.Errorf("got %s", got)
	}
}

func TestFiles(t *testing.T) {
	cluster := wire.ClusterInfo{DNS: schema.List[string]{"10.96.0.10"}, Domain: "cluster.local"}
	node := "nameserver 192.0.2.1\nsearch example.org\noptions rotate\n"
	tests := []struct{ spec, want string }{
		{"{}", "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"},
		{"dnsPolicy: Default", "nameserver 192.0.2.1\nsearch example.org\noptions rotate\n"},
		{`{dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.9]}}`, "nameserver 192.0.2.9\n"},
		{`dnsConfig: {searches: [x.org], options: [{name: ndots, value: "2"}]}`, "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local x.org\noptions ndots:2\n"},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, ResolvConf(podFrom(t, test.spec), cluster, node)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.spec, diff)
		}
	}
	p := podFrom(t, `{hostname: db-0, subdomain: db, hostAliases: [{ip: 192.0.2.5, hostnames: [x, z]}]}`)
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.112.0.5\tdb-0.db.shop.svc.cluster.local\tdb-0\n192.0.2.5\tx\tz\n"
	if diff := cmp.Diff(want, Hosts(p, "10.112.0.5", cluster)); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
	yes := true
	p.Spec.SetHostnameAsFQDN = &yes
	if got, err := SandboxHostname(p, "cluster.local"); err != nil || got != "db-0.db.shop.svc.cluster.local" {
		t.Errorf("full name %q, %v", got, err)
	}
	if _, err := SandboxHostname(p, strings.Repeat("a", 60)); !errors.As(err, new(UnusableError)) || !strings.Contains(err.Error(), "has 77 characters, and the kernel takes 64") {
		t.Errorf("full name: %v", err)
	}
	p.Spec.Hostname = strings.Repeat("a", 62) + "-b"
	if got := Hostname(p); len(got) != 62 {
		t.Errorf("hostname %q", got)
	}
}

func TestStatus(t *testing.T) {
	const one = "containers: [{name: c}]"
	const greeting = "containers: [{name: c, lifecycle: {postStart: {exec: {command: [/hi]}}}}]"
	unhooked := func(name string) Container {
		c := starting(name)
		c.PostStartFailed, c.TermAt = "no", now
		return c.Exited(Exit{Code: 143, FinishedAt: now})
	}
	const inited = "initContainers: [{name: a}]\ncontainers: [{name: c}]"
	const helped = "initContainers: [{name: a, restartPolicy: Always}]\ncontainers: [{name: c}]"
	tests := []struct {
		name    string
		spec    string
		deleted bool
		o       *Observed
		want    string // phase, then per container: name state reason ready restarts
	}{
		{"new", one, false, observed(nil), "Pending c:waiting ContainerCreating unready 0"},
		{"init", "initContainers: [{name: a}]\ncontainers: [{name: c}]", false, observed(map[string]Container{"a": running("a")}), "Pending a:running unready 0 c:waiting PodInitializing unready 0"},
		{"init fails for good", "restartPolicy: Never\n" + inited, false, observed(map[string]Container{"a": exited("a", 1, 1)}), "Failed a:terminated Error unready 0 c:waiting PodInitializing unready 0"},
		{"init fails", inited, false, observed(map[string]Container{"a": exited("a", 1, 1)}), "Pending a:terminated Error unready 0 c:waiting PodInitializing unready 0"},
		{"init fails again", inited, false, observed(map[string]Container{"a": exited("a", 1, 2)}), "Pending a:waiting CrashLoopBackOff unready 0 c:waiting PodInitializing unready 0"},
		{"postStart runs", greeting, false, observed(map[string]Container{"c": starting("c")}), "Pending c:waiting ContainerCreating unready 0"},
		{"postStart failed", greeting, false, observed(map[string]Container{"c": unhooked("c")}), "Running c:terminated PostStartHookError unready 0"},
		{"sidecar starts", helped, false, observed(map[string]Container{"a": starting("a")}), "Pending a:running unready 0 c:waiting PodInitializing unready 0"},
		{"sidecar beside", helped, false, observed(map[string]Container{"a": running("a"), "c": running("c")}), "Running Ready a:running ready 0 c:running ready 0"},
		{"sidecar crashes", helped, false, through(map[string]Container{"a": exited("a", 0, 3), "c": running("c")}), "Running a:waiting CrashLoopBackOff unready 0 c:running ready 0"},
		{"sidecar outlives", "restartPolicy: Never\n" + helped, false, observed(map[string]Container{"a": running("a"), "c": exited("c", 1, 1)}), "Running a:running ready 0 c:terminated Error unready 0"},
		{"sidecar that is restarted outlives", "restartPolicy: Never\ninitContainers: [{name: a, restartPolicy: Always, lifecycle: {postStart: {exec: {command: [/hi]}}}}]\ncontainers: [{name: c}]", false,
			through(map[string]Container{"a": starting("a"), "c": exited("c", 0, 1)}), "Running a:waiting PodInitializing unready 0 c:terminated Completed unready 0"},
		{"sidecar that Podman forgot outlives", "restartPolicy: Never\n" + helped, false, through(map[string]Container{"a": {State: StateUnknown}, "c": exited("c", 0, 1)}),
			"Running a:waiting ContainerStatusUnknown unready 0 c:terminated Completed unready 0"},
		{"overdue, postStart runs", greeting, false, overdue(map[string]Container{"c": starting("c")}), "Pending c:waiting ContainerCreating unready 0"},
		{"overdue, Podman forgot it", one, false, overdue(map[string]Container{"c": {State: StateUnknown}}), "Pending c:waiting ContainerStatusUnknown unready 0"},
		{"overdue and ended", one, false, overdue(map[string]Container{"c": exited("c", 143, 1)}), "Failed c:terminated Error unready 0"},
		{"sidecar ended last", "restartPolicy: Never\n" + helped, false, through(map[string]Container{"a": exited("a", 137, 5), "c": exited("c", 0, 1)}), "Succeeded a:terminated Error unready 0 c:terminated Completed unready 0"},
		{"deleted, a sidecar is left", helped, true, through(map[string]Container{"a": running("a"), "c": exited("c", 0, 1)}), "Running a:running ready 0 c:terminated Completed unready 0"},
		{"ready", one, false, observed(map[string]Container{"c": running("c")}), "Running Ready c:running ready 0"},
		{"init done", "initContainers: [{name: a}]\ncontainers: [{name: c}]", false, observed(map[string]Container{"a": exited("a", 0, 1), "c": running("c")}), "Running Ready a:terminated Completed ready 0 c:running ready 0"},
		{"crash loop", one, false, observed(map[string]Container{"c": exited("c", 1, 3)}), "Running c:waiting CrashLoopBackOff unready 0"},
		{"out of memory", one, false, observed(map[string]Container{"c": running("c").Exited(Exit{Code: 137, OOMKilled: true, FinishedAt: now})}), "Running c:terminated OOMKilled unready 0"},
		{"image", one, false, observed(map[string]Container{"c": {Failure: Failure{Reason: schema.ReasonErrImagePull, Message: "no", Count: 1}}}), "Pending c:waiting ErrImagePull unready 0"},
		{"image again", one, false, observed(map[string]Container{"c": {Failure: Failure{Reason: schema.ReasonErrImagePull, Message: "no", Count: 2}}}), "Pending c:waiting ImagePullBackOff unready 0"},
		{"config", one, false, observed(map[string]Container{"c": {Failure: Failure{Reason: schema.ReasonContainerConfig, Count: 5}}}), "Pending c:waiting CreateContainerConfigError unready 0"},
		{"succeeded", "restartPolicy: Never\ncontainers: [{name: c}]", false, observed(map[string]Container{"c": exited("c", 0, 1)}), "Succeeded c:terminated Completed unready 0"},
		{"failed", "restartPolicy: Never\ncontainers: [{name: c}]", false, observed(map[string]Container{"c": exited("c", 3, 1)}), "Failed c:terminated Error unready 0"},
		{"deleted, ended", one, true, observed(map[string]Container{"c": exited("c", 0, 1)}), "Succeeded c:terminated Completed unready 0"},
		{"unknown", one, false, observed(map[string]Container{"c": {State: StateUnknown}}), "Pending c:waiting ContainerStatusUnknown unready 0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := &Wanted{PodWork: wire.PodWork{Pod: podFrom(t, test.spec)}}
			if test.deleted {
				w.Pod.DeletionTimestamp = &metav1.Time{Time: now}
			}
			if diff := cmp.Diff(test.want, statusLine(Status(w, test.o, "10.0.0.1", now))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A pod whose deletion comes while a start of it is under way has not ended before that is
// over: its container may come up. One that was told to have ended stays so.
func TestAPodHasNotEndedWhileAStartIsUnderWay(t *testing.T) {
	w := &Wanted{PodWork: wire.PodWork{Pod: podFrom(t, "containers: [{name: c}]")}}
	w.Pod.DeletionTimestamp = &metav1.Time{Time: now}
	o := observed(map[string]Container{"c": exited("c", 137, 1)})
	o.UnderWay = true
	for _, test := range []struct{ before, want corev1.PodPhase }{
		{corev1.PodRunning, corev1.PodRunning}, {"", corev1.PodRunning}, {corev1.PodFailed, corev1.PodFailed},
	} {
		o.Status.Phase = test.before
		if got := Status(w, o, "10.0.0.1", now).Phase; got != test.want {
			t.Errorf("told before: %q; it is %s, want %s", test.before, got, test.want)
		}
	}
	if o.UnderWay = false; Status(w, o, "10.0.0.1", now).Phase != corev1.PodFailed {
		t.Error("nothing is under way any more, and the pod has not ended")
	}
}

func statusLine(s corev1.PodStatus) string {
	words := []string{string(s.Phase)}
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			words = append(words, "Ready")
		}
	}
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		switch {
		case c.State.Running != nil:
			words = append(words, c.Name+":running")
		case c.State.Waiting != nil:
			words = append(words, c.Name+":waiting", c.State.Waiting.Reason)
		case c.State.Terminated != nil:
			words = append(words, c.Name+":terminated", c.State.Terminated.Reason)
		}
		if c.Ready {
			words = append(words, "ready")
		} else {
			words = append(words, "unready")
		}
		words = append(words, string(rune('0'+c.RestartCount)))
	}
	return strings.Join(words, " ")
}

func TestAConditionKeepsItsTransitionTime(t *testing.T) {
	w := &Wanted{PodWork: wire.PodWork{Pod: podFrom(t, "containers: [{name: c}]")}}
	o := observed(map[string]Container{"c": running("c")})
	o.Status = Status(w, o, "10.0.0.1", now)
	later := now.Add(time.Hour)
	if got := Status(w, o, "10.0.0.1", later); cmp.Diff(o.Status, got) != "" {
		t.Errorf("nothing happened, yet (-before +after):\n%s", cmp.Diff(o.Status, got))
	}
	c := o.Containers["c"]
	c.Ready = false
	o.Containers["c"] = c
	for _, cond := range Status(w, o, "10.0.0.1", later).Conditions {
		moved := cond.LastTransitionTime.Time.Equal(later)
		if want := cond.Type == corev1.PodReady || cond.Type == corev1.ContainersReady; moved != want {
			t.Errorf("%s moved: %v, want %v", cond.Type, moved, want)
		}
	}
}

func TestProbeCount(t *testing.T) {
	p := &corev1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	var n ProbeCount
	for i, step := range []struct {
		ok   bool
		want ProbeResult
	}{{true, Undecided}, {true, Passed}, {false, Undecided}, {false, Undecided}, {true, Undecided}, {false, Undecided}, {false, Undecided}, {false, Failed}, {false, Failed}} {
		if got := n.Count(step.ok, p); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
	}
}
