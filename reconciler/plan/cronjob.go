package plan

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"fairlead/reconciler/settle"
	"fairlead/schema"
)

var cronJobRow = row{
	kind:    schema.KindCronJob,
	count:   countCell{None: "its Jobs make the pods, when their time comes"},
	current: currentCell{None: "a Job that was made stays as it was made"},
	report:  reportCell{None: "its Jobs make the pods"},
}

// tellNextRuns tells when each CronJob that comes or changes runs next: in a plan no
// time passes for it.
func (p *Plan) tellNextRuns(f *fork) {
	for i := range p.Objects {
		o := &p.Objects[i]
		cj, ok := f.tx.Get(o.key()).(*batchv1.CronJob)
		if !ok || o.Action == settle.Prune {
			continue
		}
		schedule, err := schema.ParseSchedule(cj.Spec.Schedule, cj.Spec.TimeZone)
		switch {
		case err != nil:
		case cj.Spec.Suspend != nil && *cj.Spec.Suspend:
			p.note("%s is suspended and does not run", o.name())
		default:
			if next := schedule.Next(f.now.UTC()); next.IsZero() {
				p.note("%s never runs: its schedule %q has no time within five years", o.name(), cj.Spec.Schedule)
			} else {
				p.note("%s runs next at %s", o.name(), next.Format(time.RFC3339))
			}
		}
	}
}
