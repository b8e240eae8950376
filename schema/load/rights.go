package load

import "fairlead/schema"

// rights refuses what the source may not ask for.
func (t *wholeTree) rights() {
	if t.opts.Rights == nil {
		return
	}
	for i := range t.objects {
		o := objectOf(t.objects[i])
		for _, p := range schema.JudgeRights(o.Object, t.opts.Source, *t.opts.Rights) {
			t.at(o, schema.Error, p.Field, p.Message, p.Hint)
		}
	}
}

// isWithinRights reports whether rights has nothing to say of an object.
func (t *wholeTree) isWithinRights(o object) bool {
	return t.opts.Rights == nil || len(schema.JudgeRights(o.Object, t.opts.Source, *t.opts.Rights)) == 0
}

// rightsOf names what a tree was judged under, for comparing.
func rightsOf(opts Options) string {
	if opts.Rights == nil {
		return ""
	}
	return opts.Rights.String()
}
