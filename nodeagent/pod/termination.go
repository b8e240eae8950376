package pod

import (
	"slices"
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
)

// Bounds of what containers leave to be said of their end, Kubernetes' own.
const (
	MessageBytes    = 4 << 10  // of a container's file: its last ones
	MessageLogLines = 80       // of its log, where the policy falls back to it
	MessageLogBytes = 2 << 10  // of those lines: the last ones
	messagesBytes   = 12 << 10 // of all containers of a pod, in equal parts
)

// MessageFromLog reports whether the end of a container's log is its message when its
// file has none.
func MessageFromLog(c *corev1.Container, exitCode int32) bool {
	return exitCode != 0 && c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError
}

// TerminationMessage is what a container wrote as text: the runes of which a bound
// left only a part are left out, bytes that are none are replaced.
func TerminationMessage(data []byte) string {
	for len(data) > 0 && !utf8.RuneStart(data[0]) {
		data = data[1:]
	}
	return cut(strings.ToValidUTF8(string(data), "\uFFFD"), MessageBytes)
}

// cut is the beginning of s, at most n bytes of whole runes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// boundMessages keeps what the containers of a pod say within what a pod may say.
func boundMessages(s *corev1.PodStatus) {
	each := messagesBytes / max(1, len(s.InitContainerStatuses)+len(s.ContainerStatuses))
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses} {
		for i := range list {
			list[i].State.Terminated = bounded(list[i].State.Terminated, each)
			list[i].LastTerminationState.Terminated = bounded(list[i].LastTerminationState.Terminated, each)
		}
	}
}

// bounded is t, or a copy of it that says less: t may be the record's.
func bounded(t *corev1.ContainerStateTerminated, n int) *corev1.ContainerStateTerminated {
	if t == nil || len(t.Message) <= n {
		return t
	}
	out := *t
	out.Message = cut(t.Message, n)
	return &out
}

// nonEmpty joins what there is to say.
func nonEmpty(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}
