package main

import (
	"context"
	"slices"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/reconciler"
	"fairlead/reconciler/settle"
	"fairlead/reconciler/state"
	"fairlead/schema"
	"fairlead/schema/load"
)

// surroundings is what a cluster has beside a source's tree, by which the tree is judged
// too. nil is for a tree that is judged alone. One goroutine at a time may use it.
type surroundings struct {
	source  schema.SourceName
	kinds   []schema.Kind // of which the cluster has all
	cluster state.Reader
	get     func(schema.Key) (schema.Object, error)

	got    map[schema.Key]schema.Object // what was answered; nil for one that does not exist
	failed error                        // of the first object that could not be asked for; no other is then
}

// surroundingKinds are read whole: those that declare a namespace, claim an address or say
// what others may ask for.
func surroundingKinds() (out []schema.Kind) {
	for _, info := range schema.Kinds() {
		if row := schema.Of(info.Kind); row != nil && (row.Declares.Do != nil || row.Claims.Do != nil || row.Rights.Do != nil) {
			out = append(out, info.Kind)
		}
	}
	return out
}

// readSurroundings asks for them; single objects are asked for later, under the context
// that outlives this call.
func readSurroundings(ctx, later context.Context, c *client.Client, source schema.SourceName) (*surroundings, error) {
	kinds := surroundingKinds()
	cluster, err := readCluster(ctx, c, "", kinds...)
	if err != nil {
		return nil, err
	}
	get := func(key schema.Key) (schema.Object, error) {
		ctx, cancel := context.WithTimeout(later, askTimeout)
		defer cancel()
		return client.Get[schema.Object](ctx, c, key.Kind, key.Namespace, key.Name)
	}
	return &surroundings{source: source, kinds: kinds, cluster: cluster, get: get, got: map[schema.Key]schema.Object{}}, nil
}

// options judge a tree as the master does.
func (s *surroundings) options() load.Options {
	if s == nil {
		return load.Options{}
	}
	rights := settle.EffectiveRights(s.cluster, s.source)
	return load.Options{
		Source: s.source, Rights: &rights, KnownNamespaces: reconciler.NamespacesOutside(s.cluster, s.source),
		Known: s.known, Unasked: s.isUnasked, Holder: reconciler.HolderOutside(s.cluster, s.source),
	}
}

// known is an object of another source, nil where there is none or it cannot be asked for.
func (s *surroundings) known(key schema.Key) schema.Object {
	if slices.Contains(s.kinds, key.Kind) {
		return reconciler.KnownOutside(s.cluster, s.source)(key)
	}
	obj, ok := s.got[key]
	if !ok && s.failed == nil {
		obj = s.ask(key)
	}
	if obj == nil || schema.SourceOf(obj) == s.source {
		return nil
	}
	return obj
}

// ask is an object that was not asked for before, nil where there is none or there is no
// answer.
func (s *surroundings) ask(key schema.Key) schema.Object {
	obj, err := s.get(key)
	switch {
	case client.NotFound(err):
		obj = nil
	case err != nil:
		s.failed = err
		return nil
	}
	s.got[key] = obj
	return obj
}

// isUnasked reports whether it is not known if another source has an object: the cluster
// did not answer.
func (s *surroundings) isUnasked(key schema.Key) bool {
	if slices.Contains(s.kinds, key.Kind) {
		return false
	}
	_, ok := s.got[key]
	return !ok
}

// unasked is why something could not be asked for.
func (s *surroundings) unasked() error {
	if s == nil {
		return nil
	}
	return s.failed
}
