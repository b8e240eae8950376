package wire

import "strings"

// Families of items that a node keeps for the master and makes nothing of. Both
// hold what only the master can make and read.
const (
	// FamilyRecords holds objects of the cluster: "records/<kind>/<namespace>/<name>".
	FamilyRecords = "records"
	// FamilySeals vouches for the node's pods: "seals/<uid>" for "pods/<uid>".
	FamilySeals = "seals"
	// FamilyPods holds the pods bound to the node: "pods/<uid>".
	FamilyPods = "pods"
)

// Kept is what a node has of the work it was last sent, for a master that lost
// its store and asks with Frame.Recover. The zero Kept is that of a node which
// never had any.
type Kept struct {
	Version uint64 `json:"version"` // of the work
	Items   Items  `json:"items"`   // as Keepsakes leaves them
}

// Keepsakes are the items a Kept carries: pods and what is kept for the master.
// No Secret is among them.
func (items Items) Keepsakes() Items {
	out := Items{}
	for key, value := range items {
		switch family, _, _ := strings.Cut(key, "/"); family {
		case FamilyRecords, FamilySeals, FamilyPods:
			out[key] = value
		}
	}
	return out
}
