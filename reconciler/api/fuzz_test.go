package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/reconciler/work"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// port is the whole port as one caller sees it, without a network.
func port(f *testing.F, kind, name string, change func(*Config)) http.Handler {
	log := logrus.New()
	log.SetOutput(io.Discard)
	cfg := Config{
		Feed: state.NewFeed(sampleCluster()), Identify: func(*tls.ConnectionState) (string, string) { return kind, name },
		TLS: &tls.Config{}, Log: log, Origin: schema.Origin{Source: "main", Path: "."}, Now: func() time.Time { return sampleNow },
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	return s.routes()
}

// ask sends a request whose sender has gone already: what streams ends at once.
func ask(t *testing.T, h http.Handler, method string, at *url.URL, body []byte, header http.Header) *httptest.ResponseRecorder {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://master/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Method, request.URL = method, at
	request.Header = header
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, request)
	return answer
}

// checkAnswer wants an answer that a client of Kubernetes understands. Of the
// codes that mean a fault of ours two do not: the port is busy, or, by Kubernetes'
// own rule, the reader asked for a resourceVersion that has not been given yet.
func checkAnswer(t *testing.T, answer *httptest.ResponseRecorder) {
	t.Helper()
	code, body := answer.Code, answer.Body.Bytes()
	if code < 400 {
		return
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil || status.Kind != "Status" || status.Message == "" || int(status.Code) != code {
		t.Errorf("%d without a word: %s", code, body)
	}
	future := code == http.StatusGatewayTimeout && apierrors.HasStatusCause(&apierrors.StatusError{ErrStatus: status}, metav1.CauseTypeResourceVersionTooLarge)
	if code >= 500 && code != http.StatusServiceUnavailable && !future {
		t.Errorf("%d %s", code, body)
	}
}

// Whatever a reader asks, the answer is objects, a refusal in words, and never a
// Secret's value.
func FuzzRead(f *testing.F) {
	for _, seed := range [][2]string{
		{"/api/v1/pods", "labelSelector=app in (api,web),!x&fieldSelector=status.phase!=Running&limit=1"},
		{"/api/v1/namespaces/shop/pods/api-5d9c7b-2xk9q/log", "container=api&tailLines=-1&sinceSeconds=x&follow=true&limitBytes=0"},
		{"/api/v1/pods", "watch=1&resourceVersion=1&allowWatchBookmarks=true&timeoutSeconds=-1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"},
		{"/apis/apps/v1/namespaces/shop/deployments", "limit=1&continue=eyJ9&resourceVersion=99999999999999999999"},
		{"/api/v1/secrets", "fieldSelector=type=Opaque,metadata.name=api-secret"},
		{"/apis/fairlead/v1/revisions", "labelSelector=a=(((&fieldSelector===,=,"},
		{"/api/v1/namespaces/shop/configmaps/api-config", "watch=false&pretty=1"},
		{"/apis/discovery.k8s.io/v1/endpointslices/", ""}, {"/openapi/v3/apis/apps/v1", "hash=x"}, {"/api/v1//pods", ""}, {"/metrics", ""}, {"/version", ""},
	} {
		f.Add("GET", seed[0], seed[1], "application/json;as=Table;v=v1;g=meta.k8s.io")
	}
	f.Add("DELETE", "/api/v1/namespaces/shop/pods/x", "dryRun=All", "*/*")
	f.Add("HEAD", "/api/v1/namespaces/shop/secrets/api-secret", "", "application/vnd.kubernetes.protobuf")
	h := port(f, CallerReader, "ada", nil)
	f.Fuzz(func(t *testing.T, method, at, query, accept string) {
		if len(query) > 4<<10 || strings.HasSuffix(at, "/plan") {
			return
		}
		answer := ask(t, h, method, &url.URL{Path: at, RawQuery: query}, nil, http.Header{"Accept": {accept}})
		if method != http.MethodHead && answer.Code/100 != 3 {
			checkAnswer(t, answer)
		}
		if bytes.Contains(answer.Body.Bytes(), []byte("aHVudGVyMg")) || bytes.Contains(answer.Body.Bytes(), []byte("hunter2")) {
			t.Errorf("a Secret's value: %s", answer.Body)
		}
	})
}

// A plan request is refused in words, or within its bounds and the same after it
// was told again.
func FuzzPlanRequest(f *testing.F) {
	f.Add([]byte(`{"source":"main","files":[{"path":"a.yaml","data":"YTogMQ=="}]}`), "")
	f.Add([]byte(`{"source":"main","drain":"n1"}`), "identity")
	f.Add([]byte(`{"source":""}`), "")
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), "gzip")
	f.Add([]byte(`{"sourcee":1}`), "br")
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		request, err := decodePlan(bytes.NewReader(body), encoding)
		if err != nil {
			if err.Error() == "" {
				t.Error("refused without a word")
			}
			return
		}
		if request.Source == "" || len(request.Files) > schema.MaxFiles {
			t.Errorf("taken: %+v", request)
		}
		told, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodePlan(bytes.NewReader(told), "")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(request, again, cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
	})
}

// Whatever a node sends, it speaks for itself alone, and what it claims to have
// kept is refused unless the master made it.
func FuzzNode(f *testing.F) {
	keeper := work.NewKeeper([]byte("secret"))
	sealed := keeper.Record("records/Source//main", &schema.Source{ObjectMeta: metav1.ObjectMeta{Name: "main"}})
	kept, err := json.Marshal(wire.Kept{Version: 3, Items: wire.Items{"records/Source//main": sealed}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire.PathKept, "", kept)
	f.Add(wire.PathKept, "", []byte(`{"items":{"records/Pod/a/b":"AAAA","pods/u":{"pod":null},"seals/u":""}}`))
	f.Add(wire.PathReport, "", []byte(`{"node":"n1","appliedVersion":18446744073709551615,"pods":[{}],"images":[{}],"events":[{}]}`))
	f.Add(wire.PathReport, "", []byte(`{"node":"n2"}`))
	f.Add(wire.PathReport, "", []byte(`{"node":"n1","pods":[{"status":{"containerStatuses":[{"lastState":{"terminated":{"finishedAt":"x"}}}]}}]}`))
	f.Add(wire.PathJoin, "", []byte(`{"token":"a","node":"../n1","csr":"AAAA"}`))
	f.Add(wire.PathRenew, "", []byte(`{"csr":null}`))
	f.Add(wire.PathWork, "since=-1", []byte(nil))
	f.Add(wire.PathWork, "since=18446744073709551615", []byte(nil))
	f.Add(wire.PathLogs+"x", "", []byte("text"))
	errNo := errors.New("no")
	h := port(f, CallerNode, "n1", func(cfg *Config) {
		cfg.Door = DoorConfig{
			Cluster: wire.ClusterInfo{ID: "test", Domain: "cluster.local"}, Keeper: keeper,
			Join: func(context.Context, wire.JoinRequest) (wire.JoinResponse, error) { return wire.JoinResponse{}, errNo },
			Renew: func(context.Context, schema.NodeName, wire.RenewRequest) (wire.JoinResponse, error) {
				return wire.JoinResponse{}, errNo
			},
			Report: func(_ context.Context, node schema.NodeName, r wire.Report) error {
				if node != "n1" || r.Node != "n1" {
					panic("node n1 reports as " + r.Node)
				}
				return nil
			},
			Recover: func(_ context.Context, node schema.NodeName, kept wire.Kept) error {
				memory, err := keeper.Recall(node, kept)
				for _, obj := range memory.Records {
					if key := schema.KeyOf(obj); key != (schema.Key{Kind: schema.KindSource, Name: "main"}) {
						panic("recalled " + key.String())
					}
				}
				if len(memory.Pods) > 0 {
					panic("recalled a pod that was never bound")
				}
				if err != nil {
					return newStatus(http.StatusBadRequest, metav1.StatusReasonBadRequest, err.Error())
				}
				return nil
			},
		}
	})
	f.Fuzz(func(t *testing.T, at, query string, body []byte) {
		answer := ask(t, h, http.MethodPost, &url.URL{Path: at, RawQuery: query}, body, http.Header{})
		if at == wire.PathWork {
			answer = ask(t, h, http.MethodGet, &url.URL{Path: at, RawQuery: query}, nil, http.Header{})
		}
		if answer.Code/100 != 3 {
			checkAnswer(t, answer)
		}
	})
}
