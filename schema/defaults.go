package schema

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Default fills in, in place, what Kubernetes' defaults say about fields left
// out, merges stringData and normalises image names. It is idempotent; kinds
// without defaults are left as they are.
func Default(obj Object) {
	switch o := obj.(type) {
	case *corev1.Namespace:
		defaultNamespace(o)
	case *corev1.Secret:
		defaultSecret(o)
	case *corev1.Service:
		defaultService(&o.Spec)
	case *corev1.Pod:
		defaultPodSpec(&o.Spec)
	case *appsv1.Deployment:
		defaultDeployment(&o.Spec)
	case *Source:
		o.Spec = DefaultSourceSpec(o.Spec)
	}
}

// DefaultProgressDeadline is how long a workload may go without progress before its
// revision has failed, where neither it nor its source says.
const DefaultProgressDeadline = 600 * time.Second

// AddLaterDefaults fills in, in place, what Default of earlier versions left out of an
// object that one of them stored. Without, every stored template would differ from the
// same one in Git, and be rolled out again. What was never defaulted stays as it is.
func AddLaterDefaults(obj Object) {
	var p *corev1.PodSpec
	switch o := obj.(type) {
	case *corev1.Pod:
		p = &o.Spec
	case *appsv1.Deployment:
		p = &o.Spec.Template.Spec
	case *appsv1.ReplicaSet:
		p = &o.Spec.Template.Spec
	}
	if p != nil && p.EnableServiceLinks != nil {
		setPointer(&p.SecurityContext, corev1.PodSecurityContext{})
	}
}

// DefaultHealthyFor is how long a revision must have run well before a source goes
// back to it: longer than a program that ends soon takes to end for the second time.
const DefaultHealthyFor = 60 * time.Second

// DefaultSourceSpec returns spec with every empty field at its default.
func DefaultSourceSpec(spec SourceSpec) SourceSpec {
	setDefault(&spec.Branch, "main")
	setDefault(&spec.Path, ".")
	setDefault(&spec.Namespace, "default")
	setDefault(&spec.Unsupported, "error")
	setDefault(&spec.OnFailure, "rollback")
	setDefault(&spec.PruneLimit, "50%")
	setDefault(&spec.PodSecurity, BaselineLevel)
	setPointer(&spec.Interval, metav1.Duration{Duration: 30 * time.Second})
	setPointer(&spec.ProgressDeadline, metav1.Duration{Duration: DefaultProgressDeadline})
	setPointer(&spec.HealthyFor, metav1.Duration{Duration: DefaultHealthyFor})
	return spec
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func setPointer[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

func defaultNamespace(ns *corev1.Namespace) {
	if ns.Labels == nil {
		ns.Labels = make(map[string]string, 1)
	}
	ns.Labels[corev1.LabelMetadataName] = ns.Name
}

func defaultSecret(s *corev1.Secret) {
	setDefault(&s.Type, corev1.SecretTypeOpaque)
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, value := range s.StringData {
		s.Data[key] = []byte(value)
	}
	s.StringData = nil
}

func defaultService(s *corev1.ServiceSpec) {
	setDefault(&s.Type, corev1.ServiceTypeClusterIP)
	setDefault(&s.SessionAffinity, corev1.ServiceAffinityNone)
	setPointer(&s.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	if s.Type == corev1.ServiceTypeNodePort {
		setDefault(&s.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	if s.ClusterIP == "" && len(s.ClusterIPs) > 0 {
		s.ClusterIP = s.ClusterIPs[0]
	}
	for i := range s.Ports {
		port := &s.Ports[i]
		setDefault(&port.Protocol, corev1.ProtocolTCP)
		if port.TargetPort == (intstr.IntOrString{}) || port.TargetPort == intstr.FromString("") {
			port.TargetPort = intstr.FromInt32(port.Port)
		}
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
	defaultPodSpec(&d.Template.Spec)
}

func defaultPodSpec(p *corev1.PodSpec) {
	setDefault(&p.RestartPolicy, corev1.RestartPolicyAlways)
	setDefault(&p.DNSPolicy, corev1.DNSClusterFirst)
	setDefault(&p.SchedulerName, corev1.DefaultSchedulerName)
	setPointer(&p.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	setPointer(&p.EnableServiceLinks, corev1.DefaultEnableServiceLinks)
	setPointer(&p.SecurityContext, corev1.PodSecurityContext{})
	for i := range p.Volumes {
		defaultVolume(&p.Volumes[i])
	}
	for i := range p.InitContainers {
		defaultContainer(&p.InitContainers[i])
	}
	for i := range p.Containers {
		defaultContainer(&p.Containers[i])
	}
}

func defaultVolume(v *corev1.Volume) {
	if v.VolumeSource == (corev1.VolumeSource{}) {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	switch {
	case v.ConfigMap != nil:
		setPointer(&v.ConfigMap.DefaultMode, corev1.ConfigMapVolumeSourceDefaultMode)
	case v.Secret != nil:
		setPointer(&v.Secret.DefaultMode, corev1.SecretVolumeSourceDefaultMode)
	case v.Projected != nil:
		setPointer(&v.Projected.DefaultMode, corev1.ProjectedVolumeSourceDefaultMode)
	case v.HostPath != nil:
		setPointer(&v.HostPath.Type, corev1.HostPathUnset)
	}
}

func defaultContainer(c *corev1.Container) {
	if image, err := NormalizeImage(c.Image); err == nil {
		c.Image = image
	}
	if c.ImagePullPolicy == "" {
		c.ImagePullPolicy = corev1.PullIfNotPresent
		if imageIsLatest(c.Image) {
			c.ImagePullPolicy = corev1.PullAlways
		}
	}
	setDefault(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
	setDefault(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
	for i := range c.Ports {
		setDefault(&c.Ports[i].Protocol, corev1.ProtocolTCP)
	}
	for i := range c.Env {
		if from := c.Env[i].ValueFrom; from != nil && from.FieldRef != nil {
			setDefault(&from.FieldRef.APIVersion, "v1")
		}
	}
	defaultRequests(&c.Resources)
	defaultProbe(c.ReadinessProbe)
	defaultProbe(c.LivenessProbe)
	defaultProbe(c.StartupProbe)
}

// defaultRequests takes requests left out from the limits. Kubernetes keeps a
// thousandth as the finest step of both.
func defaultRequests(r *corev1.ResourceRequirements) {
	roundUp(r.Limits)
	roundUp(r.Requests)
	for name, limit := range r.Limits {
		if _, ok := r.Requests[name]; ok {
			continue
		}
		if r.Requests == nil {
			r.Requests = make(corev1.ResourceList, len(r.Limits))
		}
		r.Requests[name] = limit.DeepCopy()
	}
}

func roundUp(list corev1.ResourceList) {
	for name, quantity := range list {
		if quantity.RoundUp(resource.Milli) {
			continue
		}
		list[name] = quantity
	}
}

func defaultProbe(p *corev1.Probe) {
	if p == nil {
		return
	}
	setDefault(&p.TimeoutSeconds, 1)
	setDefault(&p.PeriodSeconds, 10)
	setDefault(&p.SuccessThreshold, 1)
	setDefault(&p.FailureThreshold, 3)
	if p.HTTPGet != nil {
		setDefault(&p.HTTPGet.Path, "/")
		setDefault(&p.HTTPGet.Scheme, corev1.URISchemeHTTP)
	}
}
