package why

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/health"
	"fairlead/reconciler/progress"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// WriteText writes the chain for a person; ages count from now.
func (c *Chain) WriteText(w io.Writer, now time.Time) {
	var once progress.Once
	layout.Fprintf(w, "%s: %s\n  %s\n\n", c.Object, c.Code, once.Tell(c.Reason))
	layout.WriteTable(w, "  ", c.linkRows(&once, now))
	if len(c.Events) > 0 {
		fmt.Fprintln(w, "\nEvents, newest first:")
	}
	layout.WriteTable(w, "  ", c.eventRows(&once, now))
	c.writeLog(w)
	c.writeEvidence(w, &once)
	who := string(c.Actor)
	if c.Actor == health.Developer && c.Author != "" {
		who += " (" + c.Author + " changed it last, at " + c.File + ")"
	}
	layout.Fprintf(w, "\nWho must act: %s.\nTo do: %s.\n", who, c.Todo)
}

func (c *Chain) linkRows(once *progress.Once, now time.Time) (rows [][]string) {
	for _, l := range c.Links {
		mark := "ok"
		if !l.OK {
			mark = "!!"
		}
		state := once.Tell(l.State)
		if l.At != nil && !l.At.IsZero() {
			state += " (" + age(*l.At, now) + ")"
		}
		rows = append(rows, []string{mark, l.Step, l.Name, state})
	}
	return rows
}

func (c *Chain) eventRows(once *progress.Once, now time.Time) (rows [][]string) {
	for _, e := range c.Events {
		when := age(e.At, now)
		if e.Count > 1 {
			when += fmt.Sprintf(" (x%d)", e.Count)
		}
		rows = append(rows, []string{when, e.Object, e.Reason, once.Tell(e.Message)})
	}
	return rows
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
		layout.Fprintf(w, "\nNo log of container %s: %s\n", c.Log.Container, c.Log.Error)
	case len(c.Log.Lines) == 0:
		layout.Fprintf(w, "\nContainer %s has logged nothing%s.\n", c.Log.Container, run)
	default:
		layout.Fprintf(w, "\nLast lines of container %s of pod %s/%s%s:\n", c.Log.Container, c.Log.Namespace, c.Log.Pod, run)
	}
	for _, line := range c.Log.Lines {
		layout.Fprintf(w, "  | %s\n", strings.ReplaceAll(line, "\t", "    "))
	}
}

// evidenceLines is how much of each log the text shows.
const evidenceLines = 12

func (c *Chain) writeEvidence(w io.Writer, once *progress.Once) {
	evidence := c.Evidence
	if c.Log != nil { // the log above is the first one's
		evidence = slices.DeleteFunc(slices.Clone(evidence), func(e schema.Evidence) bool { return slices.Equal(e.Log, c.Log.Lines) && len(e.Log) > 0 })
	}
	if len(evidence) == 0 {
		return
	}
	fmt.Fprintln(w, "\nWhat was seen of it:")
	for _, l := range progress.Evidence(evidence, evidenceLines) {
		layout.Fprintf(w, "  %s\n", once.Tell(l))
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
