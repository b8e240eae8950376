package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

var eventRow = Row{
	Kind:       schema.KindEvent,
	Controller: controllerCell{None: noController},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: notInGit},
	StandIn:    standInCell{None: noStandIn},
}

// MaxEventMessage bounds an event's message in bytes, as Kubernetes does.
const MaxEventMessage = 1024

// Bounds on what else an event says, in bytes: Kubernetes' for the reason; a
// container's name, which is in the field, has 63.
const (
	maxEventReason = 128
	maxEventField  = 128
)

// eventSource is the component that events and slices name as their author.
const eventSource = "fairlead"

// maxEventSubject leaves room for the hash in an event's name, which may have
// 253 bytes.
const maxEventSubject = 230

// Event tells something about an object. The same thing said again raises the
// count of the event that is there. An event lives in its object's namespace,
// `default` for cluster-scoped kinds, and its name is derived from the object's
// UID, the reason and the message.
func Event(c *Context, about schema.Object, eventType, reason, message string) {
	event(c, about, "", eventType, reason, message)
}

// ContainerEvent is an Event about one of a pod's containers, which it names as
// Kubernetes does.
func ContainerEvent(c *Context, pod *corev1.Pod, container, eventType, reason, message string) {
	event(c, pod, schema.ContainerField(pod, container), eventType, reason, message)
}

func event(c *Context, about schema.Object, field, eventType, reason, message string) {
	message, reason, field = bounded(message, MaxEventMessage), bounded(reason, maxEventReason), bounded(field, maxEventField)
	if eventType != corev1.EventTypeNormal {
		eventType = corev1.EventTypeWarning
	}
	key := schema.KeyOf(about)
	namespace, name := eventName(about, field, reason, message)
	now := c.Stamp()
	if old, ok := state.Get[*corev1.Event](c.Tx, namespace, name); ok {
		next := state.Edit(old)
		next.Count++
		next.LastTimestamp = now
		c.Tx.Put(next)
		return
	}
	c.Tx.Put(&corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, CreationTimestamp: now},
		InvolvedObject: corev1.ObjectReference{
			Kind: string(key.Kind), Namespace: key.Namespace, Name: key.Name, UID: about.GetUID(),
			APIVersion: schema.Info(key.Kind).APIVersion(), FieldPath: field,
		},
		Type: eventType, Reason: reason, Message: message,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: eventSource}, ReportingController: eventSource,
	})
}

// eventOnce is Event unless the same was told at that time or since.
func eventOnce(c *Context, since time.Time, about schema.Object, eventType, reason, message string) {
	namespace, name := eventName(about, "", bounded(reason, maxEventReason), bounded(message, MaxEventMessage))
	if had, ok := state.Get[*corev1.Event](c.Tx, namespace, name); ok && !had.LastTimestamp.Time.Before(since) {
		return
	}
	Event(c, about, eventType, reason, message)
}

// eventName is where what is told of an object stands.
func eventName(about schema.Object, field, reason, message string) (namespace, name string) {
	key := schema.KeyOf(about)
	namespace = key.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s%s\x00%s\x00%s", about.GetUID(), field, reason, message))
	return namespace, bounded(key.Name, maxEventSubject) + "." + hex.EncodeToString(sum[:8])
}

// bounded cuts s to at most n bytes, at a rune's boundary.
func bounded(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
