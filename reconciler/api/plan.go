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
	Source string     `json:"source"`
	Files  []PlanFile `json:"files"`
	// Refused and Faults are those of the tree.
	Refused schema.Diagnostics `json:"refused,omitempty"`
	Faults  schema.Diagnostics `json:"faults,omitempty"`
	Commit  string             `json:"commit,omitempty"` // of the tree, where it has one
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

// Bounds on plans.
const (
	// MaxPlans run at a time, beside the loop.
	MaxPlans = 2
	// MaxPlansWaiting wait for their turn; more are told to come back.
	MaxPlansWaiting = 16
	// MaxPlanBytes bounds a request before and after decompression: base64 of
	// the largest tree that may be sent, 96 MiB, with room for its paths.
	MaxPlanBytes = 128 << 20
)

func (s *Server) servePlan(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Plan == nil {
		writeError(w, apierrors.NewServiceUnavailable("this server does not plan"))
		return
	}
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		writeError(w, apierrors.NewTooManyRequests(fmt.Sprintf("%d plans are waiting already", MaxPlansWaiting), 1))
		return
	}
	select {
	case s.plans <- struct{}{}:
		defer func() { <-s.plans }()
	case <-r.Context().Done():
		return
	}
	var req PlanRequest
	err := withBody(w, r, MaxPlanBytes, func(body io.Reader) (err error) {
		req, err = decodePlan(body, r.Header.Get("Content-Encoding"))
		return err
	})
	if err != nil {
		writeError(w, apierrors.NewBadRequest(err.Error()))
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
			return req, fmt.Errorf("read plan request: %w", err)
		}
		body = io.LimitReader(zr, MaxPlanBytes+1)
	default:
		return req, fmt.Errorf("plan request has Content-Encoding %q; send gzip or none", enc)
	}
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		var tooLarge *http.MaxBytesError
		if dec.InputOffset() >= MaxPlanBytes || errors.As(err, &tooLarge) {
			return req, fmt.Errorf("plan request is larger than %d bytes", MaxPlanBytes)
		}
		return req, fmt.Errorf("read plan request: %w", err)
	}
	if len(req.Files) > schema.MaxFiles {
		return req, fmt.Errorf("plan request has %d files, at most %d are read", len(req.Files), schema.MaxFiles)
	}
	if req.Source == "" {
		return req, errors.New("plan request names no source")
	}
	return req, nil
}
