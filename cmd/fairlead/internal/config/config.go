// Package config reads the daemons' configuration files: strict YAML with
// Fairlead's defaults filled in.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairlead/schema"
)

// Master configures `fairlead master`.
type Master struct {
	Dir           string              `json:"dir"`           // default /var/lib/fairlead
	RunDir        string              `json:"runDir"`        // sockets; default /run/fairlead
	Listen        string              `json:"listen"`        // default 0.0.0.0:6443
	Advertise     string              `json:"advertise"`     // host:port that agents and kubeconfigs use; default localhost, good for this machine alone
	PodCIDRs      schema.List[string] `json:"podCIDR"`       // default 10.112.0.0/12, a /22 a node
	ServiceCIDRs  schema.List[string] `json:"serviceCIDR"`   // default 10.96.0.0/16
	DNS           schema.List[string] `json:"dns"`           // default 10.96.0.10
	NodePorts     string              `json:"nodePorts"`     // default 30000-32767
	ClusterDomain string              `json:"clusterDomain"` // default cluster.local
	// EvictionAfter is how long pods that do not say so themselves tolerate a
	// node that is not ready; default 300s.
	EvictionAfter metav1.Duration `json:"evictionAfter"`
	Sources       []Source        `json:"sources"`
}

// Source is a first source: the master's configuration, never Git's.
type Source struct {
	Name string            `json:"name"`
	Spec schema.SourceSpec `json:"spec"`
}

// Agent configures `fairlead agent` and `fairlead dns`.
type Agent struct {
	Dir       string              `json:"dir"`       // default /var/lib/fairlead/agent
	RunDir    string              `json:"runDir"`    // default /run/fairlead
	Server    string              `json:"server"`    // https://host:port of the master
	TokenFile string              `json:"tokenFile"` // join token
	NodeName  schema.NodeName     `json:"nodeName"`  // default the host's name
	NodeIPs   schema.List[string] `json:"nodeIP"`    // default the address of the default route's link
	Slot      string              `json:"slot"`      // names the cgroup parent /fairlead/<slot>/<node>; default "0"
	Capacity  corev1.ResourceList `json:"capacity"`  // default the machine
	Labels    map[string]string   `json:"labels"`
	Taints    []corev1.Taint      `json:"taints"`
	// UnsafeSysctls are kernel parameters that pods may set beside the safe ones: names, or
	// what names begin with and a *.
	UnsafeSysctls []string `json:"allowedUnsafeSysctls"`
	Podman        Podman   `json:"podman"`
}

// DefaultRunDir is where a daemon keeps what is gone after a boot.
const DefaultRunDir = "/run/fairlead"

// BootMark is the file by which an agent knows that it is still the same boot: it goes
// with what is in memory.
func BootMark(runDir string) string { return filepath.Join(runDir, "boot") }

// Podman configures the agent's own Podman service.
type Podman struct {
	Runtime          string   `json:"runtime"` // default runc where crun cannot work
	AdditionalStores []string `json:"additionalStores"`
	AuthFile         string   `json:"authFile"`       // credentials for registries, containers-auth.json(5); default auth.json in dir
	RegistriesConf   string   `json:"registriesConf"` // containers-registries.conf(5); default registries.conf in dir, and the machine's where that is not there
}

// ReadMaster reads and defaults a master's configuration.
func ReadMaster(path string) (Master, error) {
	c := Master{}
	if err := read(path, &c); err != nil {
		return c, err
	}
	setDefault(&c.Dir, "/var/lib/fairlead")
	setDefault(&c.RunDir, DefaultRunDir)
	setDefault(&c.Listen, "0.0.0.0:6443")
	defaultList(&c.PodCIDRs, "10.112.0.0/12")
	defaultList(&c.ServiceCIDRs, "10.96.0.0/16")
	defaultList(&c.DNS, "10.96.0.10")
	setDefault(&c.NodePorts, "30000-32767")
	setDefault(&c.ClusterDomain, "cluster.local")
	return c, errors.Join(oneAddress(path, "podCIDR", c.PodCIDRs), oneAddress(path, "serviceCIDR", c.ServiceCIDRs), oneAddress(path, "dns", c.DNS))
}

// ReadAgent reads and defaults an agent's configuration.
func ReadAgent(path string) (Agent, error) {
	c := Agent{}
	if err := read(path, &c); err != nil {
		return c, err
	}
	setDefault(&c.Dir, "/var/lib/fairlead/agent")
	setDefault(&c.RunDir, DefaultRunDir)
	setDefault(&c.Slot, "0")
	setDefault(&c.Podman.AuthFile, filepath.Join(c.Dir, "auth.json"))
	setDefault(&c.Podman.RegistriesConf, filepath.Join(c.Dir, "registries.conf"))
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("node name: %w", err)
		}
		c.NodeName = schema.NodeName(host)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
		if wrong := schema.WrongOwnLabel(c.NodeName, key, c.Labels[key]); wrong != "" {
			return c, fmt.Errorf("%s: labels: %s: %s", path, key, wrong)
		}
	}
	return c, oneAddress(path, "nodeIP", c.NodeIPs)
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}

func defaultList(l *schema.List[string], value string) {
	if len(*l) == 0 {
		*l = schema.List[string]{value}
	}
}

// oneAddress refuses a second family of addresses, which nothing here handles yet.
func oneAddress(path, field string, l schema.List[string]) error {
	if len(l) <= 1 {
		return nil
	}
	return fmt.Errorf("%s: %s: %d values are given; give one, of IPv4", path, field, len(l))
}

func read(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return parse(path, data, into)
}

func parse(path string, data []byte, into any) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		return located(path, data, into, err)
	}
	return nil
}

// Write renders a configuration that the readers accept.
func Write(path string, c any) error {
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return write(path, data)
}

// write replaces a file whole: a crash leaves the old or the new one.
func write(path string, data []byte) error {
	next := path + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return os.Rename(next, path)
}

// Hosts are the names and addresses that the master's certificate covers.
func (c Master) Hosts() []string {
	if c.Advertise == "" {
		return []string{"localhost"}
	}
	host, _, err := net.SplitHostPort(c.Advertise)
	if err != nil {
		host = c.Advertise
	}
	return []string{host}
}

// NodePortRange is the first and the last port that Services may ask for on nodes.
func (c Master) NodePortRange() (first, last uint16, err error) {
	lo, hi, _ := strings.Cut(c.NodePorts, "-")
	a, err1 := strconv.ParseUint(lo, 10, 16)
	b, err2 := strconv.ParseUint(hi, 10, 16)
	if errors.Join(err1, err2) != nil || a > b {
		return 0, 0, fmt.Errorf("configuration: nodePorts %q is not a range like 30000-32767", c.NodePorts)
	}
	return uint16(a), uint16(b), nil
}
