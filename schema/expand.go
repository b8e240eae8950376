package schema

import "strings"

// Expand replaces $(NAME) by its value; an unknown name stays as written and
// $$(NAME) escapes.
func Expand(s string, value func(name string) (string, bool)) string {
	if !strings.ContainsRune(s, '$') {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteByte(s[i])
				continue
			}
			whole := s[i : i+end+1]
			if v, ok := value(whole[2 : len(whole)-1]); ok {
				b.WriteString(v)
			} else {
				b.WriteString(whole)
			}
			i += end
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}
