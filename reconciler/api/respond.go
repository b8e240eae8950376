package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	stdlog "log"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

func writeJSON(w http.ResponseWriter, code int, v any) {
	data, err := marshal(v)
	if err != nil {
		writeError(w, err)
		return
	}
	writeBody(w, code, "application/json", data)
}

func marshal(v any) ([]byte, *apierrors.StatusError) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return append(data, '\n'), nil
}

func writeBody(w http.ResponseWriter, code int, contentType string, data []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	_, _ = w.Write(data) // the client is gone; nobody is left to tell
}

// writeError answers with the error as a metav1.Status.
func writeError(w http.ResponseWriter, err *apierrors.StatusError) {
	status := statusTold(err)
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	data, merr := json.Marshal(status)
	if merr != nil {
		panic("api: marshal a Status: " + merr.Error())
	}
	writeBody(w, int(status.Code), "application/json", data)
}

// statusTold is the error as it is sent. Clients show its message to terminals as
// it is.
func statusTold(err *apierrors.StatusError) metav1.Status {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	status.Message = schema.PrintableText(status.Message)
	return status
}

// statusOf makes any error a Status: its own where it brings one, else 500.
func statusOf(err error) *apierrors.StatusError {
	var status *apierrors.StatusError
	if errors.As(err, &status) {
		return status
	}
	return newStatus(http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
}

func newStatus(code int, reason metav1.StatusReason, message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	}}
}

// expired tells a client to list again.
func expired(message string) *apierrors.StatusError {
	return newStatus(http.StatusGone, metav1.StatusReasonExpired, message)
}

// decodeBody reads a JSON body. The door bounds it.
func decodeBody(r *http.Request, into any) error {
	var data bytes.Buffer
	data.Grow(int(min(max(r.ContentLength, 0), maxTrustedLength)) + bytes.MinRead)
	if _, err := data.ReadFrom(r.Body); err != nil {
		return err
	}
	return json.Unmarshal(data.Bytes(), into)
}

// eachMember reads an object, member by member: value reads each one's.
func eachMember(dec *json.Decoder, value func(name string) error) error {
	return each(dec, '{', func() error {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		return value(name.(string)) // JSON has no other names
	})
}

// eachElement reads an array; null is an empty one.
func eachElement(dec *json.Decoder, value func() error) error { return each(dec, '[', value) }

func each(dec *json.Decoder, open json.Delim, read func() error) error {
	switch token, err := dec.Token(); {
	case err != nil:
		return err
	case token == nil && open == '[':
		return nil
	case token != open:
		return fmt.Errorf("it has %v where %v is to be", token, open)
	}
	for dec.More() {
		if err := read(); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// maxTrustedLength is for how many bytes of a body room is made before they come.
const maxTrustedLength = 1 << 20

// stream writes to a client piece by piece and gives up on one that does not
// read.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func newStream(w http.ResponseWriter, contentType string) *stream {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(http.StatusOK)
	s := &stream{w: w, rc: http.NewResponseController(w)}
	_, _ = s.Write(nil) // the client learns at once that the stream stands; a lost one shows at the next write
	return s
}

// Write sends data at once, within the time that the door's answer has for a piece.
// The deadline is lifted again afterwards because HTTP/2 would end an idle stream by
// it.
func (s *stream) Write(data []byte) (int, error) {
	n, err := s.w.Write(data)
	if err == nil {
		err = s.rc.Flush()
	}
	_ = s.rc.SetWriteDeadline(time.Time{}) // a recorder has none
	return n, err
}

// newErrorLog takes net/http's complaints (a client's broken handshake, mostly)
// as debug lines.
func newErrorLog(log logrus.FieldLogger) *stdlog.Logger {
	return stdlog.New(lineLogger{log}, "", 0)
}

type lineLogger struct{ log logrus.FieldLogger }

func (l lineLogger) Write(p []byte) (int, error) {
	l.log.WithField("part", "api").Debug(strings.TrimSpace(string(p)))
	return len(p), nil
}
