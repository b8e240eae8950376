package pod

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead/schema/wire"
)

// What a container may do comes from its own context first and from its pod's else; what
// neither says is the image's, or the runtime's default.
func TestSecurity(t *testing.T) {
	for _, c := range []struct {
		name, pod, own, image string
		want                  Security
		refused               string
	}{
		{name: "nothing is said", image: "web"},
		{name: "the pod's", pod: "{runAsUser: 7, runAsGroup: 8, supplementalGroups: [9], fsGroup: 10, seccompProfile: {type: Unconfined}}",
			want: Security{User: "7:8", Groups: []string{"9", "10"}, Seccomp: Unconfined}},
		{name: "its own comes first", pod: "{runAsUser: 7, runAsGroup: 8, runAsNonRoot: true, seccompProfile: {type: Unconfined}}",
			own: "{runAsUser: 0, runAsNonRoot: false, seccompProfile: {type: RuntimeDefault}}", want: Security{User: "0:8", Seccomp: RuntimeDefault}},
		{name: "a user has the image's group of it", own: "{runAsUser: 7}", image: "web:staff", want: Security{User: "7"}},
		{name: "a group beside the image's user", own: "{runAsGroup: 8}", image: "web:staff", want: Security{User: "web:8"}},
		{name: "a group beside an image without a user", own: "{runAsGroup: 8}", want: Security{User: "0:8"}},
		{name: "capabilities as they are written", own: "{capabilities: {add: [CAP_NET_ADMIN, sys_time], drop: [all]}}",
			want: Security{CapAdd: []string{"NET_ADMIN", "SYS_TIME"}, CapDrop: []string{"ALL"}}},
		{name: "what is dropped by name is not had", own: "{capabilities: {add: [CHOWN, SETUID], drop: [SETUID]}}", want: Security{CapAdd: []string{"CHOWN"}, CapDrop: []string{"SETUID"}}},
		{name: "what is added by name is had", own: "{capabilities: {add: [CHOWN], drop: [ALL, KILL]}}", want: Security{CapAdd: []string{"CHOWN"}, CapDrop: []string{"ALL"}}},
		{name: "all are added and dropped", own: "{capabilities: {add: [ALL], drop: [ALL]}}", want: Security{CapDrop: []string{"ALL"}}},
		{name: "privileged, whatever profile is written", pod: "{seccompProfile: {type: RuntimeDefault}}", own: "{privileged: true, readOnlyRootFilesystem: true}",
			want: Security{Privileged: true, ReadOnlyRoot: true, Seccomp: Unconfined}},
		{name: "a profile of a type that is not known", own: "{seccompProfile: {type: Strict}}", refused: "not supported"},
		{name: "a profile without a name", own: "{seccompProfile: {type: Localhost}}", refused: "not supported"},
		{name: "no gain of privileges", own: "{allowPrivilegeEscalation: false}", want: Security{NoNewPrivileges: true}},
		{name: "gain of privileges", own: "{allowPrivilegeEscalation: true, privileged: false}"},
		{name: "a profile of the node", pod: "{seccompProfile: {type: Localhost, localhostProfile: web/strict.json}}", want: Security{Seccomp: "/profiles/web/strict.json"}},
		{name: "a profile never leaves its directory", pod: "{seccompProfile: {type: Localhost, localhostProfile: ../../etc/x}}", want: Security{Seccomp: "/profiles/etc/x"}},

		{name: "not root, by number", pod: "{runAsNonRoot: true}", own: "{runAsUser: 7}", want: Security{User: "7"}},
		{name: "not root, by the image's number", pod: "{runAsNonRoot: true}", image: "7:8"},
		{name: "not root, and it is", pod: "{runAsNonRoot: true, runAsUser: 0}", image: "7", refused: "would run as root"},
		{name: "not root, and the image is", pod: "{runAsNonRoot: true}", image: "0:7", refused: "would run as root"},
		{name: "not root, and the image says nothing", own: "{runAsNonRoot: true}", refused: "would run as root"},
		{name: "not root, and the image has a name", own: "{runAsNonRoot: true}", image: "web", refused: `runs as "web", which may be root`},
		{name: "not root, and the image has no number", own: "{runAsNonRoot: true}", image: "-1", refused: `runs as "-1"`},
	} {
		spec := "containers: [{name: c"
		if c.own != "" {
			spec += ", securityContext: " + c.own
		}
		spec += "}]"
		if c.pod != "" {
			spec = "securityContext: " + c.pod + "\n" + spec
		}
		p := podFrom(t, spec)
		got, err := BuildSpec(&Wanted{PodWork: wire.PodWork{Pod: p}}, &p.Spec.Containers[0], 0, Frame{ImageUser: c.image, Profiles: "/profiles"})
		switch {
		case c.refused != "":
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: got %v, want %q", c.name, err, c.refused)
			}
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		default:
			if diff := cmp.Diff(c.want, got.Security); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.name, diff)
			}
		}
	}
}
