package schema

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"fairlead/schema/timezone"
)

// Schedule tells when something is due again and again.
type Schedule interface {
	// Next is the first time after t, zero where there is none within five years.
	Next(t time.Time) time.Time
}

// ParseSchedule reads a CronJob's schedule: five fields, or @hourly and the like, in
// that time zone; nil is UTC.
func ParseSchedule(text string, timeZone *string) (Schedule, error) {
	if strings.Contains(text, "TZ") {
		return nil, fmt.Errorf("cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
	}
	zone := time.UTC
	if timeZone != nil {
		var err error
		if zone, err = timeZoneOf(*timeZone); err != nil {
			return nil, err
		}
	}
	s, err := cron.ParseStandard(text)
	if err != nil {
		return nil, err
	}
	return zoned{s, zone}, nil
}

// zoned is a schedule by the clocks of a time zone.
type zoned struct {
	cron.Schedule
	zone *time.Location
}

// Next gives the parser, whose schedules keep the time zone they are asked in, ours.
func (z zoned) Next(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return z.Schedule.Next(t.In(z.zone))
}

// timeZoneOf is the time zone of a name in the program's own database.
func timeZoneOf(name string) (*time.Location, error) {
	switch {
	case name == "":
		return nil, fmt.Errorf("must not be empty: leave it out for UTC, or name one, as Europe/Vienna")
	case strings.EqualFold(name, "Local"):
		return nil, fmt.Errorf("%q is that of the machine: name one of https://www.iana.org/time-zones", name)
	}
	zone, ok := timezone.Load(name)
	if !ok {
		return nil, fmt.Errorf("unknown time zone %s", name)
	}
	return zone, nil
}

// leapSeconds begins the names of time zones, in the databases of some machines, that are
// off from all other clocks by the leap seconds there were.
const leapSeconds = "right/"

// timeZoneHint tells what to write instead of the name of a time zone that is not known.
func timeZoneHint(name string) string {
	if name == "" || strings.EqualFold(name, "Local") {
		return "" // which is told with it
	}
	name = strings.TrimPrefix(name, leapSeconds)
	if best := Nearest(name, timezone.Names()); best != "" && editDistance(name, best, 2) < 2 { // many cities differ in two letters
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "name one of https://www.iana.org/time-zones, as Europe/Vienna"
}
