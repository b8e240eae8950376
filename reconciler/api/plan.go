package api

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"fairlead/schema"
)

// PlanRequest asks what a tree would change. It travels as JSON, gzip allowed
// (Content-Encoding).
type PlanRequest struct {
	Source schema.SourceName `json:"source"`
	Files  []PlanFile        `json:"files"`
	// Refused and Faults are those of the tree.
	Refused schema.Diagnostics `json:"refused,omitempty"`
	Faults  schema.Diagnostics `json:"faults,omitempty"`
	Commit  schema.Commit      `json:"commit,omitempty"` // of the tree, where it has one
	// Against is the revision of the source to compare with instead of what is
	// applied: a commit, its beginning, a revision's name or a branch.
	Against string `json:"against,omitempty"`
	// Drain and Lose are nodes that are drained one after the other and then lost
	// at once. With them and without files no tree is planned.
	Drain []schema.NodeName `json:"drain,omitempty"`
	Lose  []schema.NodeName `json:"lose,omitempty"`
}

// PlanFile is one file of the tree.
type PlanFile struct {
	Path string `json:"path"` // slash-separated, relative to the repository's root
	Data []byte `json:"data"`
}

func (s *Server) servePlan(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Plan == nil {
		writeError(w, apierrors.NewServiceUnavailable("this server does not plan"))
		return
	}
	req, err := decodePlan(r.Body, r.Header.Get("Content-Encoding"))
	if err != nil {
		status := badBody("read plan request", err)
		if status.ErrStatus.Code == http.StatusRequestEntityTooLarge {
			status.ErrStatus.Message += "; push so large a tree instead: a push is told its plan before it is taken"
		}
		writeError(w, status)
		return
	}
	result, err := s.cfg.Plan(r.Context(), req)
	if err != nil {
		writeError(w, statusOf(err))
		return
	}
	writeJSON(w, http.StatusOK, result)
}

func decodePlan(body io.Reader, encoding string) (PlanRequest, error) {
	var req PlanRequest
	switch enc := strings.ToLower(encoding); enc {
	case "", "identity":
	case "gzip":
		zr, err := gzip.NewReader(body)
		if err != nil {
			return req, err
		}
		body = http.MaxBytesReader(nil, io.NopCloser(zr), doorPlan.BodyBytes)
	default:
		return req, fmt.Errorf("it has Content-Encoding %q; send gzip or none", enc)
	}
	if err := req.decode(json.NewDecoder(body)); err != nil {
		return req, err
	}
	if req.Source == "" {
		return req, errors.New("it names no source")
	}
	return req, nil
}

// decode reads file by file: a tree is not held twice.
func (q *PlanRequest) decode(dec *json.Decoder) error {
	return eachMember(dec, func(name string) error {
		switch name {
		case "source":
			return dec.Decode(&q.Source)
		case "files":
			return eachElement(dec, func() error {
				if len(q.Files) == schema.MaxFiles {
					return fmt.Errorf("it has more than %d files", schema.MaxFiles)
				}
				var f PlanFile
				err := dec.Decode(&f)
				q.Files = append(q.Files, f)
				return err
			})
		case "refused":
			return decodeDiagnostics(dec, &q.Refused)
		case "faults":
			return decodeDiagnostics(dec, &q.Faults)
		case "commit":
			return dec.Decode(&q.Commit)
		case "against":
			return dec.Decode(&q.Against)
		case "drain":
			return dec.Decode(&q.Drain)
		case "lose":
			return dec.Decode(&q.Lose)
		}
		return fmt.Errorf("unknown field %q", name)
	})
}

// maxTreeDiagnostics bounds what a client says of its tree's entries: far more than
// anyone reads.
const maxTreeDiagnostics = 10_000

func decodeDiagnostics(dec *json.Decoder, out *schema.Diagnostics) error {
	return eachElement(dec, func() error {
		if len(*out) == maxTreeDiagnostics {
			return fmt.Errorf("it has more than %d diagnostics of its tree", maxTreeDiagnostics)
		}
		var d schema.Diagnostic
		err := dec.Decode(&d)
		*out = append(*out, d)
		return err
	})
}
