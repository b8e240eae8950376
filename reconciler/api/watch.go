package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// Bounds on watches.
const (
	// WatchTimeout ends a watch that names no time-out itself, and is the most
	// it may name; clients watch again.
	WatchTimeout = 30 * time.Minute
	// BookmarkInterval is how often an idle watch that asked for it learns how far
	// it has got.
	BookmarkInterval = time.Minute
	// watchChunk bytes are written at a time.
	watchChunk = 64 << 10
	// keptBuffer is how large a buffer an idle watch keeps.
	keptBuffer = 4 << 10
)

// watchOptions is what a watch's query asks for.
type watchOptions struct {
	from      uint64 // events after it, which may be still to come; unless initial
	initial   bool   // what is there comes first, as ADDED
	mark      bool   // ... and ends with the annotated bookmark
	bookmarks bool
	timeout   time.Duration
}

func watchOptionsOf(q url.Values, current uint64) (watchOptions, *apierrors.StatusError) {
	o := watchOptions{bookmarks: isTrue(q.Get("allowWatchBookmarks")), timeout: WatchTimeout}
	if text := q.Get("timeoutSeconds"); text != "" {
		seconds, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return o, apierrors.NewBadRequest(fmt.Sprintf("timeoutSeconds %q is not a number of seconds", text))
		}
		if seconds > 0 {
			o.timeout = min(o.timeout, time.Duration(seconds)*time.Second)
		}
	}
	rv := uint64(0)
	if text := q.Get("resourceVersion"); text != "" {
		var err error
		if rv, err = strconv.ParseUint(text, 10, 64); err != nil {
			return o, apierrors.NewBadRequest(fmt.Sprintf("resourceVersion %q is not a number", text))
		}
	}
	match := q.Get("resourceVersionMatch")
	asked := q.Get("sendInitialEvents")
	if (asked != "") != (match == string(metav1.ResourceVersionMatchNotOlderThan)) || asked == "" && match != "" {
		return o, apierrors.NewBadRequest("sendInitialEvents and resourceVersionMatch=NotOlderThan go together in a watch")
	}
	switch {
	case isTrue(asked):
		if rv > current {
			return o, tooNew(rv, current)
		}
		o.initial, o.mark = true, o.bookmarks
	case rv == 0 && asked == "":
		o.initial = true
	case rv == 0:
		o.from = current
	default:
		o.from = rv
	}
	return o, nil
}

// watcher is one open watch.
type watcher struct {
	res       *resource
	sel       selection
	format    format
	out       *stream
	encoding  chan struct{} // the server's: as many encode at a time as there are cores
	now       func() metav1.Time
	current   func(*resource, schema.Object) schema.Object
	buf       bytes.Buffer
	headed    bool   // a Table's columns were sent
	bookmarks bool   // the client wants them
	at        uint64 // everything up to this version was told
	after     uint64 // what is not newer is not told: the client asked for the future
}

func (s *Server) serveWatch(w http.ResponseWriter, r *http.Request, t target, sel selection, f format) {
	// As of before the client learns that the watch stands: what happens from then
	// on is told as a change.
	snapshot := s.cfg.Feed.Snapshot()
	current := snapshot.Counters().ResourceVersion
	opts, err := watchOptionsOf(r.URL.Query(), current)
	if err != nil {
		writeError(w, err)
		return
	}
	s.watches.Add(1)
	defer s.watches.Add(-1)
	wt := &watcher{
		res: t.res, sel: sel, format: f, encoding: s.encoding, now: s.now, current: s.current, at: min(opts.from, current), after: opts.from, bookmarks: opts.bookmarks,
		out: newStream(w, "application/json"),
	}
	if opts.initial {
		wt.start(snapshot, opts.mark)
	}
	if wt.flush() != nil {
		return
	}
	s.follow(r, wt, opts.timeout)
}

// follow tells changes until the client leaves, the time is up, the server ends
// or the watcher has fallen too far behind.
func (s *Server) follow(r *http.Request, wt *watcher, timeout time.Duration) {
	end := time.NewTimer(timeout)
	defer end.Stop()
	bookmark := time.NewTicker(BookmarkInterval)
	defer bookmark.Stop()
	for {
		changes, snapshot, moved, ok := s.cfg.Feed.Since(wt.at)
		if !ok {
			current := snapshot.Counters().ResourceVersion
			wt.fail(expired(fmt.Sprintf("too old resource version: %d (%d)", wt.at, current)))
			return
		}
		if wt.tell(changes, snapshot) != nil {
			return
		}
		select {
		case <-moved:
		case <-bookmark.C:
			wt.bookmark(nil)
		case <-end.C:
			wt.bookmark(nil)
			_ = wt.flush() // the watch ends either way
			return
		case <-s.stopping.Done():
			return
		case <-r.Context().Done():
			return
		}
	}
}

// start tells what is there.
func (wt *watcher) start(snapshot *state.Snapshot, mark bool) {
	wt.at = snapshot.Counters().ResourceVersion
	for obj := range wt.res.list(snapshot, wt.sel.namespace, wt.sel) {
		if wt.sel.matches(obj) {
			wt.event(watch.Added, obj)
		}
		if wt.buf.Len() > watchChunk && wt.flush() != nil {
			return
		}
	}
	if mark {
		wt.bookmark(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
}

// tell sends what the changes are to this watcher: an object that begins to
// match its selectors is added, one that ceases to is deleted.
func (wt *watcher) tell(changes []state.Change, snapshot *state.Snapshot) error {
	for _, c := range changes {
		oc := wt.res.change(snapshot, c)
		if oc == nil || c.RV <= wt.after {
			continue
		}
		was, is := wt.sel.matches(oc.old), wt.sel.matches(oc.now)
		switch {
		case was && is:
			wt.event(watch.Modified, oc.now)
		case is:
			wt.event(watch.Added, oc.now)
		case was:
			wt.event(watch.Deleted, atVersion(oc.old, oc.rv))
		}
		if wt.buf.Len() > watchChunk {
			if err := wt.flush(); err != nil {
				return err
			}
		}
	}
	wt.at = snapshot.Counters().ResourceVersion
	return wt.flush()
}

// change is what c does to the collection, or nil for nothing.
func (res *resource) change(r state.Reader, c state.Change) *objectChange {
	switch {
	case res.derive != nil:
		return res.derive.change(r, c)
	case res.stored && c.Key.Kind == res.Kind:
		return &objectChange{old: c.Old, now: c.New, rv: c.RV}
	}
	return nil
}

// atVersion is a copy of obj as of the change that took it away.
func atVersion(obj schema.Object, rv uint64) schema.Object {
	out := state.Edit(obj)
	out.SetResourceVersion(strconv.FormatUint(rv, 10))
	return out
}

func (wt *watcher) event(kind watch.EventType, obj schema.Object) {
	wt.encoding <- struct{}{}
	defer func() { <-wt.encoding }()
	obj = wt.current(wt.res, obj)
	if wt.format.as != asTable {
		data, err := wt.format.object(obj)
		wt.write(kind, data, err)
		return
	}
	table := wt.format.table(wt.res, obj.GetResourceVersion(), []schema.Object{obj}, wt.now())
	if wt.headed {
		table.ColumnDefinitions = nil
	}
	wt.headed = true
	data, err := json.Marshal(table)
	wt.write(kind, data, err)
}

func (wt *watcher) bookmark(annotations map[string]string) {
	if !wt.bookmarks || wt.at < wt.after {
		return
	}
	meta := metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: string(wt.res.Kind), APIVersion: wt.res.APIVersion()},
		ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.FormatUint(wt.at, 10), Annotations: annotations},
	}
	var obj any = meta
	switch wt.format.as {
	case asPartial:
		meta.TypeMeta = metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metaGroup + "/" + wt.format.version}
		obj = meta
	case asTable:
		table := wt.format.table(wt.res, meta.ResourceVersion, nil, wt.now())
		table.ColumnDefinitions = nil
		meta.TypeMeta = metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: metaGroup + "/" + wt.format.version}
		raw, err := json.Marshal(meta)
		if err != nil {
			panic("api: marshal metadata: " + err.Error())
		}
		table.Rows = []metav1.TableRow{{Cells: []any{}}}
		table.Rows[0].Object.Raw = raw
		obj = table
	}
	data, err := json.Marshal(obj)
	wt.write(watch.Bookmark, data, err)
}

func (wt *watcher) fail(err *apierrors.StatusError) {
	data, merr := json.Marshal(statusTold(err))
	wt.write(watch.Error, data, merr)
	_ = wt.flush() // the watch ends either way
}

// write adds one event to what the next flush sends. An object that cannot be
// written ends in an ERROR event rather than in a gap.
func (wt *watcher) write(kind watch.EventType, data []byte, err error) {
	if err != nil {
		kind = watch.Error
		data, err = json.Marshal(statusTold(statusOf(err)))
		if err != nil {
			panic("api: marshal a Status: " + err.Error())
		}
	}
	wt.buf.WriteString(`{"type":"` + string(kind) + `","object":`)
	wt.buf.Write(data)
	wt.buf.WriteString("}\n")
}

func (wt *watcher) flush() error {
	if wt.buf.Len() == 0 {
		return nil
	}
	_, err := wt.out.Write(wt.buf.Bytes())
	if wt.buf.Reset(); wt.buf.Cap() > keptBuffer {
		wt.buf = bytes.Buffer{} // one large object must not stay with every watcher
	}
	return err
}
