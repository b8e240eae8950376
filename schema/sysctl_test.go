package schema

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSysctlNames(t *testing.T) {
	for name, want := range map[string][2]string{
		"net.ipv4.tcp_rmem":                  {"net.ipv4.tcp_rmem", "net/ipv4/tcp_rmem"},
		"net/ipv4/tcp_rmem":                  {"net.ipv4.tcp_rmem", "net/ipv4/tcp_rmem"},
		"net/ipv4/conf/eth0.100/mc_forwards": {"net.ipv4.conf.eth0/100.mc_forwards", "net/ipv4/conf/eth0.100/mc_forwards"},
		"net.ipv4.conf.eth0/100.mc_forwards": {"net.ipv4.conf.eth0/100.mc_forwards", "net/ipv4/conf/eth0.100/mc_forwards"},
	} {
		if got := [2]string{SysctlName(name), SysctlPath(name)}; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

// A node's administrator adds to what every pod may set, never what is the machine's.
func TestSysctlsThatANodeAllows(t *testing.T) {
	for _, tc := range []struct {
		name     string
		patterns []string
		want     bool
	}{
		{"net.ipv4.tcp_rmem", nil, true},
		{"net/ipv4/tcp_rmem", nil, true},
		{"net.core.somaxconn", nil, false},
		{"net.core.somaxconn", []string{"net.core.somaxconn"}, true},
		{"net/core/somaxconn", []string{"net.core.*"}, true},
		{"net.core.somaxconn", []string{"net/core/*"}, true},
		{"net.core.somaxconn", []string{"net.core"}, false},
		{"net.corex.a", []string{"net.core.*"}, false},
		{"kernel.msgmax", []string{"kernel.msg*"}, true},
		{"kernel.panic", []string{"kernel.*"}, false},
		{"kernel.sem", []string{"*"}, false},
	} {
		if got := SysctlAllowed(tc.name, tc.patterns); got != tc.want {
			t.Errorf("%s where %v is allowed: %v, want %v", tc.name, tc.patterns, got, tc.want)
		}
	}
}

func TestSysctlsAreJudged(t *testing.T) {
	for _, tc := range []struct {
		sysctls []corev1.Sysctl
		field   string
	}{
		{[]corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1024"}, {Name: "kernel.sem", Value: "1 2 3 4"}, {Name: "fs.mqueue.msg_max", Value: "20"}}, ""},
		{[]corev1.Sysctl{{Value: "1"}}, "at[0].name"},
		{[]corev1.Sysctl{{Name: "net.core.somaxconn"}}, "at[0].value"},
		{[]corev1.Sysctl{{Name: "kernel.panic", Value: "1"}}, "at[0].name"},
		{[]corev1.Sysctl{{Name: "vm/overcommit_memory", Value: "1"}}, "at[0].name"},
		{[]corev1.Sysctl{{Name: "net..ipv4", Value: "1"}}, "at[0].name"},
		{[]corev1.Sysctl{{Name: "net/../kernel/panic", Value: "1"}}, "at[0].name"},
		{[]corev1.Sysctl{{Name: "net.ipv4.//kernel", Value: "1"}}, "at[0].name"},
		{[]corev1.Sysctl{{Name: "net", Value: "1"}}, "at[0].name"},
		{[]corev1.Sysctl{{Name: "net.ipv4.tcp_rmem", Value: "1"}, {Name: "net/ipv4/tcp_rmem", Value: "2"}}, "at[1].name"},
	} {
		var p problems
		p.sysctls("at", tc.sysctls)
		got := ""
		if len(p) > 0 {
			got = p[0].Field
		}
		if got != tc.field || len(p) > 1 {
			t.Errorf("%v: %v, want a problem with %q", tc.sysctls, p, tc.field)
		}
	}
}
