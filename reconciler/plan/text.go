package plan

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"fairlead/reconciler/settle"
)

var signs = map[settle.Action]string{settle.Create: "+", settle.Update: "~", settle.Prune: "-"}

// WriteText writes the plan for a person, without colour.
func (p *Plan) WriteText(w io.Writer) {
	p.WriteObjects(w)
	p.writePods(w)
	p.writeCapacity(w)
	for _, u := range p.Unplaced {
		fmt.Fprintf(w, "No node takes pod %s:\n", u.Pod)
		for _, n := range u.Nodes {
			fmt.Fprintf(w, "  %s: %s\n", n.Node, strings.Join(n.Reasons, "; "))
		}
	}
	fmt.Fprintf(w, "Plan: %s.\n", p.Summary())
}

// WriteObjects writes diagnostics and object differences alone.
func (p *Plan) WriteObjects(w io.Writer) {
	for _, d := range p.Diagnostics {
		fmt.Fprintln(w, d)
	}
	for _, o := range p.Objects {
		name := o.Name
		if o.Namespace != "" {
			name = o.Namespace + "/" + o.Name
		}
		fmt.Fprintf(w, "%s %s %s  (%s, %s)\n", signs[o.Action], o.Kind, name, o.Reason, o.Position)
		for _, f := range o.Fields {
			fmt.Fprintf(w, "    %s: %s -> %s\n", f.Path, shown(f.From), shown(f.To))
		}
	}
}

func (p *Plan) writePods(w io.Writer) {
	for _, pod := range p.Pods {
		switch {
		case pod.Action == "stop":
			fmt.Fprintf(w, "- pod %s/%s on %s  (%s)\n", pod.Namespace, pod.Name, pod.From, pod.Reason)
		case pod.Node == "":
			fmt.Fprintf(w, "+ pod %s/%s nowhere  (%s)\n", pod.Namespace, pod.Name, pod.Reason)
		default:
			fmt.Fprintf(w, "+ pod %s/%s on %s  (%s)\n", pod.Namespace, pod.Name, pod.Node, pod.Reason)
		}
	}
}

func (p *Plan) writeCapacity(w io.Writer) {
	if len(p.Capacity) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tRESOURCE\tREQUESTED\tAFTER\tALLOCATABLE")
	for _, c := range p.Capacity {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", c.Node, c.Resource, c.Before, c.After, c.Allocatable)
	}
	tw.Flush()
}

func shown(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
