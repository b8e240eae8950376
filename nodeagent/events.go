package nodeagent

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

const (
	// eventsKept bounds what waits for a master that is away; the oldest go first.
	eventsKept = 1000
	// eventsSent bounds one report.
	eventsSent = 200
	// messageBytes bounds what is told in one text, of which a container may have made
	// a part: a report of many is still one that the master takes.
	messageBytes = 4 << 10
)

// eventLog holds the events the master has not heard yet. Numbers grow by one
// for each event, so that an answer can say up to where it heard.
type eventLog struct {
	first   uint64 // number of waiting[0]
	sent    uint64 // number after the last one ever handed out
	waiting []wire.Event
}

func (m *machine) event(e *entry, kind, reason, container, message string, now time.Time) {
	m.events.add(wire.Event{
		Pod: e.obs.UID, Namespace: e.obs.Namespace, Name: e.obs.Name, Type: kind, Reason: reason,
		Container: container, Message: schema.FitText(message, messageBytes), At: metav1.NewTime(now), Count: 1,
	})
}

// add appends an event, or counts up an equal one that was not handed out yet.
func (l *eventLog) add(ev wire.Event) {
	unsent := int(max(l.sent, l.first) - l.first)
	for i := len(l.waiting) - 1; i >= unsent; i-- {
		w := &l.waiting[i]
		if w.Pod == ev.Pod && w.Reason == ev.Reason && w.Container == ev.Container && w.Message == ev.Message {
			w.Count++
			w.At = ev.At
			return
		}
	}
	l.waiting = append(l.waiting, ev)
	if over := len(l.waiting) - eventsKept; over > 0 {
		l.waiting = append([]wire.Event(nil), l.waiting[over:]...)
		l.first += uint64(over)
	}
}

// next gives the events of the next report and the number after the last.
func (l *eventLog) next() ([]wire.Event, uint64) {
	n := min(len(l.waiting), eventsSent)
	l.sent = max(l.sent, l.first+uint64(n))
	return append([]wire.Event(nil), l.waiting[:n]...), l.first + uint64(n)
}

// heard drops the events before number.
func (l *eventLog) heard(number uint64) {
	if number <= l.first {
		return
	}
	n := min(number-l.first, uint64(len(l.waiting)))
	l.waiting = append([]wire.Event(nil), l.waiting[n:]...)
	l.first += n
}
