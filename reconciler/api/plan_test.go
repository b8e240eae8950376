package api

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func planBody(t *testing.T, req PlanRequest) []byte {
	t.Helper()
	data, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestPlan(t *testing.T) {
	ts := startServer(t, func(c *Config) {
		c.Plan = func(_ context.Context, req PlanRequest) (any, error) {
			switch req.Source {
			case "nobody":
				return nil, apierrors.NewBadRequest("no source nobody")
			case "broken":
				return nil, errors.New("broken")
			}
			return map[string]any{"source": req.Source, "files": len(req.Files), "first": string(req.Files[0].Data)}, nil
		}
	})
	c, url := ts.client("reader:ada"), ts.url+"/apis/fairlead/v1/plan"
	body := planBody(t, PlanRequest{Source: "main", Files: []PlanFile{{Path: "a.yaml", Data: []byte("a: b\n")}}})
	want := `{"files":1,"first":"a: b\n","source":"main"}`
	if code, got, _ := do(t, c, "POST", url, body); code != 200 || strings.TrimSpace(string(got)) != want {
		t.Errorf("plan: %d %s", code, got)
	}
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	if code, got, _ := do(t, c, "POST", url, zipped.Bytes(), "Content-Encoding", "gzip"); code != 200 || strings.TrimSpace(string(got)) != want {
		t.Errorf("gzip: %d %s", code, got)
	}
	for name, tc := range map[string]struct {
		body, encoding string
		code           int
		want           string
	}{
		"rubbish":         {"rubbish", "", 400, "read plan request"},
		"unknown field":   {`{"source":"main","tree":1}`, "", 400, "tree"},
		"no source":       {`{}`, "", 400, "names no source"},
		"odd encoding":    {`{}`, "br", 400, "gzip"},
		"own status":      {`{"source":"nobody"}`, "", 400, "no source nobody"},
		"any other error": {`{"source":"broken"}`, "", 500, "broken"},
	} {
		code, got, _ := do(t, c, "POST", url, []byte(tc.body), "Content-Encoding", tc.encoding)
		if code != tc.code || !strings.Contains(string(got), tc.want) {
			t.Errorf("%s: %d %s, want %d %s", name, code, got, tc.code, tc.want)
		}
	}
}

// Whoever has a tree that is too large learns what to do instead, whether it comes
// so large or becomes so.
func TestAPlanTooLarge(t *testing.T) {
	ts := startServer(t, func(c *Config) {
		c.Plan = func(context.Context, PlanRequest) (any, error) { return nil, errors.New("was asked") }
	})
	plain := planBody(t, PlanRequest{Source: "main", Files: []PlanFile{{Path: "a.yaml", Data: make([]byte, doorPlan.BodyBytes)}}})
	var zipped bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	if _, err := zw.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	for encoding, body := range map[string][]byte{"": plain, "gzip": zipped.Bytes()} {
		code, got, _ := do(t, ts.client("reader:ada"), "POST", ts.url+"/apis/fairlead/v1/plan", body, "Content-Encoding", encoding)
		if code != http.StatusRequestEntityTooLarge || !strings.Contains(string(got), "a push is told its plan") {
			t.Errorf("%q: %d %s", encoding, code, got)
		}
	}
}

// Plans that wait on a connection do not keep back the body of the one whose turn it
// is.
func TestPlansShareAConnection(t *testing.T) {
	ts := startServer(t, func(c *Config) {
		c.Plan = func(context.Context, PlanRequest) (any, error) { return struct{}{}, nil }
	})
	c, body := ts.client("reader:ada"), planBody(t, PlanRequest{Source: "main", Files: []PlanFile{{Path: "a.yaml", Data: make([]byte, 2<<20)}}})
	get[struct{}](t, c, ts.url+"/api") // from here on there is one connection
	var asked sync.WaitGroup
	for range doorPlan.ByCaller + doorPlan.QueueByCaller {
		asked.Go(func() {
			if code, got, _ := do(t, c, "POST", ts.url+"/apis/fairlead/v1/plan", body); code != http.StatusOK {
				t.Errorf("%d %s", code, got)
			}
		})
	}
	asked.Wait()
}

// Each reader has one plan at work and a few waiting, and all together two and
// sixteen: one who asks for thirty gets no other reader's turn, nor more memory.
func TestPlansTakeTurns(t *testing.T) {
	var running, most atomic.Int32
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	defer release()
	ts := startServer(t, func(c *Config) {
		c.Plan = func(context.Context, PlanRequest) (any, error) {
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-released
			running.Add(-1)
			return struct{}{}, nil
		}
	})
	body := planBody(t, PlanRequest{Source: "main"})
	var asked sync.WaitGroup
	var refused, answered atomic.Int32
	ask := func(c *http.Client, times int) {
		for range times {
			asked.Go(func() {
				switch code, _, header := do(t, c, "POST", ts.url+"/apis/fairlead/v1/plan", body); {
				case code == http.StatusTooManyRequests && header.Get("Retry-After") == "1":
					refused.Add(1)
				case code == http.StatusOK:
					answered.Add(1)
				}
			})
		}
	}
	ask(ts.client("reader:ada"), 30)
	await(t, func() bool {
		return running.Load() == 1 && refused.Load() == int32(30-doorPlan.ByCaller-doorPlan.QueueByCaller)
	})
	ask(ts.client("reader:bob"), 1)
	await(t, func() bool { return running.Load() == 2 })
	release()
	asked.Wait()
	if most.Load() != int32(doorPlan.AtOnce) || answered.Load() != int32(1+doorPlan.ByCaller+doorPlan.QueueByCaller) {
		t.Errorf("%d plans ran at a time and %d were answered", most.Load(), answered.Load())
	}
}
