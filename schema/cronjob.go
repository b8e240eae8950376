package schema

import (
	"strings"

	batchv1 "k8s.io/api/batch/v1"
)

// KindCronJob is the kind of batch's CronJob.
const KindCronJob Kind = "CronJob"

var cronJobRow = Row{
	KindInfo: KindInfo{
		Kind: KindCronJob, Group: "batch", Version: "v1", Resource: "cronjobs", Singular: "cronjob", Short: []string{"cj"},
		Older:      []Older{{"batch/v1beta1", ""}, {"batch/v2alpha1", ""}},
		Namespaced: true, Desired: true, All: true, New: func() Object { return &batchv1.CronJob{} },
	},
	Name: nameCell{Do: cronJobName},
	Supported: supportedCell{Do: []string{
		cronJobFields, below("spec.jobTemplate.spec", jobFields), below("spec.jobTemplate.spec.template.spec", podSpecFields),
	}},
	Defaults:   defaultsCell{Do: func(obj Object) { defaultCronJob(&obj.(*batchv1.CronJob).Spec) }},
	Judge:      judgeCell{Do: judgeCronJob},
	Update:     updateCell{None: anyUpdate},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{Do: podsOfCronJob},
	References: referencesCell{Do: referencesOf(podsOfCronJob)},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{Do: []Kind{KindJob}},
	Carry:      carryCell{Do: func(live, next Object) { next.(*batchv1.CronJob).Status = live.(*batchv1.CronJob).Status }},
	Memory:     memoryCell{Do: Memory{Lean: all}},
	Whole:      wholeCell{Do: wholeCronJob},
}

const cronJobFields = `
		spec.schedule
		spec.timeZone
		spec.startingDeadlineSeconds
		spec.concurrencyPolicy
		spec.suspend
		spec.successfulJobsHistoryLimit
		spec.failedJobsHistoryLimit
		spec.jobTemplate.metadata.labels
		spec.jobTemplate.metadata.annotations
		spec.jobTemplate.metadata.name ~ Jobs are named after their CronJob
		spec.jobTemplate.metadata.namespace ~ Jobs live in their CronJob's namespace
		spec.jobTemplate.metadata.creationTimestamp -`

// maxCronJobName leaves room for the time in the names of its Jobs.
const maxCronJobName = 52

func cronJobName(name string) []string { return subdomainOf(name, maxCronJobName) }

// podsOfCronJob are those of one run.
func podsOfCronJob(obj Object) PodTemplate {
	return podsOfJobSpec("spec.jobTemplate.spec", &obj.(*batchv1.CronJob).Spec.JobTemplate.Spec, 1)
}

func defaultCronJob(s *batchv1.CronJobSpec) {
	setDefault(&s.ConcurrencyPolicy, batchv1.AllowConcurrent)
	setPointer(&s.Suspend, false)
	setPointer(&s.SuccessfulJobsHistoryLimit, 3)
	setPointer(&s.FailedJobsHistoryLimit, 1)
}

func judgeCronJob(p *problems, obj Object) {
	s := &obj.(*batchv1.CronJob).Spec
	p.schedule(s)
	oneOf(p, "", "spec.concurrencyPolicy", s.ConcurrencyPolicy, batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)
	if s.StartingDeadlineSeconds != nil {
		within(p, "", "spec.startingDeadlineSeconds", *s.StartingDeadlineSeconds, 0, maxInt32)
	}
	within(p, "", "spec.successfulJobsHistoryLimit", int64(*s.SuccessfulJobsHistoryLimit), 0, maxInt32)
	within(p, "", "spec.failedJobsHistoryLimit", int64(*s.FailedJobsHistoryLimit), 0, maxInt32)
	p.labels("spec.jobTemplate.metadata.labels", s.JobTemplate.Labels)
	p.annotations("spec.jobTemplate.metadata.annotations", s.JobTemplate.Annotations)
	for _, key := range sortedKeys(s.JobTemplate.Annotations) {
		if strings.HasPrefix(key, Group+"/") {
			p.hint("spec.jobTemplate.metadata.annotations["+key+"]", "leave it out", "annotations of %s are the cluster's to write", Group)
		}
	}
	job := s.JobTemplate.Spec.DeepCopy()
	defaultJobSpec(job)
	p.jobSpec("spec.jobTemplate.spec", job)
}

func (p *problems) schedule(s *batchv1.CronJobSpec) {
	if s.Schedule == "" {
		p.hint("spec.schedule", `five fields, as in "0 3 * * *", or @hourly and the like`, "must be set")
		return
	}
	if s.TimeZone != nil {
		if _, err := timeZoneOf(*s.TimeZone); err != nil {
			p.hint("spec.timeZone", timeZoneHint(*s.TimeZone), "%v", err)
			return
		}
	}
	if _, err := ParseSchedule(s.Schedule, s.TimeZone); err != nil {
		p.hint("spec.schedule", `five fields, as in "0 3 * * *", or @hourly and the like`, "%q is not a schedule: %v", s.Schedule, err)
	}
}

func wholeCronJob(obj Object) bool {
	spec := &obj.(*batchv1.CronJob).Spec
	return spec.Schedule != "" && len(spec.JobTemplate.Spec.Template.Spec.Containers) > 0
}
