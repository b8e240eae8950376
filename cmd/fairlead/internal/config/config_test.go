package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A label that the master would not take stops the agent at its configuration, where
// somebody reads why.
func TestAgentLabelsAreItsOwn(t *testing.T) {
	for labels, want := range map[string]string{
		"{disk: ssd, topology.kubernetes.io/zone: a, kubernetes.io/hostname: n1}": "",
		"{kubernetes.io/hostname: n2}":                                            "labels: kubernetes.io/hostname: it is the node's name, n1",
		"{node-restriction.kubernetes.io/pool: blue}":                             "fairlead token --node n1 --label node-restriction.kubernetes.io/pool=blue",
		"{disk: a b}": "labels: disk: the value is not valid",
	} {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte("nodeName: n1\nlabels: "+labels+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadAgent(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", labels, err, want)
		}
	}
}

func TestNodePortsAreARange(t *testing.T) {
	for text, want := range map[string][2]uint16{
		"30000-32767": {30000, 32767}, "30000-30000": {30000, 30000},
		"": {}, "30000": {}, "2-1": {}, "1-65536": {}, "a-b": {}, "1-2-3": {},
	} {
		first, last, err := Master{NodePorts: text}.NodePortRange()
		if got := [2]uint16{first, last}; got != want || (err == nil) != (want != [2]uint16{}) {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestTheCertificateCoversWhatIsAdvertised(t *testing.T) {
	for advertise, want := range map[string]string{"": "localhost", "master.example.org:6443": "master.example.org", "master": "master", "[2001:db8::1]:6443": "2001:db8::1"} {
		if got := (Master{Advertise: advertise}).Hosts(); len(got) != 1 || got[0] != want {
			t.Errorf("%q: got %q, want %q", advertise, got, want)
		}
	}
}
