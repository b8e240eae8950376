package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// told is one watch event, as much of it as tests look at.
type told struct {
	Type   string
	Object struct {
		Kind              string
		Metadata          metav1.ObjectMeta
		Code              int
		Reason            string
		ColumnDefinitions []metav1.TableColumnDefinition
		Rows              []struct {
			Cells  []any
			Object metav1.PartialObjectMetadata
		}
	}
}

// String is "ADDED api-config", or the name a table's row has.
func (e told) String() string {
	name := e.Object.Metadata.Name
	if len(e.Object.Rows) == 1 {
		name = e.Object.Rows[0].Object.Name
	}
	return strings.TrimSpace(e.Type + " " + name)
}

type watchReader struct {
	t     *testing.T
	body  io.ReadCloser
	lines *bufio.Reader
}

func startWatch(t *testing.T, ts *testServer, path string, header ...string) *watchReader {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, ts.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := ts.client("reader:ada").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %d %s", path, resp.StatusCode, body)
	}
	t.Cleanup(func() {
		cancel()
		resp.Body.Close()
	})
	return &watchReader{t: t, body: resp.Body, lines: bufio.NewReader(resp.Body)}
}

func (w *watchReader) next() told {
	w.t.Helper()
	line, err := w.lines.ReadBytes('\n')
	if err != nil {
		w.t.Fatalf("watch ended: %v", err)
	}
	var e told
	if err := json.Unmarshal(line, &e); err != nil {
		w.t.Fatalf("%v in %s", err, line)
	}
	return e
}

func (w *watchReader) want(events ...string) {
	w.t.Helper()
	for _, want := range events {
		if got := w.next().String(); got != want {
			w.t.Fatalf("got %q, want %q", got, want)
		}
	}
}

const configMaps = "/api/v1/namespaces/shop/configmaps?watch=1"

func TestWatchFromAVersion(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	rv := ts.feed.Snapshot().Counters().ResourceVersion
	w := startWatch(t, ts, fmt.Sprintf("%s&resourceVersion=%d", configMaps, rv))
	ts.publish(func(tx *state.Txn) { tx.Put(configMap("a", "1")) })
	w.want("ADDED a")
	ts.publish(func(tx *state.Txn) {
		tx.Put(configMap("a", "2"))
		tx.Put(&corev1.ConfigMap{ObjectMeta: meta("default", "elsewhere", nil)})
	})
	w.want("MODIFIED a")
	gone := ts.publish(func(tx *state.Txn) {
		tx.Delete(schema.Key{Kind: schema.KindConfigMap, Namespace: "shop", Name: "a"})
	})
	e := w.next()
	if e.String() != "DELETED a" || e.Object.Metadata.ResourceVersion != fmt.Sprint(gone) {
		t.Errorf("got %s at %s, want the deletion at %d", e, e.Object.Metadata.ResourceVersion, gone)
	}
	// a second watch from the same version sees the same
	startWatch(t, ts, fmt.Sprintf("%s&resourceVersion=%d", configMaps, rv)).want("ADDED a", "MODIFIED a", "DELETED a")
}

func TestWatchSelectorsAddAndDelete(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	w := startWatch(t, ts, configMaps+"&labelSelector=tier%3Dfront&resourceVersion="+fmt.Sprint(ts.feed.Snapshot().Counters().ResourceVersion))
	ts.publish(func(tx *state.Txn) { tx.Put(configMap("a", "back")) })
	ts.publish(func(tx *state.Txn) { tx.Put(configMap("a", "front")) })
	ts.publish(func(tx *state.Txn) { tx.Put(configMap("a", "back")) })
	w.want("ADDED a", "DELETED a")
}

func TestWatchStartsWithWhatIsThere(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	for _, query := range []string{"", "&resourceVersion=0"} {
		w := startWatch(t, ts, configMaps+query)
		w.want("ADDED api-config")
	}
	w := startWatch(t, ts, configMaps+"&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
	w.want("ADDED api-config")
	e := w.next()
	rv := fmt.Sprint(ts.feed.Snapshot().Counters().ResourceVersion)
	if e.Type != "BOOKMARK" || e.Object.Kind != "ConfigMap" || e.Object.Metadata.Annotations[metav1.InitialEventsAnnotationKey] != "true" || e.Object.Metadata.ResourceVersion != rv {
		t.Errorf("got %+v, want the bookmark that ends the initial events", e)
	}
	w = startWatch(t, ts, configMaps+"&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")
	ts.publish(func(tx *state.Txn) { tx.Put(configMap("b", "1")) })
	w.want("ADDED b")
}

func TestWatchOfOneObject(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	w := startWatch(t, ts, "/api/v1/namespaces/shop/configmaps/api-config?watch=true")
	ts.publish(func(tx *state.Txn) {
		tx.Put(configMap("other", "1"))
		tx.Put(configMap("api-config", "2"))
	})
	w.want("ADDED api-config", "MODIFIED api-config")
}

func TestWatchEndsInTimeWithABookmark(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	w := startWatch(t, ts, configMaps+"&timeoutSeconds=1&allowWatchBookmarks=true")
	w.want("ADDED api-config", "BOOKMARK")
	if line, err := w.lines.ReadBytes('\n'); err != io.EOF {
		t.Errorf("after its time the watch says %s (%v)", line, err)
	}
}

func TestWatchOfAForgottenVersionIsExpired(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	e := startWatch(t, ts, configMaps+"&resourceVersion=5").next()
	if e.Type != "ERROR" || e.Object.Code != http.StatusGone || e.Object.Reason != string(metav1.StatusReasonExpired) || e.Object.Kind != "Status" {
		t.Errorf("%+v, want Expired", e)
	}
}

// Kubernetes' API server waits too: a version that is still to come is not too old.
func TestWatchFromTheFutureTellsWhatIsNewer(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	current := ts.feed.Snapshot().Counters().ResourceVersion
	w := startWatch(t, ts, fmt.Sprintf("%s&resourceVersion=%d", configMaps, current+2))
	for i := range 3 {
		ts.publish(func(tx *state.Txn) { tx.Put(configMap(fmt.Sprintf("new-%d", i), "x")) })
	}
	w.want("ADDED new-2")
	w = startWatch(t, ts, fmt.Sprintf("%s&resourceVersion=%d&timeoutSeconds=1&allowWatchBookmarks=true", configMaps, current+100))
	if line, err := w.lines.ReadBytes('\n'); err != io.EOF {
		t.Errorf("a watch that does not reach its version says %s (%v)", line, err)
	}
}

func TestWatchRefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	c := ts.client("reader:ada")
	for query, want := range map[string]int{
		"&resourceVersion=x": 400, "&timeoutSeconds=soon": 400, "&sendInitialEvents=true": 400, "&resourceVersionMatch=Exact": 400,
		"&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=99999999999999": 504,
	} {
		if code, body, _ := do(t, c, "GET", ts.url+configMaps+query, nil); code != want {
			t.Errorf("%s: %d %s, want %d", query, code, body, want)
		}
	}
}

func TestWatchOfATable(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	w := startWatch(t, ts, "/api/v1/namespaces/shop/pods?watch=1&allowWatchBookmarks=true&timeoutSeconds=1", "Accept", acceptTable)
	first, second := w.next(), w.next()
	if first.Object.Kind != "Table" || len(first.Object.ColumnDefinitions) != 9 || len(second.Object.ColumnDefinitions) != 0 {
		t.Errorf("columns come with %+v and %+v, want with the first alone", first, second)
	}
	if got := []string{first.String(), second.String()}; !slices.Equal(got, []string{"ADDED api-5d9c7b-aaaaa", "ADDED api-5d9c7b-bbbbb"}) {
		t.Errorf("got %q", got)
	}
	if e := w.next(); e.Type != "BOOKMARK" || e.Object.Kind != "Table" {
		t.Errorf("got %+v, want a bookmark in a table", e)
	}
}

func TestWatchOfEndpoints(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	w := startWatch(t, ts, "/api/v1/namespaces/shop/endpoints?watch=1")
	w.want("ADDED api")
	ts.publish(func(tx *state.Txn) {
		tx.Put(&corev1.Service{ObjectMeta: meta("shop", "web", nil), Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.30"}})
	})
	w.want("ADDED web")
	ts.publish(func(tx *state.Txn) { tx.Put(sampleSlice("web", "web-1")) })
	w.want("MODIFIED web")
	ts.publish(func(tx *state.Txn) { tx.Delete(schema.Key{Kind: schema.KindService, Namespace: "shop", Name: "web"}) })
	w.want("DELETED web")
}

// TestSlowWatcherIsCutOff: a client that reads nothing loses its watch and holds
// nothing of the server.
func TestSlowWatcherIsCutOff(t *testing.T) {
	ts := startServer(t, withWaits(func(w *waits) { w.write = 50 * time.Millisecond }))
	startWatch(t, ts, configMaps)
	await(t, func() bool { return ts.watches.Load() == 1 })
	big := strings.Repeat("x", 1<<20)
	for i := 0; i < 100 && ts.watches.Load() > 0; i++ {
		ts.publish(func(tx *state.Txn) {
			cm := configMap("big", "1")
			cm.Data["big"] = big
			tx.Put(cm)
		})
		time.Sleep(time.Millisecond)
	}
	await(t, func() bool { return ts.watches.Load() == 0 })
	ts.end()
}

func TestNothingIsLeftBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	ts := startServer(t)
	w := startWatch(t, ts, configMaps)
	w.want("ADDED api-config")
	next := openWork(t, ts, "n1", 0)
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	startWatch(t, ts, "/api/v1/pods?watch=1").body.Close()
	ts.end()
	if _, err := w.lines.ReadBytes('\n'); err == nil {
		t.Error("the watch goes on after the server's end")
	}
	w.body.Close()
	goleak.VerifyNone(t, before)
}

// TestWatchIsResumedWithoutLossOrRepeat: watches that begin at any version, while
// changes go on, all hear the same story from there on (S17).
func TestWatchIsResumedWithoutLossOrRepeat(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	chance := rand.New(rand.NewPCG(1, 2))
	var versions []uint64 // before each event
	var events []string
	var watches []*watchReader
	from := map[*watchReader]int{}
	begin := func(i int) {
		w := startWatch(t, ts, fmt.Sprintf("%s&resourceVersion=%d", configMaps, versions[i]))
		watches = append(watches, w)
		from[w] = i
	}
	there := map[string]bool{}
	for step := range 200 {
		name := fmt.Sprint("c", chance.IntN(5))
		versions = append(versions, ts.feed.Snapshot().Counters().ResourceVersion)
		what := "ADDED "
		switch {
		case there[name] && chance.IntN(3) == 0:
			what = "DELETED "
		case there[name]:
			what = "MODIFIED "
		}
		there[name] = what != "DELETED "
		events = append(events, what+name)
		ts.publish(func(tx *state.Txn) {
			if !there[name] {
				tx.Delete(schema.Key{Kind: schema.KindConfigMap, Namespace: "shop", Name: name})
				return
			}
			tx.Put(configMap(name, fmt.Sprint(step)))
			tx.Put(&corev1.ConfigMap{ObjectMeta: meta("default", "elsewhere", nil), Data: map[string]string{"step": fmt.Sprint(step)}})
		})
		if step%10 == 0 {
			begin(chance.IntN(len(versions)))
		}
	}
	for _, w := range watches {
		w.want(events[from[w]:]...)
	}
}
