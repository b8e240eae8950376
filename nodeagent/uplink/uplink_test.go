package uplink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"fairlead/schema"
	"fairlead/schema/chance"
	"fairlead/schema/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func work(pods, services int) *wire.Work {
	w := &wire.Work{
		Node: "n1", PodCIDRs: schema.List[string]{"10.112.0.0/22"}, Peers: map[schema.NodeName]wire.Peer{"n2": {NodeIPs: schema.List[string]{"10.0.0.2"}}},
		Pods: map[types.UID]wire.PodWork{}, ConfigMaps: map[string]map[string][]byte{}, Secrets: map[string]map[string][]byte{}, Services: map[string]wire.Service{},
	}
	for i := range pods {
		uid := types.UID(fmt.Sprintf("uid-%d", i))
		w.Pods[uid] = wire.PodWork{Pod: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i), UID: uid}}, Epoch: int64(i)}
	}
	for i := range services {
		w.Services[fmt.Sprintf("default/s%d", i)] = wire.Service{ClusterIPs: schema.List[string]{fmt.Sprintf("10.96.0.%d", i)}}
	}
	return w
}

func TestAFrameChangesWhatItNames(t *testing.T) {
	one, two := wire.Split(work(1, 1)), wire.Split(work(1, 2))
	v, err := NewView(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Apply(wire.Delta(nil, one, 0, 7)); err != nil {
		t.Fatal(err)
	}
	before := v.work.Pods["uid-0"].Pod
	u, err := v.Apply(wire.Delta(one, two, 7, 8))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(work(1, 2), u.Work); diff != "" {
		t.Errorf("work (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]bool{"services": true}, u.Changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	if u.Work.Pods["uid-0"].Pod != before {
		t.Error("a pod that did not change was decoded again")
	}
	// The whole again, with less in it: what is missing goes.
	u, err = v.Apply(wire.Delta(nil, one, 0, 9))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(work(1, 1), u.Work); diff != "" {
		t.Errorf("whole (-want +got):\n%s", diff)
	}
}

func TestAFrameThatDoesNotFitIsRefused(t *testing.T) {
	one, two := wire.Split(work(1, 1)), wire.Split(work(2, 2))
	v, err := NewView(7, one)
	if err != nil {
		t.Fatal(err)
	}
	wrong := wire.Delta(one, two, 7, 8)
	wrong.Hash = strings.Repeat("0", 32)
	for name, f := range map[string]wire.Frame{"hash": wrong, "version": wire.Delta(one, two, 6, 8)} {
		if _, err := v.Apply(f); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: got %v, want a mismatch", name, err)
		}
	}
	if _, err := v.Apply(wire.Delta(one, two, 7, 8)); err != nil {
		t.Errorf("the right frame after wrong ones: %v", err)
	}
}

func TestFramesInARowGiveTheWhole(t *testing.T) {
	chance.Check(t, func(t *rapid.T) {
		v, err := NewView(0, nil)
		if err != nil {
			t.Fatal(err)
		}
		have, since := wire.Items{}, uint64(0)
		for i := range rapid.IntRange(1, 6).Draw(t, "frames") {
			want := work(rapid.IntRange(0, 4).Draw(t, "pods"), rapid.IntRange(0, 4).Draw(t, "services"))
			next := wire.Split(want)
			if rapid.Bool().Draw(t, "whole") {
				have, since = nil, 0
			}
			u, err := v.Apply(wire.Delta(have, next, since, uint64(i+1)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, u.Work); diff != "" {
				t.Fatalf("frame %d (-want +got):\n%s", i, diff)
			}
			have, since = next, uint64(i+1)
		}
	})
}

// master is a server that plays frames to each connection.
func master(t *testing.T, mux *http.ServeMux) *Client {
	t.Helper()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return New(Config{Server: server.URL, Log: quiet()})
}

func TestFollowConnectsAgainAndStartsAnewAfterAMismatch(t *testing.T) {
	one, two, three := wire.Split(work(1, 0)), wire.Split(work(2, 0)), wire.Split(work(3, 0))
	wrong := wire.Delta(one, two, 7, 8)
	wrong.Hash = strings.Repeat("0", 32)
	connections := [][]wire.Frame{
		{wire.Delta(nil, one, 0, 7)},
		{{}, wrong},
		{wire.Delta(nil, three, 0, 9), {Logs: []wire.LogRequest{{ID: "l1"}}}},
	}
	asked := make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.PathWork, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Query().Get("since")
		if len(connections) == 0 {
			<-r.Context().Done()
			return
		}
		for _, f := range connections[0] {
			json.NewEncoder(w).Encode(f)
		}
		connections = connections[1:]
	})
	c := master(t, mux)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var versions []uint64
	c.Follow(ctx, 0, nil, func(u Update) {
		if u.Work != nil {
			versions = append(versions, u.Version)
		}
		if len(u.Logs) > 0 {
			cancel()
		}
	})
	if diff := cmp.Diff([]uint64{7, 9}, versions); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	for i, want := range []string{"0", "7", "0"} {
		if got := <-asked; got != want {
			t.Errorf("connection %d asked since %s, want %s", i, got, want)
		}
	}
}

func TestReportAndLog(t *testing.T) {
	var got wire.Report
	logs := map[string]string{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathReport, func(w http.ResponseWriter, r *http.Request) {
		json.NewDecoder(r.Body).Decode(&got)
		if got.Node == "other" {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"kind":"Status","message":"not yours"}`)
		}
	})
	mux.HandleFunc("POST "+wire.PathLogs+"{id}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		logs[r.PathValue("id")] = string(body) + r.Header.Get(wire.HeaderLogError)
	})
	c := master(t, mux)
	if err := c.Report(t.Context(), &wire.Report{Node: "n1", AppliedVersion: 5}); err != nil || got.AppliedVersion != 5 {
		t.Errorf("report: got %+v, %v", got, err)
	}
	if err := c.Report(t.Context(), &wire.Report{Node: "other"}); err == nil || !strings.Contains(err.Error(), "not yours") {
		t.Errorf("refused report: got %v", err)
	}
	if err := c.SendLog(t.Context(), "a", strings.NewReader("line\n"), nil); err != nil {
		t.Error(err)
	}
	if err := c.SendLog(t.Context(), "b", nil, errors.New("no log\nhere")); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "line\n", "b": "no log here"}, logs); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
}

// The reader of a followed log leaves before the agent's answer: the master says
// so while the body goes on, and the agent's slot is free again.
func TestALogEndsWithTheMastersAnswer(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathLogs+"{id}", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, `{"kind":"Status","message":"nobody waits"}`)
		_ = http.NewResponseController(w).Flush()
		if r.PathValue("id") == "open" {
			_, _ = io.Copy(io.Discard, r.Body) // a master that goes on reading
		}
	})
	c := master(t, mux)
	c.answerTimeout = 100 * time.Millisecond
	for _, id := range []string{"closed", "open"} {
		body, log := io.Pipe() // of a container that says nothing
		err := c.SendLog(t.Context(), id, body, nil)
		if err == nil || !strings.Contains(err.Error(), "nobody waits") {
			t.Errorf("%s: %v, want the master's reason", id, err)
		}
		body.Close()
		log.Close()
	}
}

// A master that is there but takes nothing does not hold a slot either.
func TestALogThatIsNotTakenEnds(t *testing.T) {
	ended := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.PathLogs+"{id}", func(http.ResponseWriter, *http.Request) { <-ended })
	c := master(t, mux)
	c.stalled = 50 * time.Millisecond
	defer close(ended)
	if err := c.SendLog(t.Context(), "a", endless{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it given up", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
