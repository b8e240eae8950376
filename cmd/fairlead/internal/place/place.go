// Package place says which of a cluster's sources a place in a clone belongs to, from the
// clone's remotes and the sources alone. The commands that are given a directory ask it.
package place

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"fairlead/schema"
)

// Place is a directory or file of a clone.
type Place struct {
	Below string   // the top of the work tree, slash-separated; "" for the top itself
	URLs  []string // of the clone's remotes
}

// IsOf reports whether one of the clone's remotes is a source's repository.
func (p Place) IsOf(src *schema.Source) bool {
	return slices.ContainsFunc(p.URLs, func(remote string) bool { return followsRemote(src, remote) })
}

// followsRemote reports whether a source follows the repository that a clone has as a
// remote. One may be reached in several ways: scheme, user, port and the suffix .git
// do not tell repositories apart. An embedded one is known by how its path ends.
func followsRemote(src *schema.Source, remote string) bool {
	its, _ := schema.ParseRemote(remote) // what it refuses as a Source's is taken apart all the same
	place := repositoryPath(its)
	if src.Spec.Embedded {
		return place == "git/"+src.Name || strings.HasSuffix(place, "/git/"+src.Name)
	}
	mine, err := schema.ParseRemote(src.Spec.URL)
	return err == nil && place != "" && hostOf(mine) == hostOf(its) && strings.EqualFold(repositoryPath(mine), place)
}

func repositoryPath(r schema.Remote) string {
	return strings.TrimSuffix(strings.Trim(path.Clean("/"+r.Path), "/"), ".git")
}

func hostOf(r schema.Remote) string { return (&url.URL{Host: r.Host}).Hostname() }

// SourceOf is the one of the cluster's sources that the place belongs to, nil for none.
// Of several with the same repository it is the one whose path is nearest.
func (p Place) SourceOf(sources []*schema.Source) (*schema.Source, error) {
	var found []*schema.Source
	for _, src := range sources {
		if p.IsOf(src) {
			found = append(found, src)
		}
	}
	if len(found) > 1 {
		found = nearest(found, p.Below)
	}
	if len(found) > 1 {
		var names []string
		for _, src := range found {
			names = append(names, src.Name)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("sources %s follow this repository: name the one that is meant with --source", joinAnd(names))
	}
	if len(found) == 0 {
		return nil, nil
	}
	return found[0], nil
}

// nearest are the sources whose path holds a place, those with the longest path; if
// none does, all.
func nearest(sources []*schema.Source, below string) []*schema.Source {
	longest := -1
	var out []*schema.Source
	for _, src := range sources {
		p := SourcePath(src.Spec)
		if !Holds(p, below) || len(p) < longest {
			continue
		}
		if len(p) > longest {
			longest, out = len(p), nil
		}
		out = append(out, src)
	}
	if out == nil {
		return sources
	}
	return out
}

func joinAnd(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// SourcePath is a source's path as a prefix of names: "" for the whole repository.
func SourcePath(spec schema.SourceSpec) string {
	if p := path.Clean(spec.Path); p != "." {
		return p
	}
	return ""
}

// Holds reports whether a directory of the repository is a place or above it.
func Holds(dir, place string) bool {
	return dir == "" || place == dir || strings.HasPrefix(place, dir+"/")
}
