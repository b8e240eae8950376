package podman

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/bindings"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
)

// cutter begins to tell of a pull, calls told, and hangs up once hold is closed.
type cutter struct {
	told func()
	hold chan struct{}
}

func (c cutter) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Libpod-API-Version", "4.3.1")
	if q.Method != http.MethodPost {
		return
	}
	w.Write([]byte(`{"stream":"Getting image source signatures\n"}` + "\n"))
	w.(http.Flusher).Flush()
	c.told()
	select {
	case <-c.hold:
	case <-q.Context().Done():
	}
	panic(http.ErrAbortHandler)
}

func pulling(t *testing.T, c cutter) *Podman {
	p := lying(t, c)
	client, err := bindings.GetClient(p.conn)
	if err != nil {
		t.Fatal(err)
	}
	client.Client.Transport = once{client.Client.Transport}
	return p
}

// What is said of a pull is read by everybody: not so as whom the registry was asked.
func TestErrorsOfPullsDoNotTellAsWhom(t *testing.T) {
	as := pod.Credential{User: "robot$ci", Password: "p&ss word"}
	for said, want := range map[string]string{
		`Get "https://auth.example/token?account=robot%24ci&scope=repository": dial tcp: refused`: `Get "https://auth.example/token?account=…&scope=repository": dial tcp: refused`,
		"login of robot$ci with p&ss word (p%26ss+word, p&ss%20word)":                             "login of … with … (…, …)",
		"manifest unknown": "manifest unknown",
	} {
		if got := without(as, said); got != want {
			t.Errorf("%s: told as %s, want %s", said, got, want)
		}
	}
	if got := without(pod.Credential{User: "u", Password: "p"}, "unauthorized"); got != "unauthorized" {
		t.Errorf("short ones: %s", got)
	}
	if got := without(pod.Credential{}, "token?account=robot&service=x: refused"); got != "token?account=…&service=x: refused" {
		t.Errorf("the node's own: %s", got)
	}
	// Whose name is one of the words by which answers are told apart.
	err := pulling(t, cutter{func() {}, nil}).judgePull(t.Context(), "registry.example/a:1", pod.Credential{User: "unauthorized", Password: "denied: x"}, errors.New("unauthorized: denied: x"))
	if !errors.Is(err, nodeagent.ErrDenied) || strings.Contains(err.Error(), "denied: x") {
		t.Errorf("judged as %v", err)
	}
}

// A service that dies during a pull ends the pull: it says nothing of the registry.
func TestAServiceThatDiesEndsThePull(t *testing.T) {
	hold := make(chan struct{})
	close(hold)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := pulling(t, cutter{func() {}, hold}).Pull(ctx, "registry.example/a:1", pod.Credential{})
	expect(t, err, nodeagent.ErrUnavailable)
	if ctx.Err() != nil {
		t.Error("it ended with the time alone")
	}
}

// An agent that stops has not been failed by the registry.
func TestAPullThatIsGivenUpBlamesNoRegistry(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := pulling(t, cutter{cancel, nil}).Pull(ctx, "registry.example/a:1", pod.Credential{})
	expect(t, err, nodeagent.ErrUnavailable)
}
