package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	corev1 "k8s.io/api/core/v1"
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
	if node, ok := sel.fields.RequiresExactMatch("spec.nodeName"); ok && res.Kind == schema.KindPod {
		return r.By(state.PodsByNode, node)
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

// serveList answers with everything at once: limit is a client's wish, and no
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
	objs := sel.collect(t.res.list(snapshot, t.namespace, sel))
	if f.as == asTable {
		writeJSON(w, http.StatusOK, f.table(t.res, rv, objs, s.now()))
		return
	}
	body, err := f.list(t.res, rv, objs)
	if err != nil {
		writeError(w, apierrors.NewInternalError(err))
		return
	}
	writeBody(w, http.StatusOK, "application/json", body)
}

// list renders the collection as a Kubernetes list.
func (f format) list(res *resource, rv string, objs []schema.Object) ([]byte, error) {
	kind, apiVersion := res.listKind(), res.APIVersion()
	if f.as == asPartial {
		kind, apiVersion = "PartialObjectMetadataList", metaGroup+"/"+f.version
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":%q},"items":[`, kind, apiVersion, rv)
	for i, obj := range objs {
		if i > 0 {
			b.WriteByte(',')
		}
		data, err := f.object(obj)
		if err != nil {
			return nil, err
		}
		b.Write(data)
	}
	b.WriteString("]}\n")
	return b.Bytes(), nil
}

func (f format) object(obj schema.Object) ([]byte, error) {
	if f.as == asPartial {
		return json.Marshal(partial(obj, f.version))
	}
	return json.Marshal(present(obj))
}

// checkVersion judges resourceVersion of a get or list: the newest is answered,
// which satisfies every wish but one for the future or for exactly the past.
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

// redactedValue stands where a Secret's value was.
var redactedValue = []byte("redacted")

// present is obj as it may leave the server: a Secret without its values.
func present(obj schema.Object) schema.Object {
	secret, ok := obj.(*corev1.Secret)
	if !ok {
		return obj
	}
	out := *secret
	out.ObjectMeta = *secret.ObjectMeta.DeepCopy()
	out.StringData = nil
	out.Data = make(map[string][]byte, len(secret.Data)+len(secret.StringData))
	for k := range secret.Data {
		out.Data[k] = redactedValue
	}
	for k := range secret.StringData {
		out.Data[k] = redactedValue
	}
	delete(out.Annotations, corev1.LastAppliedConfigAnnotation) // holds the values once more
	if out.Annotations == nil {
		out.Annotations = map[string]string{}
	}
	out.Annotations[schema.AnnotationRedacted] = "true"
	return &out
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
