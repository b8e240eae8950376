package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
	"fairlead/schema/wire"
)

// caller is who sent a request.
type caller struct{ kind, name string }

type callerKey struct{}

func callerOf(r *http.Request) caller {
	c, _ := r.Context().Value(callerKey{}).(caller)
	return c
}

// routes is the whole port as a table: which door a path is, and what answers. The
// door says who may come in.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(l *Limit, pattern string, next http.HandlerFunc) { mux.Handle(pattern, s.admit(l, next)) }
	handle(doorHealth, "GET /version", s.serveVersion)
	handle(doorHealth, "GET /healthz", s.serveAlive)
	handle(doorHealth, "GET /livez", s.serveAlive)
	handle(doorHealth, "GET /readyz", s.serveReady)

	handle(doorJoin, "POST "+wire.PathJoin, s.serveJoin)
	handle(doorRenew, "POST "+wire.PathRenew, s.serveRenew)
	handle(doorWork, "GET "+wire.PathWork, s.serveWork)
	handle(doorReport, "POST "+wire.PathReport, s.serveReport)
	handle(doorLogAnswers, "POST "+wire.PathLogs+"{id}", s.serveLogAnswer)
	handle(doorKept, "POST "+wire.PathKept, s.serveKept)

	handle(doorReads, "GET /metrics", s.metrics.handler.ServeHTTP)
	handle(doorReads, "GET /api", s.serveCoreVersions)
	handle(doorReads, "GET /api/v1", s.serveResourceList)
	handle(doorReads, "GET /apis", s.serveGroups)
	handle(doorReads, "GET /apis/{group}", s.serveGroup)
	handle(doorReads, "GET /apis/{group}/{version}", s.serveResourceList)
	handle(doorReads, "GET /openapi/v2", serveOpenAPIv2)
	handle(doorReads, "GET /openapi/v3", serveOpenAPIv3Index)
	handle(doorReads, "GET /openapi/v3/{path...}", serveOpenAPIv3)
	handle(doorReads, "POST /apis/authorization.k8s.io/v1/{resource}", s.serveReview)
	handle(doorReads, "POST /apis/authentication.k8s.io/v1/{resource}", s.serveReview)
	handle(doorPlan, "POST /apis/"+schema.Group+"/v1/plan", s.recovered(s.servePlan))
	for prefix, b := range s.cfg.Beside {
		door := doorHooks
		if b.Pusher != nil {
			door = doorGit
		}
		mux.Handle(prefix, s.beside(door, b))
	}
	mux.Handle("/api/v1/{path...}", s.objects())
	mux.Handle("/apis/{group}/{version}/{path...}", s.objects())
	handle(doorReads, "/", func(w http.ResponseWriter, r *http.Request) { writeError(w, errNoPath(r)) })
	return s.metrics.count(mux)
}

// objects leads to the door that a path below a group and version is: a read, a
// watch and a log hold different things for different times.
func (s *Server) objects() http.Handler {
	handler := s.recovered(s.serveObjects)
	reads, watches, logs := s.admit(doorReads, handler), s.admit(doorWatches, handler), s.admit(doorLogs, handler)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, ok := s.target(r)
		read := ok && (r.Method == http.MethodGet || r.Method == http.MethodHead)
		switch {
		case read && t.sub == "log" && t.res.Logs:
			logs.ServeHTTP(w, r)
		case read && t.sub == "" && isTrue(r.URL.Query().Get("watch")):
			watches.ServeHTTP(w, r)
		default:
			reads.ServeHTTP(w, r)
		}
	})
}

// recovered lets nobody look at a cluster that is not known again yet: nothing
// is not the answer to what there is.
func (s *Server) recovered(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.door.recovering() {
			next(w, r)
			return
		}
		reason := "the cluster is being recovered from its nodes"
		if s.cfg.Ready != nil {
			if err := s.cfg.Ready(); err != nil {
				reason = err.Error()
			}
		}
		writeError(w, newStatus(http.StatusServiceUnavailable, schema.ReasonRecovering, reason))
	}
}

// kubernetesPatch completes schema's version of Kubernetes, for clients that want one.
const kubernetesPatch = "2"

func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	version := "v" + schema.KubernetesMajor + "." + schema.KubernetesMinor + "." + kubernetesPatch + "+fairlead"
	if v := semverBuild(s.cfg.Version); v != "" {
		version += "." + v
	}
	writeJSON(w, http.StatusOK, map[string]string{
		"major": schema.KubernetesMajor, "minor": schema.KubernetesMinor, "gitVersion": version, "gitCommit": "", "gitTreeState": "clean",
		"buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "gc", "platform": "linux/amd64",
	})
}

// semverBuild keeps what may stand after a version's "+".
func semverBuild(v string) string {
	return strings.Trim(strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' {
			return c
		}
		return '-'
	}, v), ".-")
}

func (s *Server) serveAlive(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok")
}

func writeText(w http.ResponseWriter, code int, text string) {
	writeBody(w, code, "text/plain; charset=utf-8", []byte(text))
}

// serveReady says whether the master may be asked. With ?verbose it tells of each check
// in a line, as Kubernetes' servers do: [+] it passed, [-] it failed, and AttentionMark.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	code, summary, recovery := http.StatusOK, "readyz check passed", "[+]recovery ok"
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(); err != nil {
			code, summary, recovery = http.StatusServiceUnavailable, "readyz check failed", "[-]recovery: "+err.Error()
		}
	}
	switch {
	case r.URL.Query().Has("verbose"):
		writeText(w, code, strings.Join([]string{recovery, s.recordsCheck(), summary}, "\n")+"\n")
	case code != http.StatusOK:
		writeText(w, code, "not ready: "+strings.TrimPrefix(recovery, "[-]recovery: ")+"\n")
	default:
		s.serveAlive(w, r)
	}
}

// AttentionMark begins the lines of /readyz?verbose that tell of what does not keep the
// master from working and somebody should look at.
const AttentionMark = "[!]"

func (s *Server) recordsCheck() string {
	n := 0
	if s.cfg.Aside != nil {
		n = s.cfg.Aside()
	}
	switch n {
	case 0:
		return "[+]records ok"
	case 1:
		return AttentionMark + "records: 1 of the store could not be read and is set aside: see the master's log, and operations.md, records that cannot be read"
	}
	return fmt.Sprintf(AttentionMark+"records: %d of the store could not be read and are set aside: see the master's log, and operations.md, records that cannot be read", n)
}

// target is what a path below a group and version names.
type target struct {
	res       *resource
	namespace string
	name      string
	sub       string // subresource
}

// target reads a path as Kubernetes lays them out: [namespaces/NS/]RESOURCE[/NAME[/SUB]].
func (s *Server) target(r *http.Request) (target, bool) {
	group, version := r.PathValue("group"), r.PathValue("version")
	if version == "" {
		version = "v1"
	}
	parts := strings.Split(strings.TrimSuffix(r.PathValue("path"), "/"), "/")
	var t target
	if len(parts) >= 3 && parts[0] == "namespaces" && s.kinds[group+"/"+version+"/"+parts[2]] != nil {
		t.namespace, parts = parts[1], parts[2:]
	}
	t.res = s.kinds[group+"/"+version+"/"+parts[0]]
	if len(parts) > 3 && parts[2] == "proxy" {
		parts = parts[:3] // what follows is the other side's
	}
	if t.res == nil || len(parts) > 3 || t.namespace != "" && !t.res.Namespaced {
		return t, false
	}
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.sub = parts[2]
	}
	if t.name != "" && t.res.Namespaced && t.namespace == "" {
		return t, false
	}
	return t, true
}

func (s *Server) serveObjects(w http.ResponseWriter, r *http.Request) {
	t, ok := s.target(r)
	switch {
	case !ok:
		writeError(w, errNoPath(r))
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		writeError(w, s.refuseWrite(r, t))
	case t.sub == "log" && t.res.Logs:
		s.serveLog(w, r, t)
	case streamed[t.sub]:
		writeError(w, s.refuseWrite(r, t)) // newer clients ask by GET, for a WebSocket
	case t.sub != "":
		writeError(w, errNoPath(r))
	case t.name != "" && !isTrue(r.URL.Query().Get("watch")):
		s.serveGet(w, r, t)
	default:
		s.serveCollection(w, r, t)
	}
}

// streamed are subresources that clients talk with.
var streamed = map[string]bool{"exec": true, "attach": true, "portforward": true, "proxy": true}

func isTrue(s string) bool {
	v, err := strconv.ParseBool(s)
	return err == nil && v
}

func errNoPath(r *http.Request) *apierrors.StatusError {
	return newStatus(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource "+r.URL.Path)
}

func (s *Server) now() metav1.Time { return metav1.Time{Time: s.cfg.Now().Truncate(time.Second)} }
