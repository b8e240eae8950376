package api

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema/wire"
)

// clientAt is a client that comes from another address.
func (ts *testServer) clientAt(cn, address string) *http.Client {
	c := ts.client(cn)
	c.Transport.(*http.Transport).DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext
	return c
}

// aged makes every stranger's connection as old as one that had its time to prove
// something.
func (cs *connections) aged() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.classes[Strangers].held {
		c.shook = c.shook.Add(-2 * provingTime)
	}
}

// Strangers whose requests never end, on as many connections as there are, keep
// nobody out: not nodes, readers or those who join, nor do they cost a pusher theirs.
func TestBusyStrangersMakeWay(t *testing.T) {
	lasting := func(l *Limit) { l.AtOnce, l.ByCaller, l.Lasts = 64, 64, 100*patience }
	begun, broken := make(chan struct{}, 64), make(chan struct{}, 64)
	endless := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
		if r.Header.Get("Authorization") != "" {
			broken <- struct{}{}
		}
	})
	ts := startServer(t, withDoor(doorHooks, lasting), func(c *Config) {
		c.Descriptors = 400
		c.Beside = map[string]Beside{
			"/hooks/": {Handler: endless},
			"/git/":   {Handler: endless, Pusher: func(r *http.Request) (string, bool) { return "ada", r.Header.Get("Authorization") == "right" }},
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stay := func(c *http.Client, path string, header ...string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, ts.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		go func() {
			if resp, err := c.Do(req); err == nil {
				resp.Body.Close()
			}
		}()
		<-begun
	}
	stay(ts.clientAt("", "127.0.0.2"), "/git/main/git-receive-pack", "Authorization", "right")
	most, byCaller := ConnectionLimits()[0].of(forConnections(400))
	for i := range most {
		address := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}[i/byCaller]
		stay(ts.clientAt("", address), "/hooks/shop")
	}
	ts.listening.Load().aged()
	for range 3 {
		get[corev1.PodList](t, ts.client("reader:ada"), ts.url+"/api/v1/pods")
		if code, body, _ := do(t, ts.client("node:n1"), "POST", ts.url+wire.PathReport, []byte(`{"node":"n1"}`)); code != http.StatusOK {
			t.Fatalf("report: %d %s", code, body)
		}
		if code, _, _ := do(t, ts.client(""), "GET", ts.url+"/livez", nil); code != http.StatusOK {
			t.Fatalf("a stranger: %d", code)
		}
	}
	// behind the address that has its share, whoever has a certificate gets in too
	get[corev1.PodList](t, ts.clientAt("reader:bob", "127.0.0.3"), ts.url+"/api/v1/pods")
	select {
	case <-broken:
		t.Error("a push was broken off although its token was right")
	default:
	}
}

// Which of the strangers makes way, where the class has room for eight.
func TestWhichStrangerMakesWay(t *testing.T) {
	type stranger struct {
		caller   string
		requests int
		age      time.Duration // since the handshake; 0 is before it
	}
	busy := func(caller string, age time.Duration) stranger { return stranger{caller, 1, age} }
	young, old := provingTime/2, 2*provingTime
	for name, tc := range map[string]struct {
		held  []stranger
		comes string
		want  int // index of the one that is closed; -1 for none
	}{
		"nobody had their time":               {[]stranger{busy("a", young), busy("a", young), busy("b", young), busy("b", young)}, "c", -1},
		"the oldest of the one with the most": {[]stranger{busy("a", old), busy("b", old), busy("b", old+time.Second), busy("b", young)}, "c", 2},
		"their own, where a caller is full":   {[]stranger{busy("a", old), busy("b", old), busy("b", young), busy("b", young)}, "a", 0},
		"idle before busy":                    {[]stranger{busy("a", old), {"a", 0, old}, busy("b", old)}, "c", 1},
		"not the one that has just come":      {[]stranger{{"c", 0, 0}, busy("a", old), busy("a", old+time.Second), busy("b", old)}, "b", 2},
	} {
		t.Run(name, func(t *testing.T) {
			cs := &connections{classes: map[Class]*connectionClass{}}
			class := &connectionClass{most: len(tc.held), byCaller: 3, held: map[*connection]struct{}{}, callers: map[string]int{}}
			if name == "their own, where a caller is full" {
				class.byCaller = 1
			}
			cs.classes[Strangers] = class
			now := time.Now()
			var held []*connection
			for _, s := range tc.held {
				here, there := net.Pipe()
				defer there.Close()
				c := &connection{Conn: here, at: cs, requests: s.requests, since: now.Add(-s.age)}
				if s.age > 0 {
					c.shook = c.since
				}
				cs.add(c, Strangers, s.caller)
				held = append(held, c)
			}
			refused := cs.enter(&connection{at: cs}, Strangers, tc.comes)
			if (refused == admitted) != (tc.want >= 0) {
				t.Errorf("the newcomer is told %v", refused)
			}
			for i, c := range held {
				if c.gone != (i == tc.want) {
					t.Errorf("%d closed: %t, want %d to be", i, c.gone, tc.want)
				}
			}
		})
	}
}
