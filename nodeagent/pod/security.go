package pod

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// AsksOfImage reports whether whom a container's image runs as decides how, or whether,
// it is started.
func AsksOfImage(pod *corev1.Pod, c *corev1.Container) bool {
	user, group, nonRoot := schema.RunsAs(pod.Spec.SecurityContext, c.SecurityContext)
	return user == nil && (group != nil || nonRoot)
}

// security is what a container may do, and as whom. The error is an UnusableError where
// only the manifest, or the image, can correct it.
func security(pod *corev1.Pod, c *corev1.Container, f Frame) (Security, error) {
	ps, cs := pod.Spec.SecurityContext, c.SecurityContext
	if ps == nil {
		ps = &corev1.PodSecurityContext{}
	}
	if cs == nil {
		cs = &corev1.SecurityContext{}
	}
	user, err := runsAs(ps, cs, f.ImageUser)
	if err != nil {
		return Security{}, err
	}
	profile, err := seccomp(or(cs.SeccompProfile, ps.SeccompProfile), f.Profiles)
	if err != nil {
		return Security{}, err
	}
	s := Security{
		User: user, Privileged: isTrue(cs.Privileged), ReadOnlyRoot: isTrue(cs.ReadOnlyRootFilesystem),
		NoNewPrivileges: cs.AllowPrivilegeEscalation != nil && !*cs.AllowPrivilegeEscalation,
		Seccomp:         profile,
	}
	for _, g := range ps.SupplementalGroups {
		s.Groups = append(s.Groups, strconv.FormatInt(g, 10))
	}
	if ps.FSGroup != nil {
		s.Groups = append(s.Groups, strconv.FormatInt(*ps.FSGroup, 10))
	}
	if cs.Capabilities != nil {
		s.CapAdd, s.CapDrop = capabilities(cs.Capabilities)
	}
	if s.Privileged {
		s.Seccomp = Unconfined // whatever is written, as in Kubernetes
	}
	return s, nil
}

// runsAs is the user of a container, "" for its image's. Where it must not be root and
// takes the image's, that has to be a number: names are in the image alone
// (https://kubernetes.io/docs/tasks/configure-pod-container/security-context/).
func runsAs(ps *corev1.PodSecurityContext, cs *corev1.SecurityContext, image string) (string, error) {
	user, group, nonRoot := schema.RunsAs(ps, cs)
	of, _, _ := strings.Cut(image, ":")
	if user != nil {
		of = strconv.FormatInt(*user, 10)
	}
	if nonRoot {
		id, err := strconv.ParseUint(of, 10, 32)
		switch {
		case of == "" || err == nil && id == 0:
			return "", UnusableError("it would run as root, and runAsNonRoot is true: name a runAsUser that is not 0")
		case err != nil:
			return "", UnusableError(fmt.Sprintf("its image runs as %q, which may be root, and runAsNonRoot is true: name the user's number in runAsUser", of))
		}
	}
	switch {
	case group != nil && of == "":
		return fmt.Sprintf("0:%d", *group), nil
	case group != nil:
		return fmt.Sprintf("%s:%d", of, *group), nil
	case user != nil:
		return of, nil
	}
	return "", nil
}

// capabilities are those to add and to drop so that none is in both: what is dropped by
// name is not had, what is added by name is had though all are dropped.
func capabilities(c *corev1.Capabilities) (add, drop []string) {
	for _, d := range c.Drop {
		drop = append(drop, schema.CapabilityName(d))
	}
	for _, a := range c.Add {
		if name := schema.CapabilityName(a); !slices.Contains(drop, name) {
			add = append(add, name)
		}
	}
	if slices.Contains(drop, schema.AllCapabilities) {
		drop = []string{schema.AllCapabilities}
	}
	return add, drop
}

// seccomp is the profile that Security has. One of a file is below the node's directory:
// its name has no "..". What is not known is not taken for less.
func seccomp(p *corev1.SeccompProfile, profiles string) (string, error) {
	switch {
	case p == nil:
		return "", nil
	case p.Type == corev1.SeccompProfileTypeRuntimeDefault:
		return RuntimeDefault, nil
	case p.Type == corev1.SeccompProfileTypeUnconfined:
		return Unconfined, nil
	case p.Type == corev1.SeccompProfileTypeLocalhost && p.LocalhostProfile != nil && *p.LocalhostProfile != "":
		return filepath.Join(profiles, filepath.Join("/", *p.LocalhostProfile)), nil
	}
	return "", UnusableError(fmt.Sprintf("seccompProfile of type %q is not supported", p.Type))
}

func or[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}
