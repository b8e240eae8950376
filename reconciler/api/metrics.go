package api

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairlead/schema"
)

// metrics counts what the port does and, at each scrape, what the cluster holds.
type metrics struct {
	requests *prometheus.CounterVec
	handler  http.Handler
}

func newMetrics(reg *prometheus.Registry, s *Server) (*metrics, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_api_requests_total", Help: "Requests answered, by method and status code.",
		}, []string{"method", "code"}),
		handler: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	own := []prometheus.Collector{
		m.requests,
		objectCounts{s},
		gauge("fairlead_api_watches", "Watches open now.", func() float64 { return float64(s.watches.Load()) }),
		gauge("fairlead_api_work_streams", "Agents connected now.", func() float64 { return float64(s.door.connected()) }),
		gauge("fairlead_resource_version", "resourceVersion of the published snapshot.", func() float64 {
			return float64(s.cfg.Feed.Snapshot().Counters().ResourceVersion)
		}),
		s.door.frames, s.door.frameBytes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	}
	for _, c := range own {
		var already prometheus.AlreadyRegisteredError
		if err := reg.Register(c); err != nil && !errors.As(err, &already) {
			return nil, err
		}
	}
	return m, nil
}

// objectCounts tells how many objects of each kind there are.
type objectCounts struct{ s *Server }

var objectsDesc = prometheus.NewDesc("fairlead_objects", "Objects in the published snapshot, by kind.", []string{"kind"}, nil)

func (c objectCounts) Describe(ch chan<- *prometheus.Desc) { ch <- objectsDesc }

func (c objectCounts) Collect(ch chan<- prometheus.Metric) {
	snapshot := c.s.cfg.Feed.Snapshot()
	for _, k := range schema.Kinds() {
		ch <- prometheus.MustNewConstMetric(objectsDesc, prometheus.GaugeValue, float64(snapshot.Len(k.Kind)), string(k.Kind))
	}
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) {
	boundAnswer(w)
	m.handler.ServeHTTP(w, r)
}

// count counts next's answers.
func (m *metrics) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &codeRecorder{ResponseWriter: w, code: http.StatusOK}
		defer func() { m.requests.WithLabelValues(methodLabel(r.Method), strconv.Itoa(rec.code)).Inc() }()
		next.ServeHTTP(rec, r)
	})
}

// methodLabel keeps a client from inventing time series.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return method
	}
	return "other"
}

type codeRecorder struct {
	http.ResponseWriter
	code int
}

func (c *codeRecorder) WriteHeader(code int) {
	c.code = code
	c.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (c *codeRecorder) Unwrap() http.ResponseWriter { return c.ResponseWriter }
