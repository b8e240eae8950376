package schema

// Group is the API group of Fairlead's own kinds.
const Group = "fairlead"

// TrailerPrefix begins the name of every trailer of ours.
const TrailerPrefix = "Fairlead-"

// The commit trailers that override a guard, each good once.
const (
	TrailerAllowPrune  = "Fairlead-Allow-Prune"  // value: how many objects may go
	TrailerRetry       = "Fairlead-Retry"        // value: why
	TrailerAllowRewind = "Fairlead-Allow-Rewind" // value: the commit that is left
)

// Overrides are the guards that commits lift by their trailers.
type Overrides struct {
	AllowPrune int    // objects that may go; the largest of all commits since the applied one
	Retry      string // why a tree that failed is tried again; of the commits since the one judged last
}

func clonePtr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
