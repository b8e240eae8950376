package schema

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// KindDeployment is the kind of apps' Deployment.
const KindDeployment Kind = "Deployment"

var deploymentRow = Row{
	KindInfo: KindInfo{
		Kind: KindDeployment, Group: "apps", Version: "v1", Resource: "deployments", Singular: "deployment", Short: []string{"deploy"},
		Older: []Older{
			{"extensions/v1beta1", "write spec.selector, which was the template's labels by default, and leave out spec.rollbackTo; by default maxSurge and maxUnavailable were 1 and are 25%, and progressDeadlineSeconds was none and is 600"},
			{"apps/v1beta1", "write spec.selector, which was the template's labels by default, and leave out spec.rollbackTo; by default revisionHistoryLimit was 2 and is 10"},
			{"apps/v1beta2", ""},
		},
		Namespaced: true, Desired: true, All: true, New: func() Object { return &appsv1.Deployment{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{Do: []string{deploymentFields, below("spec.template.spec", podSpecFields)}},
	Defaults:   defaultsCell{Do: func(obj Object) { defaultDeployment(&obj.(*appsv1.Deployment).Spec) }},
	Judge:      judgeCell{Do: func(p *problems, obj Object) { p.deployment(&obj.(*appsv1.Deployment).Spec) }},
	Update:     updateCell{Do: updateDeployment},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{Do: podsOfDeployment},
	References: referencesCell{Do: referencesOf(podsOfDeployment)},
	Data:       dataCell{None: noData},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{Do: []Kind{KindReplicaSet}},
	Carry:      carryCell{Do: func(live, next Object) { next.(*appsv1.Deployment).Status = live.(*appsv1.Deployment).Status }},
	Memory:     memoryCell{Do: Memory{Lean: leanDeployment}},
	Whole:      wholeCell{Do: wholeDeployment},
}

const deploymentFields = `
		spec.replicas
		spec.selector
		spec.strategy
		spec.minReadySeconds
		spec.revisionHistoryLimit
		spec.progressDeadlineSeconds
		spec.paused = false
		spec.template.metadata.labels
		spec.template.metadata.annotations
		spec.template.metadata.name ~ pods are named after their Deployment
		spec.template.metadata.namespace ~ pods live in their Deployment's namespace
		spec.template.metadata.creationTimestamp -`

// podsOfDeployment are as many as it has replicas; its replica set holds the template
// once more.
func podsOfDeployment(obj Object) PodTemplate {
	spec := &obj.(*appsv1.Deployment).Spec
	return PodTemplate{
		Meta: &spec.Template.ObjectMeta, MetaField: "spec.template.metadata", Spec: &spec.Template.Spec, SpecField: "spec.template.spec",
		Count: countOf(spec.Replicas), CountField: "spec.replicas", Between: 1,
	}
}

func defaultDeployment(d *appsv1.DeploymentSpec) {
	setPointer(&d.Replicas, 1)
	setPointer(&d.RevisionHistoryLimit, 10)
	setPointer(&d.ProgressDeadlineSeconds, 600)
	setDefault(&d.Strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if d.Strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		setPointer(&d.Strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		setPointer(&d.Strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setPointer(&d.Strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
}

// maxRevisionHistory bounds the replica sets that a deployment keeps, each with the
// whole of its template: twice as many as there are revisions of a source to go back to.
const maxRevisionHistory = 100

func (p *problems) deployment(d *appsv1.DeploymentSpec) {
	within(p, "", "spec.replicas", int64(*d.Replicas), 0, maxInt32)
	within(p, "", "spec.minReadySeconds", int64(d.MinReadySeconds), 0, maxInt32)
	if limit := *d.RevisionHistoryLimit; limit < 0 || limit > maxRevisionHistory {
		p.hint("spec.revisionHistoryLimit", fmt.Sprintf("Fairlead keeps at most %d", maxRevisionHistory), "%d must be between 0 and %d", limit, maxRevisionHistory)
	}
	if *d.ProgressDeadlineSeconds <= d.MinReadySeconds {
		p.add("spec.progressDeadlineSeconds", "%d must be greater than minReadySeconds, which is %d", *d.ProgressDeadlineSeconds, d.MinReadySeconds)
	}
	p.deploymentSelector(d)
	p.strategy(&d.Strategy)
	if d.Template.Spec.ActiveDeadlineSeconds != nil {
		p.add("spec.template.spec.activeDeadlineSeconds", "must be left out: pods of a Deployment run until they are replaced")
	}
	if policy := d.Template.Spec.RestartPolicy; policy != corev1.RestartPolicyAlways {
		p.add("spec.template.spec.restartPolicy", "%q: pods of a Deployment always restart", string(policy))
	}
}

func (p *problems) deploymentSelector(d *appsv1.DeploymentSpec) {
	if d.Selector == nil || len(d.Selector.MatchLabels)+len(d.Selector.MatchExpressions) == 0 {
		p.hint("spec.selector", "write matchLabels with labels of the template", "must be set")
		return
	}
	before := len(*p)
	p.labelSelector("spec.selector", d.Selector)
	for _, key := range sortedKeys(d.Selector.MatchLabels) {
		want := d.Selector.MatchLabels[key]
		if got, ok := d.Template.Labels[key]; !ok {
			p.hint("spec.selector.matchLabels["+key+"]", "add it to the template's labels", "the template's labels have no %q", key)
			p.because("spec.template.metadata.labels[" + key + "]")
		} else if got != want {
			p.hint("spec.selector.matchLabels["+key+"]", "write the same in both", "the template's label %s is %q, not %q", key, got, want)
		}
	}
	if len(*p) == before && !SelectorMatches(d.Selector, d.Template.Labels) {
		p.hint("spec.selector.matchExpressions", "give the template labels that match", "the template's labels do not match")
		p.because("spec.template.metadata.labels")
	}
}

func (p *problems) strategy(s *appsv1.DeploymentStrategy) {
	oneOf(p, "", "spec.strategy.type", s.Type, appsv1.RollingUpdateDeploymentStrategyType, appsv1.RecreateDeploymentStrategyType)
	if s.RollingUpdate == nil {
		return
	}
	if s.Type != appsv1.RollingUpdateDeploymentStrategyType {
		p.add("spec.strategy.rollingUpdate", "has no meaning with type %s", s.Type)
		p.because("spec.strategy.type")
		return
	}
	surge, surgeOK := p.amount("spec.strategy.rollingUpdate.maxSurge", s.RollingUpdate.MaxSurge)
	unavailable, unavailableOK := p.amount("spec.strategy.rollingUpdate.maxUnavailable", s.RollingUpdate.MaxUnavailable)
	if !surgeOK || !unavailableOK {
		return
	}
	if surge == 0 && unavailable == 0 {
		p.add("spec.strategy.rollingUpdate.maxUnavailable", "must not be 0 when maxSurge is 0: no pod could ever be replaced")
	}
	if s.RollingUpdate.MaxUnavailable.Type == intstr.String && unavailable > 100 {
		p.add("spec.strategy.rollingUpdate.maxUnavailable", "%q is more than 100%%", s.RollingUpdate.MaxUnavailable.StrVal)
	}
}

func updateDeployment(p *problems, old, new Object) {
	p.unchanged("spec.selector", old, new, "delete the Deployment in one revision and add it in the next, or give it another name")
}

// leanDeployment is without the status, which is counted anew.
func leanDeployment(obj Object) Object {
	out := *obj.(*appsv1.Deployment)
	out.Status, out.ResourceVersion = appsv1.DeploymentStatus{}, ""
	return &out
}

func wholeDeployment(obj Object) bool {
	spec := &obj.(*appsv1.Deployment).Spec
	return spec.Replicas != nil && spec.Selector != nil && spec.RevisionHistoryLimit != nil && spec.ProgressDeadlineSeconds != nil && len(spec.Template.Spec.Containers) > 0
}
