package control

import (
	"encoding/json"
	"math"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"fairlead/schema"
)

// jobLedger is what a Job remembers of the pods it made, on itself, so that each is
// counted once whatever is lost: a pod knows its number, and the Job the numbers that
// it has counted. A number that is neither counted nor any pod's was a pod that went
// without telling how it ended.
type jobLedger struct {
	Made    int    `json:"made,omitempty"`    // pods so far, and the number of the next
	Counted string `json:"counted,omitempty"` // the numbers that are through, as spans
	// Failures are the pods in a row that failed since the last success, and FailedAt
	// the Unix time of the last one: the back-off is counted from them.
	Failures int   `json:"failures,omitempty"`
	FailedAt int64 `json:"failedAt,omitempty"`
	// Indexes are those that have failed and are tried again, with backoffLimitPerIndex.
	Indexes map[int]indexFailures `json:"indexes,omitempty"`
	Ignored int                   `json:"ignored,omitempty"` // failures that the pod failure policy ignores
}

// indexFailures is Failures and FailedAt of one index.
type indexFailures struct {
	Failures int   `json:"n"`
	FailedAt int64 `json:"at"`
}

func ledgerOf(job *batchv1.Job) (l jobLedger) {
	_ = json.Unmarshal([]byte(job.Annotations[schema.AnnotationLedger]), &l) // one that is not ours says nothing
	return l
}

func (l jobLedger) String() string {
	text, err := json.Marshal(l)
	if err != nil {
		panic("control: ledger of a Job: " + err.Error()) // it holds numbers only
	}
	return string(text)
}

// Kubernetes' back-off between the replacements of failed pods.
const (
	jobBackoffFirst = 10 * time.Second
	jobBackoffMost  = 10 * time.Minute
)

// retryAt is when the next pod may be made after so many failures in a row, the last
// of them then; zero for at once.
func retryAt(failures int, last int64) time.Time {
	if failures == 0 {
		return time.Time{}
	}
	wait := jobBackoffMost
	if doublings := failures - 1; doublings < 6 { // 10 s << 6 is more than the most
		wait = jobBackoffFirst << doublings
	}
	return time.Unix(last, 0).Add(min(wait, jobBackoffMost))
}

// wanted is how many completions a Job asks for; ok is false for one whose pods decide
// together when the work is done.
func wanted(job *batchv1.Job) (n int, ok bool) {
	if job.Spec.Completions == nil {
		return 0, false
	}
	return int(*job.Spec.Completions), true
}

func isIndexed(job *batchv1.Job) bool {
	return job.Spec.CompletionMode != nil && *job.Spec.CompletionMode == batchv1.IndexedCompletion
}

func isSuspended(job *batchv1.Job) bool { return job.Spec.Suspend != nil && *job.Spec.Suspend }

// onlyEnded reports whether a pod is replaced once it has ended, not when it begins to.
func onlyEnded(job *batchv1.Job) bool {
	return job.Spec.PodReplacementPolicy != nil && *job.Spec.PodReplacementPolicy == batchv1.Failed
}

// limit is a number that may be left out, and is then no limit.
func limit(n *int32) int {
	if n == nil {
		return math.MaxInt32
	}
	return int(*n)
}
