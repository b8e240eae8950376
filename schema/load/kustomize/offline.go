package kustomize

import (
	"errors"
	"net/http"
	"sync"
)

// The library fetches what a file's name has a scheme for, wherever it stands: Look
// refuses such names where it knows the field, and this refuses all others. It asks
// through http.DefaultTransport, and has no way to be told otherwise. Whatever builds
// kustomizations does nothing else, so it keeps the process from asking at all. What the
// library clones it clones with the program git, which a child does not find: it has no
// PATH.

// goOffline keeps this process from asking a server.
var goOffline = sync.OnceFunc(func() { http.DefaultTransport = refusing{} })

// refusing is a transport that answers no request.
type refusing struct{}

var errOffline = errors.New("nothing is fetched while a tree is read")

// RoundTrip implements http.RoundTripper.
func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errOffline }
