package why

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WriteText writes the chain for a person; ages count from now.
func (c *Chain) WriteText(w io.Writer, now time.Time) {
	fmt.Fprintf(w, "%s: %s\n  %s\n\n", c.Object, c.Code, printable(c.Reason))
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
		fmt.Fprintf(tw, "  %s  %s\t%s\t%s\n", mark, l.Step, printable(l.Name), printable(state))
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
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", when, e.Object, e.Reason, printable(e.Message))
	}
	tw.Flush()
	c.writeLog(w)
	who := string(c.Actor)
	if c.Actor == Developer && c.Author != "" {
		who += " (" + printable(c.Author) + " changed it last, at " + printable(c.File) + ")"
	}
	fmt.Fprintf(w, "\nWho must act: %s.\nTo do: %s.\n", who, c.Todo)
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
		fmt.Fprintf(w, "\nNo log of container %s: %s\n", c.Log.Container, printable(c.Log.Error))
	case len(c.Log.Lines) == 0:
		fmt.Fprintf(w, "\nContainer %s has logged nothing%s.\n", c.Log.Container, run)
	default:
		fmt.Fprintf(w, "\nLast lines of container %s of pod %s/%s%s:\n", c.Log.Container, c.Log.Namespace, c.Log.Pod, run)
	}
	for _, line := range c.Log.Lines {
		fmt.Fprintf(w, "  | %s\n", printable(line))
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

// printable takes the power over a terminal from text that containers and commits
// bring.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return '\uFFFD'
		}
		return r
	}, s)
}
