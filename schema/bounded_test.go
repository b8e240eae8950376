package schema

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTimesFit(t *testing.T) {
	for _, c := range []struct {
		seconds int64
		want    string
	}{
		{0, "1970-01-01T00:00:00Z"},
		{253402300799, "9999-12-31T23:59:59Z"},
		{253402300800, "9999-12-31T23:59:59Z"},
		{1 << 62, "9999-12-31T23:59:59Z"},
		{-62135596799, "0001-01-01T00:00:01Z"},
		{-62135596801, "0001-01-01T00:00:00Z"},
		{-1 << 60, "0001-01-01T00:00:00Z"},
	} {
		at := time.Unix(c.seconds, 0)
		got := FitTime(at).Format(time.RFC3339)
		if got != c.want {
			t.Errorf("%d seconds: %s, want %s", c.seconds, got, c.want)
		}
		if unchanged := FitTime(at).Equal(at); unchanged != TimeFits(at) {
			t.Errorf("%d seconds: fits is %v, unchanged is %v", c.seconds, TimeFits(at), unchanged)
		}
	}
	zone := time.FixedZone("", -14*3600)
	if at := time.Date(9999, 12, 31, 12, 0, 0, 0, zone); TimeFits(at) || FitTime(at).Year() != 9999 {
		t.Errorf("%s is in the year 10000 at Greenwich: made %s", at, FitTime(at))
	}
}

func TestTextFits(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"as it is", 8, "as it is"},
		{"as it is not", 8, "as it…"},
		{"näher", 5, "n…"},
		{"caf\xe9", 10, "caf?"},
		{"ab\xff\xfe\xfd\xfc\xfbcd", 10, "ab?cd"},
		{"", 0, ""},
	} {
		if got := FitText(c.text, c.most); got != c.want {
			t.Errorf("%q in %d bytes: %q, want %q", c.text, c.most, got, c.want)
		}
	}
	for n := range 40 {
		if got := FitText(strings.Repeat("世\xff", 10), n+3); len(got) > n+3 || !utf8.ValidString(got) {
			t.Errorf("%d bytes for %d: %q", len(got), n+3, got)
		}
	}
}

// The largest revision that can come to be fits into a record.
func TestRevisionsFit(t *testing.T) {
	hostile := strings.Repeat("<\x01\xff", 400_000)
	commit := CommitObject{Author: hostile, Subject: hostile, Time: time.Unix(1<<50, 0)}.Fit()
	rev := &Revision{Spec: RevisionSpec{Source: SourceName(strings.Repeat("s", 63)), Author: commit.Author, Subject: commit.Subject, Time: metav1.NewTime(commit.Time)}}
	for i := range 3 * MaxPhaseRecords {
		rev.Enter([]Phase{PhaseStalled, PhaseRollingOut}[i%2], metav1.NewTime(commit.Time), hostile)
	}
	var ds Diagnostics
	placements := map[string]NodeName{}
	for i := range 100_000 {
		placements[fmt.Sprintf("%s/%s-%d", strings.Repeat("n", 63), strings.Repeat("p", 200), i)] = NodeName(strings.Repeat("n", 60))
	}
	for range 500 {
		ds = append(ds, Diagnostic{Position: Position{Path: hostile}, Severity: Error, Message: hostile, Hint: hostile})
	}
	rev.Status.Diagnostics, rev.Status.Placements = ds.Fit(), FitPlacements(placements)
	data, err := json.Marshal(rev)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 2<<20 || len(rev.Status.Placements) == 0 || len(rev.Status.Diagnostics) == 0 {
		t.Errorf("%d bytes with %d placements and %d diagnostics", len(data), len(rev.Status.Placements), len(rev.Status.Diagnostics))
	}
	var back Revision
	if err := json.Unmarshal(data, &back); err != nil || back.Spec.Author != rev.Spec.Author || back.Spec.Subject != rev.Spec.Subject || !back.Spec.Time.Equal(&rev.Spec.Time) {
		t.Errorf("it comes back as another: %v", err)
	}
}

// A thousand warnings, or a few of great length, hide no error.
func TestDiagnosticsKeepAnError(t *testing.T) {
	for _, length := range []int{10, 3 * MaxReasonText} {
		var ds Diagnostics
		for range 1000 {
			ds = append(ds, Diagnostic{Severity: Warning, Message: strings.Repeat("w", length)})
		}
		ds = append(ds, Diagnostic{Severity: Error, Message: "the mistake"})
		if got := ds.Fit(); !got.HasErrors() || len(got) > MaxRevisionDiagnostics {
			t.Errorf("%d diagnostics, an error among them: %v", len(got), got.HasErrors())
		}
	}
}

// What all sources take together is bounded as docs/security.md promises, with the shares
// of those that trees declare.
func TestDocumentedBoundsOnAllSources(t *testing.T) {
	data, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	mib := func(n float64) string { return strconv.FormatFloat(n/(1<<20), 'f', -1, 64) + " MiB" }
	for what, most := range map[string]float64{
		"objects, as stored": MaxDeliveredBytes, "records that nodes keep": MaxKeptBytes, "Services and their endpoints": MaxToldBytes,
	} {
		row := " | " + mib(most) + " | " + mib(most/DeclaredShare) + " | " + mib(most-most/ReservedShare) + " |"
		if !slices.ContainsFunc(strings.Split(string(data), "\n"), func(line string) bool {
			return strings.HasPrefix(line, "| "+what) && strings.HasSuffix(line, row)
		}) {
			t.Errorf("docs/security.md does not say of %s:%s", what, row)
		}
	}
	secrets := "| values of Secrets | " + mib(MaxSecretBytes) + " | " + mib(MaxSecretBytes/DeclaredShare) + " |"
	for _, want := range []string{secrets, "has " + mib(MaxSpareBytes) + " on the nodes"} {
		if !strings.Contains(string(data), want) {
			t.Errorf("docs/security.md does not say: %s", want)
		}
	}
}
