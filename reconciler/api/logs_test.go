package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/reconciler/state"
	"fairlead/schema/wire"
)

const podLog = "/api/v1/namespaces/shop/pods/api-5d9c7b-aaaaa/log"

func TestALogNobodyAnswersTimesOut(t *testing.T) {
	ts := startServer(t, withWaits(func(w *waits) { w.log = 20 * time.Millisecond }))
	code, body, _ := do(t, ts.client("reader:ada"), "GET", ts.url+podLog, nil)
	if code != http.StatusGatewayTimeout || !strings.Contains(string(body), "node n1 has not answered for 20ms") {
		t.Errorf("got %d %s", code, body)
	}
	if n := len(ts.door.logs.calls); n != 0 {
		t.Errorf("%d calls are left", n)
	}
}

func TestLogQuery(t *testing.T) {
	ts := startServer(t)
	ts.publish(func(tx *state.Txn) {
		two := samplePod("two", "n1", "10.112.0.6", nil, true)
		two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "side"})
		two.Spec.InitContainers = []corev1.Container{{Name: "prepare"}}
		tx.Put(two)
		tx.Put(samplePod("nowhere", "", "", nil, false))
	})
	c := ts.client("reader:ada")
	for path, want := range map[string]string{
		podLog + "?tailLines=x":                                   `tailLines \"x\" is not a positive number`,
		podLog + "?sinceSeconds=0":                                `sinceSeconds \"0\" is not a positive number`,
		podLog + "?sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z": "at most one of sinceTime and sinceSeconds",
		podLog + "?sinceTime=yesterday":                           "RFC 3339",
		"/api/v1/namespaces/shop/pods/nowhere/log":                `pod \"nowhere\" is not on a node yet: it waits for a node`,
		"/api/v1/namespaces/shop/pods/two/log":                    "a container name must be specified for pod two, choose one of: [api side] or one of the init containers: [prepare]",
	} {
		code, body, _ := do(t, c, "GET", ts.url+path, nil)
		if code != http.StatusBadRequest || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
	}
}

// TestAFollowedLogEndsWithItsReader: the agent's POST is let go when the reader
// is, and what the reader got came as it was written.
func TestAFollowedLogEndsWithItsReader(t *testing.T) {
	ts := startServer(t)
	next := openWork(t, ts, "n1", 0)
	if _, err := next(); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	posted := make(chan error, 1)
	go func() {
		frame, err := next()
		if err != nil || len(frame.Logs) != 1 {
			posted <- fmt.Errorf("frame %+v: %w", frame, err)
			return
		}
		resp, err := ts.client("node:n1").Post(ts.url+wire.PathLogs+frame.Logs[0].ID, "text/plain", r)
		if err == nil {
			resp.Body.Close()
		}
		posted <- nil
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, "GET", ts.url+podLog+"?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	go fmt.Fprint(w, "one\n")
	resp, err := ts.client("reader:ada").Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 100)
	for _, line := range []string{"one\n", "two\n"} {
		if line != "one\n" {
			go fmt.Fprint(w, line)
		}
		n, err := resp.Body.Read(buf)
		if got := string(buf[:n]); got != line || err != nil {
			t.Fatalf("got %q (%v), want %q", got, err, line)
		}
	}
	cancel()
	select {
	case err := <-posted:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the agent's POST goes on without a reader")
	}
}

func TestOnlyItsNodeAnswersALog(t *testing.T) {
	desk := newLogDesk()
	call, _ := desk.open(logReader{"n1", "ada"})
	id := call.id
	if desk.take(id, "n2") != nil {
		t.Error("another node took the call")
	}
	if desk.take(id, "n1") == nil {
		t.Error("its node could not take the call")
	}
	if desk.take(id, "n1") != nil {
		t.Error("the call was taken twice")
	}
}
