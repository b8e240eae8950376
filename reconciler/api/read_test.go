package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

const (
	acceptTable   = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	acceptPartial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
)

func TestWhoMayComeIn(t *testing.T) {
	ts := startServer(t)
	cases := []struct {
		method, path, client string
		want                 int
	}{
		{"GET", "/healthz", "", 200},
		{"GET", "/livez", "", 200},
		{"GET", "/readyz", "", 200},
		{"GET", "/version", "", 200},
		{"GET", "/api", "", 401},
		{"GET", "/api/v1/pods", "", 401},
		{"GET", "/metrics", "", 401},
		{"GET", "/openapi/v2", "", 401},
		{"GET", "/nothing", "", 401},
		{"POST", "/apis/fairlead/v1/plan", "", 401},
		{"GET", "/agent/v1/work", "", 401},
		{"POST", "/agent/v1/report", "", 401},
		{"POST", "/agent/v1/logs/x", "", 401},
		{"GET", "/api/v1/pods", "node:n1", 403},
		{"GET", "/metrics", "node:n1", 403},
		{"GET", "/agent/v1/work", "reader:ada", 403},
		{"POST", "/agent/v1/logs/x", "reader:ada", 403},
		{"POST", "/agent/v1/logs/x", "node:n1", 410},
		{"GET", "/api/v1/pods", "reader:ada", 200},
		{"GET", "/nothing", "reader:ada", 404},
		{"GET", "/api/v1/widgets", "reader:ada", 404},
		{"GET", "/apis/widgets/v1/widgets", "reader:ada", 404},
		{"GET", "/apis/widgets", "reader:ada", 404},
		{"GET", "/api/v1/namespaces/shop/pods/api-5d9c7b-aaaaa/exec", "reader:ada", 405},
		{"GET", "/api/v1/pods/api-5d9c7b-aaaaa", "reader:ada", 404},
		{"GET", "/api/v1/namespaces/shop/nodes", "reader:ada", 404},
	}
	clients := map[string]*http.Client{}
	for _, c := range cases {
		if clients[c.client] == nil {
			clients[c.client] = ts.client(c.client)
		}
		code, body, _ := do(t, clients[c.client], c.method, ts.url+c.path, nil)
		if code != c.want {
			t.Errorf("%s %s by %q: %d %s, want %d", c.method, c.path, c.client, code, body, c.want)
		}
		if code < 400 || bytes.Contains(body, []byte("ok")) {
			continue
		}
		var status metav1.Status
		if err := json.Unmarshal(body, &status); err != nil || status.Kind != "Status" || int(status.Code) != code || status.Message == "" {
			t.Errorf("%s %s by %q answers %s, want a Status", c.method, c.path, c.client, body)
		}
	}
}

func TestNotReadySaysWhy(t *testing.T) {
	ts := startServer(t, func(c *Config) { c.Ready = func() error { return fmt.Errorf("no round yet") } })
	if code, body, _ := do(t, ts.client(""), "GET", ts.url+"/readyz", nil); code != 503 || !strings.Contains(string(body), "no round yet") {
		t.Errorf("readyz: %d %s", code, body)
	}
}

func TestReadyTellsOfEachCheck(t *testing.T) {
	for _, c := range []struct {
		aside int
		err   error
		code  int
		want  string
	}{
		{0, nil, 200, "[+]recovery ok\n[+]records ok\nreadyz check passed\n"},
		{1, nil, 200, "[!]records: 1 of the store could not be read and is set aside: "},
		{7, nil, 200, "[!]records: 7 of the store could not be read and are set aside: "},
		{7, errors.New("waiting for n1"), 503, "[-]recovery: waiting for n1\n[!]records: 7 "},
		{0, errors.New("waiting for n1"), 503, "\n[+]records ok\nreadyz check failed\n"},
	} {
		ts := startServer(t, func(cfg *Config) {
			cfg.Aside, cfg.Ready = func() int { return c.aside }, func() error { return c.err }
		})
		if code, body, _ := do(t, ts.client(""), "GET", ts.url+"/readyz?verbose", nil); code != c.code || !strings.Contains(string(body), c.want) {
			t.Errorf("%d set aside, %v: %d %s", c.aside, c.err, code, body)
		}
	}
}

func TestDiscovery(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	if got := get[metav1.APIVersions](t, c, ts.url+"/api"); len(got.Versions) != 1 || got.Versions[0] != "v1" {
		t.Errorf("/api: %+v", got)
	}
	groupList := get[metav1.APIGroupList](t, c, ts.url+"/apis", "Accept", "application/json, */*")
	if groupList.Kind != "APIGroupList" {
		t.Errorf("/apis plain: %+v", groupList)
	}
	for _, g := range groupList.Groups {
		get[metav1.APIGroup](t, c, ts.url+"/apis/"+g.Name)
		list := get[metav1.APIResourceList](t, c, ts.url+"/apis/"+g.PreferredVersion.GroupVersion)
		if list.GroupVersion != g.PreferredVersion.GroupVersion || len(list.APIResources) == 0 {
			t.Errorf("%s: %+v", g.Name, list)
		}
	}
	core := get[metav1.APIResourceList](t, c, ts.url+"/api/v1")
	logs := false
	for _, r := range core.APIResources {
		logs = logs || r.Name == "pods/log"
	}
	if !logs {
		t.Error("pods/log is not discovered")
	}
	for _, version := range []string{"v2", "v2beta1"} {
		for path, wantGroup := range map[string]string{"/api": "", "/apis": "apps"} {
			accept := "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList,application/json"
			_, body, header := do(t, c, "GET", ts.url+path, nil, "Accept", accept)
			if want := "application/json;g=apidiscovery.k8s.io;v=" + version + ";as=APIGroupDiscoveryList"; header.Get("Content-Type") != want {
				t.Errorf("%s %s: content type %q", path, version, header.Get("Content-Type"))
			}
			if !bytes.Contains(body, []byte(`"name":"`+wantGroup)) && wantGroup != "" || !bytes.Contains(body, []byte("apidiscovery.k8s.io/"+version)) {
				t.Errorf("%s %s: %.200s", path, version, body)
			}
		}
	}
}

// TestEveryCollectionAnswers walks what discovery promises.
func TestEveryCollectionAnswers(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	for _, res := range resources {
		root := "/apis/" + res.APIVersion() + "/"
		if res.Group == "" {
			root = "/api/" + res.Version + "/"
		}
		list := get[metav1.PartialObjectMetadataList](t, c, ts.url+root+res.Resource+"?limit=500")
		if list.Kind != res.listKind() || list.APIVersion != res.APIVersion() || list.ResourceVersion == "" {
			t.Errorf("%s: %+v", res.path(), list.TypeMeta)
		}
		if res.stored && len(list.Items) == 0 {
			t.Errorf("%s: the sample has none", res.path())
		}
		if table := get[metav1.Table](t, c, ts.url+root+res.Resource, "Accept", acceptTable); table.Kind != "Table" || len(table.Rows) != len(list.Items) {
			t.Errorf("%s: table with %d rows for %d objects", res.path(), len(table.Rows), len(list.Items))
		} else {
			for _, row := range table.Rows {
				if len(row.Cells) != len(table.ColumnDefinitions) {
					t.Errorf("%s: %d cells in %d columns", res.path(), len(row.Cells), len(table.ColumnDefinitions))
				}
			}
		}
	}
}

func TestListQuery(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	current := ts.feed.Snapshot().Counters().ResourceVersion
	cases := []struct {
		query string
		code  int
		want  string // in the body
	}{
		{"resourceVersion=0", 200, ""},
		{"limit=1", 200, "api-5d9c7b-bbbbb"},
		{fmt.Sprintf("resourceVersion=%d", current-1), 200, ""},
		{fmt.Sprintf("resourceVersion=%d&resourceVersionMatch=NotOlderThan", current), 200, ""},
		{fmt.Sprintf("resourceVersion=%d&resourceVersionMatch=Exact", current), 200, ""},
		{fmt.Sprintf("resourceVersion=%d&resourceVersionMatch=Exact", current-1), 410, "Expired"},
		{fmt.Sprintf("resourceVersion=%d", current+1), 504, "ResourceVersionTooLarge"},
		{"resourceVersion=x", 400, "not a number"},
		{"resourceVersionMatch=Soon", 400, "NotOlderThan"},
		{"continue=abc", 410, "Expired"},
		{"labelSelector=a+in+b", 400, "labelSelector"},
		{"fieldSelector=a", 400, "fieldSelector"},
		{"fieldSelector=spec.colour%3Dred", 400, "not supported"},
		{"includeObject=All", 400, "includeObject"},
	}
	for _, tc := range cases {
		code, body, _ := do(t, c, "GET", ts.url+"/api/v1/pods?"+tc.query, nil)
		if code != tc.code || !strings.Contains(string(body), tc.want) {
			t.Errorf("%s: %d %.300s, want %d %s", tc.query, code, body, tc.code, tc.want)
		}
	}
	if code, _, _ := do(t, c, "GET", ts.url+"/api/v1/pods", nil, "Accept", "application/vnd.kubernetes.protobuf"); code != 406 {
		t.Errorf("protobuf alone answered %d", code)
	}
	if code, _, header := do(t, c, "GET", ts.url+"/api/v1/pods", nil, "Accept", "application/vnd.kubernetes.protobuf,application/json"); code != 200 || header.Get("Content-Type") != "application/json" {
		t.Errorf("protobuf or JSON answered %d %s", code, header.Get("Content-Type"))
	}
}

func TestSecretValuesNeverLeave(t *testing.T) {
	ts := startServer(t)
	ts.publish(func(tx *state.Txn) {
		s := &corev1.Secret{ObjectMeta: meta("shop", "more", nil), Data: map[string][]byte{"a": []byte("hunter2")}, StringData: map[string]string{"b": "hunter2"}}
		s.Annotations[corev1.LastAppliedConfigAnnotation] = `{"data":"hunter2"}`
		tx.Put(s)
	})
	c := ts.client("reader:ada")
	base := ts.url + "/api/v1/namespaces/shop/secrets"
	for _, path := range []string{
		base, base + "/more", base + "/api-secret", base + "?includeObject=Object", base + "?watch=1", base + "?watch=1&includeObject=Object",
	} {
		for _, accept := range []string{"application/json", acceptTable, acceptPartial} {
			var body []byte
			if strings.Contains(path, "watch") {
				w := startWatch(t, ts, strings.TrimPrefix(path, ts.url), "Accept", accept)
				body, _ = w.lines.ReadBytes('\n')
			} else {
				_, body, _ = do(t, c, "GET", path, nil, "Accept", accept)
			}
			if bytes.Contains(body, []byte("hunter2")) || bytes.Contains(body, []byte("aHVudGVyMg")) {
				t.Errorf("%s as %s tells the Secret: %s", path, accept, body)
			}
			if !bytes.Contains(body, []byte(`"fairlead/redacted":"true"`)) {
				t.Errorf("%s as %s: not marked: %s", path, accept, body)
			}
		}
	}
	got := get[corev1.Secret](t, c, base+"/more")
	if string(got.Data["a"]) != "redacted" || string(got.Data["b"]) != "redacted" || len(got.Data) != 2 {
		t.Errorf("redacted Secret has %q", got.Data)
	}
	kept, _ := state.Get[*corev1.Secret](ts.feed.Snapshot(), "shop", "more")
	if string(kept.Data["a"]) != "hunter2" {
		t.Error("redaction changed the frozen object")
	}
}

func TestPartialMetadata(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	list := get[metav1.PartialObjectMetadataList](t, c, ts.url+"/api/v1/pods", "Accept", acceptPartial)
	if list.Kind != "PartialObjectMetadataList" || len(list.Items) != 2 || list.Items[0].Kind != "PartialObjectMetadata" || list.Items[0].Labels["app"] != "api" {
		t.Errorf("list: %+v", list)
	}
	one := get[metav1.PartialObjectMetadata](t, c, ts.url+"/api/v1/nodes/n1", "Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
	if one.Kind != "PartialObjectMetadata" || one.Name != "n1" {
		t.Errorf("one: %+v", one)
	}
}

func TestWritesSayWhereDesiredStateLives(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	cases := []struct{ method, path, want string }{
		{"DELETE", "/api/v1/namespaces/shop/pods/api-5d9c7b-aaaaa", "desired state lives in Git: main, shop/shop.yaml:3; to restart its pods change an annotation of the pod template there and push"},
		{"PATCH", "/apis/apps/v1/namespaces/shop/deployments/api/scale", "desired state lives in Git: main, shop/shop.yaml:3; set spec.replicas there and push"},
		{"PUT", "/api/v1/namespaces/shop/configmaps/new", "desired state lives in Git: main, .; add it there and push"},
		{"POST", "/api/v1/namespaces", "desired state lives in Git: main, .; add it there and push"},
		{"DELETE", "/apis/apps/v1/deployments", "desired state lives in Git: main, .; what is to go is taken out of its file there and pushed"},
		{"POST", "/apis/apps/v1/namespaces/shop/statefulsets", "desired state lives in Git: main, ., and StatefulSet is no kind that can stand there (docs/fields.md has those that can)"},
		{"POST", "/apis/fairlead/v1/sources", "desired state lives in Git: main, .; add it there and push"},
		{"POST", "/api/v1/namespaces/shop/pods/api-5d9c7b-aaaaa/exec", "pods/exec is not served; " + enterWay + "; `podman cp` copies files"},
		{"GET", "/api/v1/namespaces/shop/pods/api-5d9c7b-aaaaa/exec?command=sh", "pods/exec is not served; " + enterWay + "; `podman cp` copies files"},
		{"GET", "/api/v1/namespaces/shop/services/api/proxy/a/b", "services/proxy is not served; every node and pod reaches it at 10.96.0.20; from elsewhere reach it through a Service of type NodePort"},
	}
	for _, tc := range cases {
		code, body, _ := do(t, c, tc.method, ts.url+tc.path, []byte("{}"))
		var status metav1.Status
		if err := json.Unmarshal(body, &status); err != nil || code != 405 || status.Reason != metav1.StatusReasonMethodNotAllowed || status.Message != tc.want {
			t.Errorf("%s %s: %d %s, want %q", tc.method, tc.path, code, body, tc.want)
		}
	}
}

func TestAccessReviews(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	url := ts.url + "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	scheme := runtime.NewScheme()
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		verb, resource, sub string
		want                bool
	}{
		{"get", "pods", "", true}, {"list", "deployments", "", true}, {"watch", "*", "", true}, {"get", "pods", "log", true},
		{"create", "pods", "", false}, {"delete", "pods", "", false}, {"get", "pods", "exec", false}, {"*", "*", "", false},
	}
	for _, tc := range cases {
		review := &authorizationv1.SelfSubjectAccessReview{
			TypeMeta: metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: "authorization.k8s.io/v1"},
			Spec:     authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: tc.verb, Resource: tc.resource, Subresource: tc.sub}},
		}
		asJSON, err := json.Marshal(review)
		if err != nil {
			t.Fatal(err)
		}
		var asProtobuf bytes.Buffer
		if err := protobuf.NewSerializer(scheme, scheme).Encode(review, &asProtobuf); err != nil {
			t.Fatal(err)
		}
		for form, data := range map[string][]byte{"json": asJSON, "vnd.kubernetes.protobuf": asProtobuf.Bytes()} {
			code, body, _ := do(t, c, "POST", url, data, "Content-Type", "application/"+form)
			var got authorizationv1.SelfSubjectAccessReview
			if err := json.Unmarshal(body, &got); err != nil || code != 201 || got.Status.Allowed != tc.want || got.Spec.ResourceAttributes.Verb != tc.verb {
				t.Errorf("may I %s %s/%s, asked in %s: %d %s, want %v", tc.verb, tc.resource, tc.sub, form, code, body, tc.want)
			}
		}
	}
	if code, _, _ := do(t, c, "POST", url, []byte("rubbish")); code != 400 {
		t.Errorf("rubbish answered %d", code)
	}
	if code, _, _ := do(t, c, "POST", url, []byte(`{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}`)); code != 400 {
		t.Errorf("another review's kind answered %d", code)
	}
}

func TestOpenAPI(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	_, body, header := do(t, c, "GET", ts.url+"/openapi/v2", nil, "Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
	if got := header.Get("Content-Type"); got != openAPIv2Answer {
		t.Errorf("content type %q", got)
	}
	var doc openapi_v2.Document
	if err := proto.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, d := range doc.GetDefinitions().GetAdditionalProperties() {
		found = found || d.GetName() == "io.k8s.api.core.v1.Pod"
	}
	if !found {
		t.Error("OpenAPI v2 does not define Pod")
	}
	type index struct {
		Paths map[string]struct {
			URL string `json:"serverRelativeURL"`
		} `json:"paths"`
	}
	for path, place := range get[index](t, c, ts.url+"/openapi/v3").Paths {
		v3 := get[map[string]any](t, c, ts.url+place.URL)
		if v3["openapi"] != "3.0.0" {
			t.Errorf("%s: %v", path, v3["openapi"])
		}
	}
	if code, _, _ := do(t, c, "GET", ts.url+"/openapi/v3/apis/none/v1", nil); code != 404 {
		t.Errorf("unknown group answered %d", code)
	}
}

func TestMetrics(t *testing.T) {
	ts := startServer(t)
	c := ts.client("reader:ada")
	do(t, c, "GET", ts.url+"/api/v1/pods", nil)
	_, body, _ := do(t, c, "GET", ts.url+"/metrics", nil)
	for _, want := range []string{`fairlead_objects{kind="Pod"} 2`, "fairlead_api_watches 0", `fairlead_api_requests_total{code="200",method="GET"} 1`, "go_goroutines",
		`fairlead_source_sync{source="main",word="Synced"} 1`, `fairlead_source_sync{source="main",word="Held"} 0`, `fairlead_source_health{source="main",word="Degraded"} 1`, `fairlead_source_health{source="main",word="Healthy"} 0`} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}

// Clients show a Table's cells and a Status' message to terminals as they are.
func TestTablesAndRefusalsSteerNoTerminal(t *testing.T) {
	rev := &schema.Revision{ObjectMeta: metav1.ObjectMeta{Name: "main-1"}, Spec: schema.RevisionSpec{
		Source: "main", Subject: "a\x1b[2J\u202egpj\nmain-2 Healthy", Author: "\u009b31m\u200b <a@b>",
	}}
	rev.Enter(schema.PhaseFailed, metav1.Time{}, "exit\r1\xff")
	event := &corev1.Event{Reason: "Killing\x07", Message: "\x1b]0;t\a\u2066"}
	for _, obj := range []schema.Object{rev, event} {
		res := resources[slices.IndexFunc(resources, func(r *resource) bool { return r.Kind == schema.KindOf(obj) })]
		exact := obj.DeepCopyObject()
		for _, row := range (format{as: asTable, version: "v1"}).table(res, "1", []schema.Object{obj}, metav1.Time{}).Rows {
			for _, cell := range row.Cells {
				if text, ok := cell.(string); ok && schema.Printable(text) != text {
					t.Errorf("%s: a cell has %q", res.Kind, text)
				}
			}
		}
		if diff := cmp.Diff(exact, obj.DeepCopyObject()); diff != "" {
			t.Errorf("the object was changed: %s", diff)
		}
	}
	ts := startServer(t)
	ts.publish(func(tx *state.Txn) { tx.Put(rev) })
	_, list, _ := do(t, ts.client("reader:ada"), "GET", ts.url+"/apis/fairlead/v1/revisions", nil, "Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	var table metav1.Table
	if err := json.Unmarshal(list, &table); err != nil {
		t.Fatal(err)
	}
	for _, row := range table.Rows {
		for _, cell := range row.Cells {
			if text, ok := cell.(string); ok && schema.Printable(text) != text {
				t.Errorf("a cell of a list has %q", text)
			}
		}
	}
	answer := httptest.NewRecorder()
	writeError(answer, newStatus(http.StatusBadRequest, metav1.StatusReasonBadRequest, "a.yaml:1: \x1b[2J\nb.yaml:2: \u202egpj"))
	var status metav1.Status
	if err := json.Unmarshal(answer.Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	if want := "a.yaml:1: " + `\x1b[2J` + "\nb.yaml:2: " + `\u202egpj`; status.Message != want {
		t.Errorf("message %q, want %q", status.Message, want)
	}
}
