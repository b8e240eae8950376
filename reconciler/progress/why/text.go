package why

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/progress"
	"fairlead/schema"
)

// WriteText writes the chain for a person; ages count from now.
func (c *Chain) WriteText(w io.Writer, now time.Time) {
	schema.Fprintf(w, "%s: %s\n  %s\n\n", c.Object, c.Code, c.Reason)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range c.Links {
		mark := "ok"
		if !l.OK {
			mark = "!!"
		}
		state := l.State
		if l.At != nil && !l.At.IsZero() {
			state += " (" + age(*l.At, now) + ")"
		}
		schema.Fprintf(tw, "  %s  %s\t%s\t%s\n", mark, l.Step, l.Name, state)
	}
	tw.Flush()
	if len(c.Events) > 0 {
		fmt.Fprintln(w, "\nEvents, newest first:")
	}
	for _, e := range c.Events {
		when := age(e.At, now)
		if e.Count > 1 {
			when += fmt.Sprintf(" (x%d)", e.Count)
		}
		schema.Fprintf(tw, "  %s\t%s\t%s\t%s\n", when, e.Object, e.Reason, e.Message)
	}
	tw.Flush()
	c.writeLog(w)
	c.writeEvidence(w)
	who := string(c.Actor)
	if c.Actor == health.Developer && c.Author != "" {
		who += " (" + c.Author + " changed it last, at " + c.File + ")"
	}
	schema.Fprintf(w, "\nWho must act: %s.\nTo do: %s.\n", who, c.Todo)
}

func (c *Chain) writeLog(w io.Writer) {
	if c.Log == nil {
		return
	}
	run := ""
	if c.Log.Previous {
		run = ", the run before this one"
	}
	switch {
	case c.Log.Error != "":
		schema.Fprintf(w, "\nNo log of container %s: %s\n", c.Log.Container, c.Log.Error)
	case len(c.Log.Lines) == 0:
		schema.Fprintf(w, "\nContainer %s has logged nothing%s.\n", c.Log.Container, run)
	default:
		schema.Fprintf(w, "\nLast lines of container %s of pod %s/%s%s:\n", c.Log.Container, c.Log.Namespace, c.Log.Pod, run)
	}
	for _, line := range c.Log.Lines {
		schema.Fprintf(w, "  | %s\n", strings.ReplaceAll(line, "\t", "    "))
	}
}

// evidenceLines is how much of each log the text shows.
const evidenceLines = 12

func (c *Chain) writeEvidence(w io.Writer) {
	evidence := c.Evidence
	if c.Log != nil { // the log above is the first one's
		evidence = slices.DeleteFunc(slices.Clone(evidence), func(e schema.Evidence) bool { return slices.Equal(e.Log, c.Log.Lines) && len(e.Log) > 0 })
	}
	if len(evidence) == 0 {
		return
	}
	fmt.Fprintln(w, "\nWhat was seen of it:")
	for _, l := range progress.Evidence(evidence, evidenceLines) {
		schema.Fprintf(w, "  %s\n", l)
	}
}

// age is how long ago something was, in one unit.
func age(at metav1.Time, now time.Time) string {
	switch d := now.Sub(at.Time); {
	case d < 0:
		return "now"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	}
}
