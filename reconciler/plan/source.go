package plan

import (
	"fairlead/reconciler/health"
	"fairlead/reconciler/settle"
	"fairlead/schema"
	"fairlead/schema/layout"
)

// tellUnfollowed tells of Sources that go: what they put stays.
func (p *Plan) tellUnfollowed(f *fork) {
	for i := range p.Objects {
		o := &p.Objects[i]
		if o.Action != settle.Prune || o.Kind != schema.KindSource {
			continue
		}
		if n := health.CountObjects(f.base, schema.SourceName(o.Name)); n > 0 {
			p.note("source %s is no longer followed: what it put, %s, stays as it is, and no commit changes it", o.Name, layout.Count(n, "object"))
		}
	}
}
