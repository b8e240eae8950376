package child

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"fairlead/schema"
)

// The parent sends one request and closes the pipe; the child answers with one
// line of JSON for each directory, in the order asked, and ends. A child that is started
// before there is a request is told first which language it will be of.

// Bounds on what passes between parent and child.
const (
	maxText     = 64 << 20  // bytes of one language in one tree
	maxRequest  = 128 << 20 // bytes; text travels as base64
	maxResponse = 128 << 20 // bytes for one directory
)

// version is raised when request or response change their meaning, and with
// it everything remembered is forgotten.
const version = 2

// Request is what is to be evaluated.
type Request struct {
	Version     int      `json:"version"`
	Language    string   `json:"language"` // see Language.Name
	Limits      Limits   `json:"limits"`
	Files       []File   `json:"files"`
	Directories []string `json:"directories"` // to be evaluated, "." for the root
	// Prepare says that another request of this language will come, and nothing else.
	Prepare bool `json:"prepare,omitempty"`
}

// File is one of the tree's.
type File struct {
	Path string `json:"path"`
	Text []byte `json:"text"`
}

// Response is what one directory evaluates to.
type Response struct {
	Directory   string             `json:"directory"`
	Objects     []json.RawMessage  `json:"objects,omitempty"` // each a Writer's
	Diagnostics schema.Diagnostics `json:"diagnostics,omitempty"`
	Used        []string           `json:"used,omitempty"`    // directories whose files or absence mattered
	Whole       bool               `json:"whole,omitempty"`   // any file of the tree may have mattered
	Private     bool               `json:"private,omitempty"` // there is a Secret in it: it is not remembered
	// Inputs is the hash of all that the result depends on: the same of the same inputs are
	// the same. Zero where the result is of this time alone.
	Inputs [sha256.Size]byte `json:"-"`
}

// requests reads what comes from a parent.
func requests(r io.Reader) *json.Decoder { return json.NewDecoder(io.LimitReader(r, maxRequest)) }

func readRequest(d *json.Decoder) (Request, error) {
	var req Request
	if err := d.Decode(&req); err != nil {
		return Request{}, fmt.Errorf("read request: %w", err)
	}
	if req.Version != version {
		return Request{}, fmt.Errorf("request has version %d, want %d", req.Version, version)
	}
	return req, nil
}

var errResponseTooLong = fmt.Errorf("more than %d bytes", maxResponse)

// readResponse reads one line; io.EOF says that there are no more.
func readResponse(r *bufio.Reader) (Response, error) {
	line, err := readLine(r, maxResponse)
	if err != nil {
		return Response{}, err
	}
	var resp Response
	if err := json.Unmarshal(line, &resp); err != nil {
		return Response{}, fmt.Errorf("read response: %w", err)
	}
	return resp, nil
}

// readLine reads up to and with a newline. What ends without one is incomplete
// and not returned.
func readLine(r *bufio.Reader, most int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > most:
			return nil, errResponseTooLong
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}
