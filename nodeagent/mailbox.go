package nodeagent

import "sync"

// mailbox holds the newest value only: whole states are passed, so an older one
// that nobody took is of no use.
type mailbox[T any] struct {
	ready chan struct{} // receives once after a put
	box   *contents[T]
}

type contents[T any] struct {
	mu    sync.Mutex
	value *T
}

func newMailbox[T any]() mailbox[T] {
	return mailbox[T]{ready: make(chan struct{}, 1), box: &contents[T]{}}
}

// put replaces what is there.
func (m mailbox[T]) put(v T) { m.merge(v, func(_, v T) T { return v }) }

// putIfEmpty puts an older value back, unless a newer one came.
func (m mailbox[T]) putIfEmpty(v T) { m.merge(v, func(newer, _ T) T { return newer }) }

// merge joins v to what was not taken yet.
func (m mailbox[T]) merge(v T, join func(waiting, v T) T) {
	m.box.mu.Lock()
	if m.box.value != nil {
		v = join(*m.box.value, v)
	}
	m.box.value = &v
	m.box.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take empties the box; false if it was empty.
func (m mailbox[T]) take() (v T, ok bool) {
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	if m.box.value == nil {
		return v, false
	}
	v, m.box.value = *m.box.value, nil
	return v, true
}
