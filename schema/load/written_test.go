package load

import (
	"net/netip"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// inUTF16 is a text of two bytes each, the low one first or last.
func inUTF16(text string, lowFirst bool) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune(text)) {
		low, high := byte(unit), byte(unit>>8)
		if lowFirst {
			low, high = high, low
		}
		b.WriteByte(high)
		b.WriteByte(low)
	}
	return b.String()
}

// What cannot be read says in one error why.
func TestFilesThatCannotBeRead(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"UTF-16, low byte first":                 {inUTF16("\ufeff"+configYAML, true), "written in UTF-16"},
		"UTF-16, high byte first":                {inUTF16("\ufeff"+configYAML, false), "written in UTF-16"},
		"UTF-16 without a mark":                  {inUTF16(configYAML, true), "written in UTF-16"},
		"UTF-16 without a mark, high byte first": {inUTF16(configYAML, false), "written in UTF-16"},
		"git-crypt":                              {"\x00GITCRYPT\x00\x01\x02\xff", "encrypted with git-crypt"},
		"age":                                    {"age-encryption.org/v1\n-> X25519 x\n", "encrypted with age"},
	} {
		for _, file := range []string{"a.yaml", "a.json"} {
			got := Load(t.Context(), treeOf(file, test.text), schema.SourceSpec{}, Options{}).Diagnostics
			if len(got) != 1 || got[0].Severity != schema.Error || !strings.Contains(got[0].Message, test.want) || got[0].Hint == "" {
				t.Errorf("%s in %s: got\n%v\nwant one error with a hint: %s", name, file, got, test.want)
			}
		}
	}
}

// A byte order mark that came with one of the parts of a file is no part of a key.
func TestByteOrderMarks(t *testing.T) {
	one := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n"
	two := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\ndata: {k: \"\ufeffx\"}\n"
	for name, text := range map[string]string{
		"behind a marker":                  one + "---\n\ufeff" + two,
		"behind a marker, CRLF":            strings.ReplaceAll(one+"---\n\ufeff"+two, "\n", "\r\n"),
		"behind a marker and a comment":    one + "---\n# comment\n\n\ufeff" + two,
		"before a comment":                 one + "---\n\ufeff# comment\n" + two,
		"before a marker":                  one + "\ufeff---\n" + two,
		"at the start and before a marker": "\ufeff" + one + "\ufeff---\n" + two,
		"before a marker at the start":     "\ufeff---\n" + one + "---\n" + two,
	} {
		result := Load(t.Context(), treeOf("a.yaml", text), schema.SourceSpec{}, Options{})
		if len(result.Diagnostics) > 0 || len(result.Objects) != 2 {
			t.Errorf("%s: %d objects\n%v", name, len(result.Objects), result.Diagnostics)
			continue
		}
		if got := result.Objects[1].Object.(*corev1.ConfigMap).Data["k"]; got != "\ufeffx" {
			t.Errorf("%s: the value is %q, and its own mark belongs to it", name, got)
		}
	}
}

// A field that asks for what happens anyway is as left out.
func TestValuesThatAskForNothing(t *testing.T) {
	pod := func(spec, container string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: a, finalizers: [], generateName: \"\", ownerReferences: []}\nspec:\n  " + spec +
			"\n  containers:\n  - name: c\n    image: localhost/c:v1\n    " + container + "\n"
	}
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  selector: {a: b}\n  ports: [{port: 80}]\n  "
	var texts []string
	for _, spec := range []string{
		"hostAliases: []", "imagePullSecrets: []", "securityContext: {}", "securityContext:", "securityContext: {runAsUser: null}", "securityContext: {runAsNonRoot: false}",
		"securityContext: {supplementalGroups: [], sysctls: [], seLinuxOptions: {}, fsGroupChangePolicy: Always}",
		"hostNetwork: false", "hostNetwork: no", "hostPID: False", "hostIPC: off", "hostUsers: true", "shareProcessNamespace: false", "setHostnameAsFQDN: false",
		"dnsPolicy: ClusterFirst", "schedulerName: default-scheduler", "serviceAccountName: default", "serviceAccount: default", "automountServiceAccountToken: false",
		"priority: 0", "priorityClassName: \"\"", "preemptionPolicy: PreemptLowerPriority", "nodeName: \"\"", "runtimeClassName: \"\"", "overhead: {}", "readinessGates: []",
		"topologySpreadConstraints: []", "schedulingGates: []", "ephemeralContainers: []", "affinity: {}", "affinity: {podAffinity: {}, podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: []}}",
		"nodeSelector: {}", "tolerations: []", "volumes: []", "dnsConfig: {}", "enableServiceLinks: true", "restartPolicy: Always", "resourceClaims: []", "os: {name: linux}",
	} {
		texts = append(texts, pod(spec, "args: []"))
	}
	for _, container := range []string{
		"lifecycle: {}", "lifecycle: {preStop: }", "securityContext: {}", "securityContext: {privileged: false, readOnlyRootFilesystem: false, runAsNonRoot: false, allowPrivilegeEscalation: true, procMount: Default}",
		"securityContext: {capabilities: {add: [], drop: []}}", "securityContext: {capabilities: {}}", "securityContext: {privileged: no}",
		"volumeDevices: []", "volumeMounts: []", "resizePolicy: []", "resources: {claims: [], limits: {}}", "tty: false", "stdin: False", "env: []", "envFrom: []",
		"ports: [{containerPort: 80, hostIP: \"\", hostPort: 0}]", "ports: [{containerPort: 80, hostIP: 0.0.0.0}]", "terminationMessagePath: /dev/termination-log", "livenessProbe: {tcpSocket: {port: 80, host: \"\"}}",
	} {
		texts = append(texts, pod("hostNetwork: false", container))
	}
	for _, spec := range []string{
		"externalIPs: []", "externalName: \"\"", "loadBalancerIP: \"\"", "loadBalancerSourceRanges: []", "loadBalancerClass: \"\"", "healthCheckNodePort: 0", "sessionAffinityConfig: {}",
		"allocateLoadBalancerNodePorts: true", "trafficDistribution: \"\"", "sessionAffinity: None", "type: ClusterIP", "clusterIP: \"\"", "ipFamilyPolicy: SingleStack", "publishNotReadyAddresses: false",
	} {
		texts = append(texts, service+spec+"\n")
	}
	for _, text := range texts {
		result := Load(t.Context(), treeOf("a.yaml", text), schema.SourceSpec{}, Options{})
		for _, d := range result.Diagnostics {
			if !strings.HasPrefix(d.Message, "spec.selector: no pod of this tree") {
				t.Errorf("%s\n%v", text, d)
			}
		}
	}
}

// A namespace holds the pods in it to a level, whoever declares it.
func TestSecurityOfNamespaces(t *testing.T) {
	pod := "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec: {containers: [{name: c, image: localhost/c:v1, ports: [{containerPort: 80, hostPort: 80}]}]}\n"
	for _, test := range []struct {
		labels   map[string]string
		errors   int
		warnings int
	}{
		{nil, 0, 0},
		{map[string]string{"pod-security.kubernetes.io/enforce": "privileged"}, 0, 0},
		{map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}, 1, 0},
		{map[string]string{"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "baseline"}, 1, 0},
		{map[string]string{"pod-security.kubernetes.io/warn": "baseline"}, 0, 1},
		{map[string]string{"pod-security.kubernetes.io/audit": "baseline", "pod-security.kubernetes.io/warn": "privileged"}, 0, 1},
		{map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, 5, 0},
	} {
		other := &corev1.Namespace{}
		other.Name, other.Labels = "shop", test.labels
		known := func(key schema.Key) schema.Object {
			if key == schema.KeyOf(other) {
				return other
			}
			return nil
		}
		var labels strings.Builder
		for key, value := range test.labels {
			labels.WriteString("\n    " + key + ": " + value)
		}
		own := "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels:" + labels.String() + "\n---\n" + pod
		for text, opts := range map[string]Options{
			pod: {KnownNamespaces: []string{"shop"}, Known: known},
			own: {DiagnosticsOnly: true},
		} {
			got := Load(t.Context(), treeOf("a.yaml", text), schema.SourceSpec{}, opts).Diagnostics
			if wrong := len(errorsOf(got)); wrong != test.errors || len(got)-wrong != test.warnings {
				t.Errorf("%v: want %d errors and %d warnings, got\n%v", test.labels, test.errors, test.warnings, got)
			}
		}
	}
}

// An address that services cannot have is refused where their range is known.
func TestAddressesOfServices(t *testing.T) {
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 192.0.2.1, ports: [{port: 80}]}\n"
	wrong := func(services netip.Prefix) int {
		return len(errorsOf(Load(t.Context(), treeOf("a.yaml", service), schema.SourceSpec{}, Options{ServiceRange: services}).Diagnostics))
	}
	if got := wrong(netip.MustParsePrefix("10.96.0.0/16")); got != 1 {
		t.Errorf("%d errors outside of the range", got)
	}
	if wrong(netip.MustParsePrefix("192.0.2.0/24")) != 0 || wrong(netip.Prefix{}) != 0 {
		t.Error("an error inside of the range, or where none is known")
	}
}

// What a service of another source has is refused at its line, also when nothing of this
// tree changed since it was right.
func TestWhatServicesOfOtherSourcesHave(t *testing.T) {
	text := "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort, clusterIP: 10.96.0.50, selector: {a: b}, ports: [{port: 80, nodePort: 30080}]}\n"
	tree := treeOf("a.yaml", text)
	tree.Files[0].Hash = "1"
	theirs := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "shop"}}
	schema.SetTypeMeta(theirs)
	schema.SetOrigin(theirs, schema.Origin{Source: "other", Path: "b.yaml", Line: 7})
	cache := NewCache(0)
	for _, test := range []struct {
		claim string
		want  []string
	}{
		{"", nil},
		{"10.96.0.50", []string{"a.yaml:4:35: spec.clusterIP: 10.96.0.50 is taken by Service shop/b of source other, b.yaml:7 (leave it out to have one given)"}},
		{"30080/TCP", []string{"a.yaml:4:94: spec.ports[0].nodePort: 30080/TCP is taken by Service shop/b of source other, b.yaml:7 (leave it out to have one given)"}},
	} {
		opts := Options{Source: "main", Cache: cache, Holder: func(claim string) schema.Object {
			if claim == test.claim {
				return theirs
			}
			return nil
		}}
		if diff := cmp.Diff(test.want, lines(errorsOf(Load(t.Context(), tree, schema.SourceSpec{}, opts).Diagnostics))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.claim, diff)
		}
	}
}
