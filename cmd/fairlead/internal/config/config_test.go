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
