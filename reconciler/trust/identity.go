package trust

import (
	"crypto/tls"
	"slices"
	"strings"

	"fairlead/schema/wire"
)

// Kind is what a client proved to be.
type Kind string

// The kinds of client.
const (
	Anonymous Kind = ""       // proved nothing
	Reader    Kind = "reader" // may read the status API; the name is the reader's
	Node      Kind = "node"   // an agent; the name is its node's
)

// Identity tells who is at the other end of a connection that ServerTLS
// accepted; nil is a connection without TLS. Only verified certificates count.
// Whether a node is still registered is for the caller to ask.
func Identity(state *tls.ConnectionState) (Kind, string) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return Anonymous, ""
	}
	subject := state.VerifiedChains[0][0].Subject
	node, isNode := strings.CutPrefix(subject.CommonName, wire.NodePrefix)
	switch {
	case isNode && slices.Contains(subject.Organization, OrgNodes):
		return Node, node
	case !isNode && slices.Contains(subject.Organization, OrgReaders):
		return Reader, subject.CommonName
	}
	return Anonymous, ""
}
