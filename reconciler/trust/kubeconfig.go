package trust

import (
	"fmt"

	"sigs.k8s.io/yaml"
)

// The parts of a kubeconfig (v1) that a client certificate needs. Byte slices
// become base64, as kubectl wants them.
type (
	kubeconfig struct {
		APIVersion     string         `json:"apiVersion"`
		Kind           string         `json:"kind"`
		Clusters       []namedCluster `json:"clusters"`
		Users          []namedUser    `json:"users"`
		Contexts       []namedContext `json:"contexts"`
		CurrentContext string         `json:"current-context"`
	}
	namedCluster struct {
		Name    string `json:"name"`
		Cluster struct {
			Server string `json:"server"`
			CA     []byte `json:"certificate-authority-data"`
		} `json:"cluster"`
	}
	namedUser struct {
		Name string `json:"name"`
		User struct {
			Certificate []byte `json:"client-certificate-data"`
			Key         []byte `json:"client-key-data"`
		} `json:"user"`
	}
	namedContext struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	}
)

// Kubeconfig is a kubectl configuration for one cluster, by name, at server (an
// https URL). ca, cert and key are PEM.
func Kubeconfig(server string, ca, cert, key []byte, cluster string) ([]byte, error) {
	var c namedCluster
	c.Name, c.Cluster.Server, c.Cluster.CA = cluster, server, ca
	var u namedUser
	u.Name, u.User.Certificate, u.User.Key = cluster, cert, key
	var x namedContext
	x.Name, x.Context.Cluster, x.Context.User = cluster, cluster, cluster
	data, err := yaml.Marshal(kubeconfig{
		APIVersion: "v1", Kind: "Config",
		Clusters: []namedCluster{c}, Users: []namedUser{u}, Contexts: []namedContext{x},
		CurrentContext: cluster,
	})
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	return data, nil
}
