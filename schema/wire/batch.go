package wire

import "fairlead/schema"

// Batch is what one round of the master makes durable, all of it or nothing.
type Batch struct {
	Round           uint64 // greater than every round before
	ResourceVersion uint64 // the counter after the round, never less than before
	Creations       uint64 // likewise the creation counter
	Writes          []Write
}

// Write is one object of a Batch, which holds a key at most once. A nil Record
// deletes Key; any other carries the same key.
type Write struct {
	Key    schema.Key
	Record *Record
}

// Loaded is the store as of its last finished round.
type Loaded struct {
	Records         []Record // sorted by Key
	ResourceVersion uint64   // in a new store unix seconds << 20
	Creations       uint64
	Round           uint64       // 0 in a new store
	Term            uint64       // of this loading; the store's writes are fenced by it
	Unreadable      []Unreadable // records that are not in Records, sorted
	Aside           int          // records that earlier starts set aside
}

// Unreadable is a record of the store that cannot be read. It says nothing of the
// others.
type Unreadable struct {
	Key string // as the store has it; it may be no object's
	Why string
}
