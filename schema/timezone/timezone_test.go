package timezone

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A host with a database of its own, or none, changes nothing: what a name means is the
// program's own.
func TestTimeZonesAreTheProgramsOwn(t *testing.T) {
	t.Setenv("ZONEINFO", t.TempDir())
	for name, want := range map[string]string{
		"UTC": "2026-07-01T12:00:00Z", "Europe/Vienna": "2026-07-01T14:00:00+02:00", "Asia/Kathmandu": "2026-07-01T17:45:00+05:45", "US/Pacific": "2026-07-01T05:00:00-07:00",
		"posix/Europe/Vienna": "2026-07-01T14:00:00+02:00", "posix/UTC": "2026-07-01T12:00:00Z",
	} {
		zone, ok := Load(name)
		if !ok {
			t.Errorf("%s is not known", name)
			continue
		}
		if got := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).In(zone).Format(time.RFC3339); got != want || zone.String() != strings.TrimPrefix(name, "posix/") {
			t.Errorf("%s: got %s in %s, want %s", name, got, zone, want)
		}
	}
	for _, name := range []string{"", "Local", "localtime", "posixrules", "right/Europe/Vienna", "posix", "posix/", "posix/posix/UTC", "posix/../UTC", "posix/Mars/Olympus", "Europe", "Europe/", "europe/vienna", "../UTC", "/etc/localtime", "Mars/Olympus"} {
		if zone, ok := Load(name); ok {
			t.Errorf("%q is taken for the time zone %v", name, zone)
		}
	}
}

// Every time zone of the database can be read.
func TestTheDatabaseIsWhole(t *testing.T) {
	n := 0
	for name, f := range files() {
		if f.FileInfo().IsDir() {
			continue
		}
		if n++; f.UncompressedSize64 == 0 {
			t.Errorf("%s is empty", name)
		}
		if _, ok := Load(name); !ok {
			t.Errorf("%s cannot be read", name)
		}
	}
	if n < 400 || len(Names()) != n || !slices.IsSorted(Names()) {
		t.Errorf("there are %d time zones, and %d names", n, len(Names()))
	}
}
