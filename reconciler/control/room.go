package control

import (
	"fmt"
	"time"

	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/wire"
)

const (
	// roomRetry is how soon something is looked at again that has no room: others may have
	// gone, which nothing else tells.
	roomRetry = 30 * time.Second
	// roomTold is how often it is told that something has no room.
	roomTold = 10 * time.Minute
	// aheadPart is which part of a bound on records those may fill that nothing needs to
	// get on: more than one pod of a Job without a node, more Jobs of a CronJob beside one
	// that waits for a node. Of what a source asks for it takes a third itself, and two for
	// what is to be made of it one at a time: that much stays free, whatever waits.
	aheadPart = 3
)

// Share bounds what some sources take together of what every node is sent.
type Share struct {
	Whose string                                             // before what they take, for people
	Where string                                             // in which of their objects less would help, for people
	Of    func(source schema.SourceName, declared bool) bool // which sources count
	part  func(all int64) int64
}

// Most is the share's part of a bound on all sources.
func (s Share) Most(all int64) int64 { return s.part(all) }

// SharesOf are those that concern a source. A source that a tree declares can leave
// neither the master's own nor another such source without room.
func SharesOf(source schema.SourceName, declared bool) []Share {
	out := []Share{{
		Whose: "the objects of all sources", Where: "here or in the largest source",
		Of:   func(schema.SourceName, bool) bool { return true },
		part: func(all int64) int64 { return all },
	}}
	if !declared {
		return out
	}
	return append(out,
		Share{
			Whose: fmt.Sprintf("the objects of source %s, which a tree declares,", source), Where: "here",
			Of:   func(other schema.SourceName, _ bool) bool { return other == source },
			part: func(all int64) int64 { return all / schema.DeclaredShare },
		},
		Share{
			Whose: "the objects of the sources that trees declare", Where: "here or in the largest of these sources",
			Of:   func(_ schema.SourceName, declared bool) bool { return declared },
			part: func(all int64) int64 { return all - all/schema.ReservedShare },
		})
}

// IsDeclared reports whether a source is not one of the master's configuration. What is
// left of one that is gone counts as declared.
func IsDeclared(r state.Reader, source schema.SourceName) bool {
	src, ok := state.Source(r, source)
	return !ok || schema.SourceOf(src) != ""
}

// room is how much more an object's source may take of a bound on all sources, or as much
// as is needed; it may be less than nothing. What comes from no source is the cluster's
// own and has room.
func room(r state.Reader, obj schema.Object, most, need int64, of func(wire.Takes) int64) int64 {
	source := schema.BelongsTo(obj)
	if source == "" {
		return need
	}
	sum := int64(0)
	for _, takes := range r.Delivered() {
		sum += of(takes)
	}
	if sum+need <= most/schema.DeclaredShare {
		return need // whichever share it is: most clusters are far below
	}
	left := most
	for _, s := range SharesOf(source, IsDeclared(r, source)) {
		free := s.Most(most)
		for other, takes := range r.Delivered() {
			if s.Of(other, IsDeclared(r, other)) {
				free -= of(takes)
			}
		}
		left = min(left, free)
	}
	return left
}

// keptRoom is how many of the needed bytes of records more the nodes may keep for an
// object's source.
func keptRoom(r state.Reader, obj schema.Object, need int64) int64 {
	return room(r, obj, schema.MaxKeptBytes, need, func(t wire.Takes) int64 { return t.Kept })
}

// aheadRoom is the same for what is not needed to get on.
func aheadRoom(r state.Reader, obj schema.Object, need int64) int64 {
	return room(r, obj, schema.MaxKeptBytes/aheadPart, need, func(t wire.Takes) int64 { return t.Kept })
}

// toldRoom is how many of the needed bytes more nodes may be told of an object's source.
func toldRoom(r state.Reader, obj schema.Object, need int64) int64 {
	return room(r, obj, schema.MaxToldBytes, need, func(t wire.Takes) int64 { return t.Told })
}
