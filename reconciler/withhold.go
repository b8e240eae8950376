package reconciler

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/control"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

// Withheld is an object that a round made and the store would not take: it stays
// as it was, and all else of the round is stored.
type Withheld struct {
	Key schema.Key
	Why string
}

// maxWithheld is of how many objects it is remembered that they were told of.
const maxWithheld = 1000

// withhold takes back what the store would not take, and makes the revision that
// asks for it Invalid. What stands in Git is judged before it is accepted, so this
// is for what follows from it: nothing that comes in ends the master. Whatever made
// the object makes it again when it next looks, and it is taken back again.
func (m *Machine) withhold(c *control.Context) []Withheld {
	var out []Withheld
	for _, ch := range c.Tx.Changes() {
		if ch.New == nil {
			continue
		}
		err := wire.CheckRecord(ch.New)
		if err == nil {
			delete(m.withheld, ch.Key)
			continue
		}
		c.Tx.Revert(ch.Key)
		if m.withheld[ch.Key] {
			continue
		}
		if len(m.withheld) >= maxWithheld {
			clear(m.withheld)
		}
		m.withheld[ch.Key] = true
		w := Withheld{ch.Key, err.Error()}
		out = append(out, w)
		blame(c, ch.New, w)
	}
	return out
}

// blame tells on the revision that an object comes from, and on its source, that the
// object cannot be stored.
func blame(c *control.Context, obj schema.Object, w Withheld) {
	reason := fmt.Sprintf("%s cannot be stored: %s", w.Key, w.Why)
	src, ok := state.Source(c.Tx, schema.SourceOf(obj))
	if !ok {
		return
	}
	next := state.Edit(src)
	tell(c, next, metav1.ConditionFalse, string(schema.PhaseInvalid), reason)
	c.Tx.Put(next)
	rev, ok := state.Revision(c.Tx, schema.RevisionOf(src.SourceName(), schema.OriginOf(obj).Commit))
	if !ok {
		return
	}
	invalid := state.Edit(rev)
	if invalid.Enter(schema.PhaseInvalid, c.Stamp(), reason) {
		c.Tx.Put(invalid)
		control.Event(c, invalid, corev1.EventTypeWarning, string(schema.PhaseInvalid), reason)
	}
}
