package control

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// The last run that was missed is found, also where the schedule pauses before now.
func TestTheLastMissedRunIsFound(t *testing.T) {
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 1, day, hour, minute, 0, 0, time.UTC) }
	for _, test := range []struct {
		name, schedule  string
		last, now, want time.Time
		many            bool
	}{
		{"nothing is due", "0 * * * *", at(5, 9, 0), at(5, 9, 59), time.Time{}, false},
		{"one", "0 * * * *", at(5, 9, 0), at(5, 10, 1), at(5, 10, 0), false},
		{"some", "0 * * * *", at(5, 9, 0), at(5, 13, 30), at(5, 13, 0), false},
		{"many", "* * * * *", at(5, 9, 0), at(5, 13, 30), at(5, 13, 30), true},
		{"over a weekend", "0 9-17 * * 1-5", at(9, 9, 0), at(10, 12, 0), at(9, 17, 0), false},
		{"of a month that is long over", "*/5 * 1 * *", at(1, 0, 0), at(28, 12, 0), at(1, 23, 55), true},
	} {
		schedule, err := schema.ParseSchedule(test.schedule, nil)
		if err != nil {
			t.Fatal(err)
		}
		cj := &batchv1.CronJob{Status: batchv1.CronJobStatus{LastScheduleTime: &metav1.Time{Time: test.last}}}
		got, many, err := lastDue(cj, test.now, schedule, true)
		if err != nil || !got.Equal(test.want) || many != test.many {
			t.Errorf("%s: got %v, many: %v, %v; want %v, many: %v", test.name, got, many, err, test.want, test.many)
		}
	}
}
