// Package timezone knows the world's time zones from a database that the program has
// with it: whatever a host has, and wherever a decision is made again, a schedule falls
// on the same instants.
package timezone

import (
	"archive/zip"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// database is lib/time/zoneinfo.zip of Go's distribution: IANA's time zone database,
// which is in the public domain. `just timezones` takes over a newer one.
//
//go:embed zoneinfo.zip
var database string

// files are those of the database by name.
var files = sync.OnceValue(func() map[string]*zip.File {
	r, err := zip.NewReader(strings.NewReader(database), int64(len(database)))
	if err != nil {
		panic(fmt.Sprintf("timezone: the database that the program was built with: %v", err))
	}
	out := map[string]*zip.File{}
	for _, f := range r.File {
		out[f.Name] = f
	}
	return out
})

// posix begins the names of the same time zones in the databases of some machines, which
// have others beside them that count leap seconds.
const posix = "posix/"

// Load is the time zone of that name, as Europe/Vienna or posix/Europe/Vienna; false where
// there is none.
func Load(name string) (zone *time.Location, ok bool) {
	f := files()[strings.TrimPrefix(name, posix)]
	if f == nil || f.FileInfo().IsDir() {
		return nil, false
	}
	zone, err := read(f)
	if err != nil {
		panic(fmt.Sprintf("timezone: %s in the database that the program was built with: %v", name, err))
	}
	return zone, true
}

// Names are those of all time zones, sorted.
func Names() (names []string) {
	for name, f := range files() {
		if !f.FileInfo().IsDir() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func read(f *zip.File) (*time.Location, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return time.LoadLocationFromTZData(f.Name, data)
}
