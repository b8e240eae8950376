package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/schema/wire"
)

// modelAgent stands in for a node: it is told its work as an agent is, and says
// of each pod at once that it is ready.
type modelAgent struct {
	url  string
	http *http.Client
	said wire.Report // but for its pods
	free netip.Addr  // next pod's address
	wake chan struct{}

	mu      sync.Mutex
	version uint64
	pods    []wire.PodReport
	known   map[types.UID]bool
}

func newModelAgent(i int, address string) *modelAgent {
	said := modelReport(i)
	return &modelAgent{
		url: "https://" + address, said: said, free: agentRange(said.Node).Addr().Next(), wake: make(chan struct{}, 1), known: map[types.UID]bool{},
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: string(said.Node), InsecureSkipVerify: true}}},
	}
}

// run follows the node's work and reports on change and every ReportInterval.
func (a *modelAgent) run(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/agent/v1/work?since=0", nil)
	if err != nil {
		return err
	}
	res, err := a.http.Do(req)
	if err != nil {
		return ended(ctx, err)
	}
	told := make(chan error, 1)
	go func() { told <- a.listen(res.Body) }()
	defer func() { res.Body.Close(); <-told }()
	tick := time.NewTicker(wire.ReportInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.wake:
		case <-tick.C:
		case err := <-told:
			told <- err
			return ended(ctx, err)
		case <-ctx.Done():
			return nil
		}
		if err := a.report(ctx); err != nil {
			return ended(ctx, err)
		}
	}
}

// ended is err unless it is of the end of ctx.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// listen reads the frames, one a line, and of each no more than the version and
// the node's pods: it is the master that is measured.
func (a *modelAgent) listen(body io.Reader) error {
	for lines := bufio.NewReaderSize(body, 64<<10); ; {
		_, err := lines.Peek(1)
		told := false
		if err == nil {
			told, err = a.hear(lines)
		}
		if err != nil {
			return fmt.Errorf("%s: read work: %w", a.said.Node, err)
		}
		if told {
			select {
			case a.wake <- struct{}{}:
			default:
			}
		}
	}
}

// hearing is where one model agent at a time reads its frame: they share its
// memory, which on nodes would not be the master's either.
var hearing struct {
	sync.Mutex
	frame []byte
}

// hear takes the next frame, which has begun to come; false for a heartbeat.
func (a *modelAgent) hear(lines *bufio.Reader) (told bool, err error) {
	hearing.Lock()
	defer hearing.Unlock()
	hearing.frame = hearing.frame[:0]
	for more := true; more; {
		part, err := lines.ReadSlice('\n')
		hearing.frame = append(hearing.frame, part...)
		if more = errors.Is(err, bufio.ErrBufferFull); err != nil && !more {
			return false, err
		}
	}
	if !bytes.Contains(hearing.frame, []byte(`"hash":`)) {
		return false, nil
	}
	return true, a.take(hearing.frame)
}

// take runs the pods that a frame brings.
func (a *modelAgent) take(frame []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, err := fmt.Sscanf(string(frame[:min(len(frame), 40)]), `{"version":%d,`, &a.version); err != nil {
		return err
	}
	for _, part := range bytes.Split(frame, []byte(`"`+wire.FamilyPods+`/`))[1:] {
		_, value, isSet := bytes.Cut(part, []byte(`":`))
		if !isSet || len(value) == 0 || value[0] != '{' {
			continue // a key that goes
		}
		var w wire.PodWork
		if err := json.NewDecoder(bytes.NewReader(value)).Decode(&w); err != nil {
			return err
		}
		if a.known[w.Pod.UID] {
			continue
		}
		a.known[w.Pod.UID] = true
		a.pods = append(a.pods, wire.PodReport{UID: w.Pod.UID, Namespace: w.Pod.Namespace, Name: w.Pod.Name, Epoch: w.Epoch, Status: runs(w.Pod, a.free)})
		a.free = a.free.Next()
	}
	return nil
}

// runs is the status of a pod that is ready.
func runs(pod *corev1.Pod, ip netip.Addr) corev1.PodStatus {
	now, started := metav1.Now(), true
	s := corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip.String(), PodIPs: []corev1.PodIP{{IP: ip.String()}}, StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: now}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
		},
	}
	for _, c := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: &started, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return s
}

func (a *modelAgent) report(ctx context.Context) error {
	r := a.said
	a.mu.Lock()
	r.AppliedVersion, r.Pods = a.version, a.pods[:len(a.pods):len(a.pods)]
	a.mu.Unlock()
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/agent/v1/report", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: report: %s: %s", r.Node, res.Status, answer)
	}
	return err
}
