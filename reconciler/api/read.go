package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sschema "k8s.io/apimachinery/pkg/runtime/schema"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// get is one object of the collection at r's instant, or nil.
func (res *resource) get(r state.Reader, namespace, name string) schema.Object {
	switch {
	case res.derive != nil:
		return res.derive.get(r, namespace, name)
	case res.stored:
		return r.Get(schema.Key{Kind: res.Kind, Namespace: namespace, Name: name})
	}
	return nil
}

// list yields the collection's objects that may match sel, in key order.
func (res *resource) list(r state.Reader, namespace string, sel selection) iter.Seq[schema.Object] {
	switch {
	case res.derive != nil:
		return res.derive.list(r, namespace)
	case !res.stored:
		return func(func(schema.Object) bool) {}
	}
	if res.narrow != nil {
		if found, ok := res.narrow(r, sel); ok {
			return found
		}
	}
	return r.List(res.Kind, namespace)
}

func (res *resource) groupResource() k8sschema.GroupResource {
	return k8sschema.GroupResource{Group: res.Group, Resource: res.Resource}
}

func (s *Server) serveGet(w http.ResponseWriter, r *http.Request, t target) {
	f, err := formatOf(r)
	if err != nil {
		writeError(w, err)
		return
	}
	snapshot := s.cfg.Feed.Snapshot()
	if err := checkVersion(r.URL.Query(), snapshot); err != nil {
		writeError(w, err)
		return
	}
	obj := t.res.get(snapshot, t.namespace, t.name)
	if obj == nil {
		writeError(w, apierrors.NewNotFound(t.res.groupResource(), t.name))
		return
	}
	obj = s.current(t.res, obj)
	switch f.as {
	case asTable:
		writeJSON(w, http.StatusOK, f.table(t.res, obj.GetResourceVersion(), []schema.Object{obj}, s.now()))
	case asPartial:
		writeJSON(w, http.StatusOK, partial(obj, f.version))
	default:
		writeJSON(w, http.StatusOK, present(obj))
	}
}

// serveCollection answers list and watch.
func (s *Server) serveCollection(w http.ResponseWriter, r *http.Request, t target) {
	f, ferr := formatOf(r)
	if ferr != nil {
		writeError(w, ferr)
		return
	}
	sel, err := selectionOf(r.URL.Query(), t)
	if err != nil {
		writeError(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	if isTrue(r.URL.Query().Get("watch")) {
		s.serveWatch(w, r, t, sel, f)
		return
	}
	s.serveList(w, r, t, sel, f)
}

// serveList answers with everything at once: limit is what a client asks for, and no
// continue token is ever handed out.
func (s *Server) serveList(w http.ResponseWriter, r *http.Request, t target, sel selection, f format) {
	q := r.URL.Query()
	if q.Get("continue") != "" {
		writeError(w, expired("the continue token is from another server; list again from the start"))
		return
	}
	snapshot := s.cfg.Feed.Snapshot()
	if err := checkVersion(q, snapshot); err != nil {
		writeError(w, err)
		return
	}
	rv := strconv.FormatUint(snapshot.Counters().ResourceVersion, 10)
	head, item, err := f.list(t.res, rv, s.now())
	if err != nil {
		writeError(w, apierrors.NewInternalError(err))
		return
	}
	s.writeList(w, head, sel.collect(t.res.list(snapshot, t.namespace, sel)), func(obj schema.Object) ([]byte, error) {
		return item(s.current(t.res, obj))
	})
}

// list is the beginning of a Kubernetes list, up to its items or rows, and how each
// of these is written.
func (f format) list(res *resource, rv string, now metav1.Time) (head []byte, item func(schema.Object) ([]byte, error), err error) {
	switch f.as {
	case asTable:
		head, err = json.Marshal(f.table(res, rv, nil, now))
		return bytes.TrimSuffix(head, []byte("]}")), func(obj schema.Object) ([]byte, error) {
			return json.Marshal(metav1.TableRow{Cells: printableCells(res.cells(obj, now)), Object: f.rowObject(obj)})
		}, err
	case asPartial:
		return listHead("PartialObjectMetadataList", metaGroup+"/"+f.version, rv), f.object, nil
	}
	return listHead(res.listKind(), res.APIVersion(), rv), f.object, nil
}

func listHead(kind, apiVersion, rv string) []byte {
	return fmt.Appendf(nil, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":%q},"items":[`, kind, apiVersion, rv)
}

// writeList writes a list piece by piece: however long it is and however many read
// it at once, each reader holds one piece, and as many are encoded at a time as
// there are cores.
func (s *Server) writeList(w http.ResponseWriter, head []byte, objs []schema.Object, item func(schema.Object) ([]byte, error)) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache, private")
	piece := bytes.NewBuffer(head)
	for from := 0; ; {
		next, err := s.encodePiece(piece, objs, from, item)
		switch {
		case err != nil && from == 0:
			writeError(w, apierrors.NewInternalError(err))
			return
		case err != nil:
			panic(http.ErrAbortHandler) // a list cut short must not look complete
		}
		if from = next; from == len(objs) {
			piece.WriteString("]}\n")
		}
		if _, err := w.Write(piece.Bytes()); err != nil || from == len(objs) {
			return
		}
		piece.Reset()
	}
}

// encodePiece adds objects to piece until it is full, and returns the next.
func (s *Server) encodePiece(piece *bytes.Buffer, objs []schema.Object, from int, item func(schema.Object) ([]byte, error)) (int, error) {
	s.encoding <- struct{}{}
	defer func() { <-s.encoding }()
	for ; from < len(objs) && piece.Len() < answerPiece; from++ {
		data, err := item(objs[from])
		if err != nil {
			return from, err
		}
		if from > 0 {
			piece.WriteByte(',')
		}
		piece.Write(data)
	}
	return from, nil
}

func (f format) object(obj schema.Object) ([]byte, error) {
	if f.as == asPartial {
		return json.Marshal(partial(obj, f.version))
	}
	return json.Marshal(present(obj))
}

// checkVersion judges resourceVersion of a get or list: the newest is answered,
// which satisfies every request but one for the future or for exactly the past.
func checkVersion(q url.Values, snapshot *state.Snapshot) *apierrors.StatusError {
	text := q.Get("resourceVersion")
	match := metav1.ResourceVersionMatch(q.Get("resourceVersionMatch"))
	if match != "" && match != metav1.ResourceVersionMatchExact && match != metav1.ResourceVersionMatchNotOlderThan {
		return apierrors.NewBadRequest(fmt.Sprintf("resourceVersionMatch %q is not Exact or NotOlderThan", match))
	}
	if text == "" || text == "0" {
		return nil
	}
	rv, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is not a number", text))
	}
	current := snapshot.Counters().ResourceVersion
	if rv > current {
		return tooNew(rv, current)
	}
	if match == metav1.ResourceVersionMatchExact && rv != current {
		return expired(fmt.Sprintf("resourceVersion %d is gone, the current one is %d", rv, current))
	}
	return nil
}

// tooNew is what Kubernetes answers to a version it has not reached: a time-out
// that clients retry.
func tooNew(rv, current uint64) *apierrors.StatusError {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", rv, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

// partial is the metadata alone.
func partial(obj schema.Object, version string) *metav1.PartialObjectMetadata {
	obj = present(obj)
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metaGroup + "/" + version},
		ObjectMeta: *objectMeta(obj),
	}
}

// objectMeta finds the ObjectMeta that obj embeds.
func objectMeta(obj schema.Object) *metav1.ObjectMeta {
	return obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
}

// hear notes that a node's report was taken.
func (s *Server) hear(node schema.NodeName) {
	s.heard.Store(node, s.cfg.Now().UTC().Truncate(time.Second))
}

// current is obj with what moves without a change of the cluster: when the node that
// it is about reported last, if it has since this server started.
func (s *Server) current(res *resource, obj schema.Object) schema.Object {
	if res.fresh == nil {
		return obj
	}
	heard, ok := s.heard.Load(schema.NodeName(obj.GetName()))
	if !ok {
		return obj
	}
	return res.fresh(obj, heard.(time.Time))
}
