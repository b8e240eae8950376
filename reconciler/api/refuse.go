package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/reconciler/state"
	"fairlead/schema"
)

// refuseWrite says why the change is not made, where what it would change stands, and
// the way there is.
func (s *Server) refuseWrite(r *http.Request, t target) *apierrors.StatusError {
	body, _ := io.ReadAll(r.Body) // the door bounds it; what did not come tells nothing
	w := write{
		target: t, method: r.Method, body: body, dry: r.URL.Query().Get("dryRun") != "", created: s.cfg.Origin,
	}
	return newStatus(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed, w.refusal(s.cfg.Feed.Snapshot()))
}

// write is a change that a client asks for.
type write struct {
	target
	method  string
	body    []byte
	dry     bool          // only to be tried
	created schema.Origin // where what is new would stand
}

// refusal is the answer, as of r.
func (w *write) refusal(r state.Reader) string {
	if way := w.notServed(r); way != "" {
		return fmt.Sprintf("%s/%s is not served; %s", w.res.Resource, w.sub, way)
	}
	obj := schema.Object(nil)
	if w.name != "" {
		obj = w.res.get(r, w.namespace, w.name)
	}
	switch {
	case obj == nil:
		return gitPlace(w.created) + w.advice(nil)
	case w.res.refuse != nil:
		return w.res.refuse(w)
	}
	root := rootOf(r, obj)
	origin := schema.OriginOf(root)
	key := w.key(obj)
	about := key.String()
	if root != obj {
		key = schema.KeyOf(root)
		about = fmt.Sprintf("%s, which %s is made from", key, about)
	}
	switch {
	case origin.Source == "":
		return w.madeHere(key.Kind, about)
	case !hasSource(r, origin.Source):
		return fmt.Sprintf("desired state lives in Git, but source %s, which declared %s (%s), is not of this cluster any more; declare that source again to change or remove what it left", origin.Source, about, placeOf(origin))
	}
	place := gitPlace(origin)
	if root != obj {
		place += " (" + about + ")"
	}
	return place + w.advice(root)
}

// key names what was asked for, which may be of a kind that is not stored.
func (w *write) key(obj schema.Object) schema.Key {
	return schema.Key{Kind: w.res.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

func gitPlace(o schema.Origin) string {
	return fmt.Sprintf("desired state lives in Git: %s, %s", o.Source, placeOf(o))
}

func placeOf(o schema.Origin) string {
	if o.Line == 0 {
		return o.Path
	}
	return fmt.Sprintf("%s:%d", o.Path, o.Line)
}

// maxOwners bounds the way from a pod up to what Git declares.
const maxOwners = 8

// rootOf is the object that obj was made from, step by step; itself if from none.
func rootOf(r state.Reader, obj schema.Object) schema.Object {
	for range maxOwners {
		ref := metav1.GetControllerOfNoCopy(obj)
		if ref == nil {
			break
		}
		info, ok := schema.Lookup(schema.Kind(ref.Kind))
		if !ok {
			break
		}
		key := schema.Key{Kind: info.Kind, Name: ref.Name}
		if info.Namespaced {
			key.Namespace = obj.GetNamespace()
		}
		owner := r.Get(key)
		if owner == nil {
			break
		}
		obj = owner
	}
	return obj
}

// advice is what to do at the object's place: root stands there, nil is to be new.
func (w *write) advice(root schema.Object) string {
	switch {
	case w.dry:
		return "; nothing is tried here: `fairlead diff` shows how a tree's objects differ from the cluster, `fairlead plan` what would become of them"
	case w.method == http.MethodPost && bytes.Contains(w.body, []byte("kubectl-debug")):
		return "; there are no debug pods: " + enterWay
	case root == nil && !w.res.Desired:
		return fmt.Sprintf(", and %s is no kind that can stand there (docs/fields.md has those that can)", w.res.Kind)
	case root == nil && w.method == http.MethodDelete:
		return "; what is to go is taken out of its file there and pushed"
	case root == nil:
		return "; add it there and push"
	case w.sub == "scale":
		return "; set spec.replicas there and push"
	case bytes.Contains(w.body, []byte("kubectl.kubernetes.io/restartedAt")), w.method == http.MethodDelete && w.res.Logs, w.sub == "eviction":
		return "; to restart its pods change an annotation of the pod template there and push"
	case w.replacesTemplate():
		return "; to go back to an earlier revision use `fairlead rollback`"
	case w.method == http.MethodDelete:
		return "; take it out there and push"
	}
	return "; change it there and push"
}

// replacesTemplate recognises what `kubectl rollout undo` sends.
func (w *write) replacesTemplate() bool {
	var ops []struct{ Op, Path string }
	return json.Unmarshal(w.body, &ops) == nil && len(ops) > 0 && ops[0].Path == "/spec/template"
}

// madeHere is about what no source declared.
func (w *write) madeHere(kind schema.Kind, about string) string {
	if who := w.maker(kind); who != "" {
		return about + " " + who
	}
	if info, ok := schema.Lookup(kind); ok && info.Desired {
		return fmt.Sprintf("%s is made by the cluster itself; to have it otherwise declare it in Git: %s, %s", about, w.created.Source, placeOf(w.created))
	}
	return about + " is made by the cluster itself"
}

// enterWay leads into a container.
const enterWay = "on the pod's node, as root, run `podman --url unix:///run/fairlead/podman.sock exec -it CONTAINER sh` (\"Into a container\" in docs/operations.md)"

// notServed is the way around a subresource that is not there; "" for one that stands
// for a change of its object.
func (w *write) notServed(r state.Reader) string {
	switch w.sub {
	case "":
		return ""
	case "exec":
		return enterWay + "; `podman cp` copies files"
	case "attach":
		return "`kubectl logs -f` shows what the container writes; into it: " + enterWay
	case "ephemeralcontainers":
		return "there are no debug containers: " + enterWay
	case "portforward", "proxy":
		return w.reach(r)
	case "token":
		return "service accounts have no tokens: `fairlead kubeconfig --reader NAME`, on the master's machine, makes a reader's credentials"
	case "binding", "status", "finalize", "approval":
		return "the master writes it itself"
	}
	return ""
}

// maker is who makes objects of a kind that stand in no source.
func (w *write) maker(kind schema.Kind) string {
	if of := rows.Of(kind); of != nil {
		return of.maker.Do
	}
	return w.res.maker
}

// reach is how to talk to what the client asked for.
func (w *write) reach(r state.Reader) string {
	obj := w.res.get(r, w.namespace, w.name)
	if obj == nil || w.res.reach == nil {
		return reachAt("")
	}
	return w.res.reach(obj)
}

// reachAt is how to talk to an address in the cluster, "" for one that is not known.
func reachAt(address string) string {
	const elsewhere = "; from elsewhere reach it through a Service of type NodePort"
	if address == "" {
		return "every node and pod reaches pods and services by their addresses" + elsewhere
	}
	return "every node and pod reaches it at " + address + elsewhere
}
