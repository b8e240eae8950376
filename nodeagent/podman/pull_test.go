package podman

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"fairlead/nodeagent"
)

// What Podman 4.3.1 says of pulls that fail.
func TestWhoIsToBlameForAPull(t *testing.T) {
	p := &Podman{cfg: Config{NoRegistry: nodeagent.ErrNoRegistry, Unavailable: nodeagent.ErrUnavailable}}
	for _, tc := range []struct {
		ref, says string
		gone      bool
		want      error
	}{
		{"127.0.0.1:5000/none:1", "initializing source docker://127.0.0.1:5000/none:1: reading manifest 1 in 127.0.0.1:5000/none: manifest unknown: manifest unknown", false, nil},
		{"127.0.0.1:1/x:1", `initializing source docker://127.0.0.1:1/x:1: pinging container registry 127.0.0.1:1: Get "https://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused`, false, nodeagent.ErrNoRegistry},
		{"registry.example/x:1", `initializing source docker://registry.example/x:1: pinging container registry registry.example: Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host`, false, nodeagent.ErrNoRegistry},
		{"localhost/x:1", `initializing source docker://localhost/x:1: pinging container registry localhost: Get "https://localhost/v2/": dial tcp [::1]:443: connect: connection refused`, false, nil},
		{"registry.example/x:1", `Post "http://d/v4.3.1/libpod/images/pull": dial unix /run/podman.sock: connect: connection refused`, true, nodeagent.ErrUnavailable},
	} {
		c := call{context.Background(), context.Background(), new(atomic.Bool)}
		c.gone.Store(tc.gone)
		err := p.judgePull(c, tc.ref, errors.New(tc.says))
		for _, sentinel := range []error{nodeagent.ErrNoRegistry, nodeagent.ErrUnavailable} {
			if errors.Is(err, sentinel) != (sentinel == tc.want) {
				t.Errorf("pull %s: %s\nis %v: %v", tc.ref, tc.says, sentinel, errors.Is(err, sentinel))
			}
		}
	}
}
