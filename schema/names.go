package schema

// Commit names a commit as Git does: its full hash in hexadecimal. The zero value is
// "no commit".
type Commit string

// Short is how a commit is named for people: its first 12 digits, as in a Revision's
// name.
func (c Commit) Short() string { return string(c[:min(12, len(c))]) }
