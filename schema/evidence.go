package schema

import (
	"slices"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Evidence is what one container of a pod, or the pod as a whole, showed of why it
// does not work. A Revision keeps it when the pod and its log are gone.
type Evidence struct {
	Pod       string         `json:"pod"`                 // "namespace/name"
	Workload  string         `json:"workload"`            // what the pod is of: "Deployment shop/api"
	Node      NodeName       `json:"node,omitempty"`      //
	Also      []NodeName     `json:"also,omitempty"`      // other nodes with pods of the workload that showed the same when the revision failed
	Container string         `json:"container,omitempty"` // "" when it is the whole pod
	Code      string         `json:"code"`                // of the cause, as the condition Healthy has it
	Reason    string         `json:"reason"`              // one sentence
	Exit      *EvidenceExit  `json:"exit,omitempty"`      // how the container ended at last, if it did
	Probe     *EvidenceProbe `json:"probe,omitempty"`     // which probe failed at last, if one did
	At        metav1.Time    `json:"at"`                  // when it was seen first
	Log       []string       `json:"log,omitempty"`       // the container's last lines, as Printable shows them
}

// EvidenceExit is how a container ended.
type EvidenceExit struct {
	Code    int32  `json:"code"`
	Signal  string `json:"signal,omitempty"`  // SIGSEGV, where the code is of one
	Reason  string `json:"reason,omitempty"`  // OOMKilled, Error, ...
	Message string `json:"message,omitempty"` // its own, or what is known of the end
}

// EvidenceProbe is a probe and the answer that it got.
type EvidenceProbe struct {
	Kind   string `json:"kind"`   // startup, liveness or readiness
	Answer string `json:"answer"` // status and start of the body, error, output of the command
}

// Bounds on evidence. A failed revision is looked at by people, and every node keeps a
// copy of it: what tells the cause is in the first pods and the last lines.
const (
	MaxEvidence      = 10
	MaxEvidenceLines = 50
	// MaxEvidenceNodes bounds Evidence.Also: what shows on so many nodes is no node's fault.
	MaxEvidenceNodes = 10
	// MaxEvidenceLine bounds one line of a log, in bytes.
	MaxEvidenceLine = 400
	// MaxEvidenceLog bounds the lines of one container, in bytes of JSON: what an agent
	// sends.
	MaxEvidenceLog = 8 << 10
	// MaxEvidenceBytes bounds all that one revision keeps of texts, in bytes of JSON: with
	// all else that it may have it must fit into one record.
	MaxEvidenceBytes = 24 << 10
	// maxEvidenceText bounds a reason, a message or an answer.
	maxEvidenceText = 512
)

// Namespace is that of the pod.
func (e Evidence) Namespace() string {
	namespace, _, _ := strings.Cut(e.Pod, "/")
	return namespace
}

// PodName is the pod's name in its namespace.
func (e Evidence) PodName() string {
	_, name, _ := strings.Cut(e.Pod, "/")
	return name
}

// LogTail are the last lines of a container's output, as many and as long as evidence
// may have. Output may be anything: one line without an end, or no text at all.
func LogTail(output []byte) []string {
	const most = 4 * MaxEvidenceLog // what is shown escaped is longer, never shorter
	if over := len(output) - most; over > 0 {
		output = output[over:]
		for len(output) > 0 && !utf8.RuneStart(output[0]) {
			output = output[1:]
		}
	}
	return FitLog(strings.Split(strings.TrimRight(string(output), "\r\n"), "\n"), MaxEvidenceLog)
}

// FitLog are the last of the lines, each as a terminal may show it, within the bounds
// of evidence and of so many bytes. Nil where nothing was said.
func FitLog(lines []string, most int) []string {
	var out []string
	size := 0
	for i := len(lines) - 1; i >= 0 && len(out) < MaxEvidenceLines; i-- {
		line := strings.TrimRight(lines[i], "\r\n")
		line = line[:min(len(line), MaxEvidenceLine+utf8.UTFMax)] // what is cut through is cut off below
		line = FitText(Printable(strings.ReplaceAll(line, "\t", "    ")), MaxEvidenceLine)
		if size += jsonBytes(line); size > most {
			break
		}
		out = append(out, line)
	}
	slices.Reverse(out)
	if slices.IndexFunc(out, func(l string) bool { return strings.TrimSpace(l) != "" }) < 0 {
		return nil
	}
	return out
}

// FitEvidence is the evidence within its bounds: of logs that are too long together,
// the oldest lines of the longest go first.
func FitEvidence(all []Evidence) []Evidence {
	out := slices.Clone(all[:min(len(all), MaxEvidence)])
	left := MaxEvidenceBytes
	for i := range out {
		e := &out[i]
		e.fitTexts()
		left -= e.textBytes()
	}
	shareLogs(out, max(0, left))
	return out
}

// textBytes is what the texts take, without the log.
func (e *Evidence) textBytes() (n int) {
	for _, text := range []string{e.Pod, e.Workload, string(e.Node), e.Container, e.Code, e.Reason} {
		n += jsonBytes(text)
	}
	for _, node := range e.Also {
		n += jsonBytes(string(node))
	}
	if e.Exit != nil {
		n += jsonBytes(e.Exit.Signal) + jsonBytes(e.Exit.Reason) + jsonBytes(e.Exit.Message)
	}
	if e.Probe != nil {
		n += jsonBytes(e.Probe.Kind) + jsonBytes(e.Probe.Answer)
	}
	return n
}

// fitTexts makes every text of e one that can be kept and shown. What e points to is
// shared with others and is replaced, not changed.
func (e *Evidence) fitTexts() {
	fit := func(s string) string { return FitText(Printable(s), maxEvidenceText) }
	e.Pod, e.Workload, e.Container, e.Code, e.Reason = fit(e.Pod), fit(e.Workload), fit(e.Container), fit(e.Code), fit(e.Reason)
	if e.Exit != nil {
		e.Exit = &EvidenceExit{e.Exit.Code, fit(e.Exit.Signal), fit(e.Exit.Reason), fit(e.Exit.Message)}
	}
	if e.Probe != nil {
		e.Probe = &EvidenceProbe{fit(e.Probe.Kind), fit(e.Probe.Answer)}
	}
}

// shareLogs cuts the logs so that together they have at most so many bytes: short ones
// stay whole, and long ones have equal shares.
func shareLogs(all []Evidence, most int) {
	order := make([]int, len(all))
	for i := range all {
		order[i] = i
		all[i].Log = FitLog(all[i].Log, MaxEvidenceLog)
	}
	slices.SortStableFunc(order, func(a, b int) int { return logBytes(all[a].Log) - logBytes(all[b].Log) })
	for n, i := range order {
		all[i].Log = FitLog(all[i].Log, most/(len(order)-n))
		most -= logBytes(all[i].Log)
	}
}

func logBytes(lines []string) (n int) {
	for _, l := range lines {
		n += jsonBytes(l)
	}
	return n
}

// jsonBytes is the length of a text as encoding/json writes it, with its quotes and the
// comma behind it.
func jsonBytes(s string) int {
	n := len(s) + len(`"",`)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\':
			n++
		case c < ' ', c == '<', c == '>', c == '&':
			n += len(`\u003c`) - 1
		}
	}
	return n
}
