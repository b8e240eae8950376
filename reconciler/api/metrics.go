package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairlead/reconciler/health"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

// metrics counts what the port does and, at each scrape, what the cluster holds.
type metrics struct {
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
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
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_api_refused_total", Help: "Requests refused because their door or their caller had no room, by door.",
		}, []string{"door"}),
		handler: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	own := []prometheus.Collector{
		m.requests, m.refused,
		objectCounts{s}, standings{s}, rounds{s},
		gauge("fairlead_api_watches", "Watches open now.", func() float64 { return float64(s.watches.Load()) }),
		gauge("fairlead_api_work_streams", "Agents connected now.", func() float64 { return float64(s.door.connected()) }),
		connectionCounts{s},
		gauge("fairlead_resource_version", "resourceVersion of the published snapshot.", func() float64 {
			return float64(s.cfg.Feed.Snapshot().Counters().ResourceVersion)
		}),
		gauge("fairlead_records_set_aside", "Records of the store that could not be read and are set aside.", func() float64 {
			if s.cfg.Aside == nil {
				return 0
			}
			return float64(s.cfg.Aside())
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

// Rounds is what the loop tells of the rounds it has decided since it started.
type Rounds struct {
	Count uint64
	// Took is the time that all of them took, by the clock, and Longest the longest;
	// Computed and LongestComputed are what the loop's own thread computed in
	// that time: a machine that is busy otherwise does not make it longer.
	Took, Longest             time.Duration
	Computed, LongestComputed time.Duration
}

// rounds tells of the loop.
type rounds struct{ s *Server }

var (
	roundsDesc          = prometheus.NewDesc("fairlead_round_seconds", "Time that deciding rounds took.", nil, nil)
	longestDesc         = prometheus.NewDesc("fairlead_round_longest_seconds", "The longest round since the start.", nil, nil)
	computedDesc        = prometheus.NewDesc("fairlead_round_cpu_seconds", "CPU time that deciding rounds took the loop's thread.", nil, nil)
	longestComputedDesc = prometheus.NewDesc("fairlead_round_longest_cpu_seconds", "The most CPU time that a round took since the start.", nil, nil)
)

func (c rounds) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{roundsDesc, longestDesc, computedDesc, longestComputedDesc} {
		ch <- d
	}
}

func (c rounds) Collect(ch chan<- prometheus.Metric) {
	if c.s.cfg.Rounds == nil {
		return
	}
	r := c.s.cfg.Rounds()
	ch <- prometheus.MustNewConstSummary(roundsDesc, r.Count, r.Took.Seconds(), nil)
	ch <- prometheus.MustNewConstMetric(longestDesc, prometheus.GaugeValue, r.Longest.Seconds())
	ch <- prometheus.MustNewConstSummary(computedDesc, r.Count, r.Computed.Seconds(), nil)
	ch <- prometheus.MustNewConstMetric(longestComputedDesc, prometheus.GaugeValue, r.LongestComputed.Seconds())
}

// connectionCounts tells how many connections of each class there are.
type connectionCounts struct{ s *Server }

var connectionsDesc = prometheus.NewDesc("fairlead_api_connections", "Connections open now, by class.", []string{"class"}, nil)

func (c connectionCounts) Describe(ch chan<- *prometheus.Desc) { ch <- connectionsDesc }

func (c connectionCounts) Collect(ch chan<- prometheus.Metric) {
	for _, l := range ConnectionLimits() {
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(c.s.listening.Load().count(l.Class)), string(l.Class))
	}
}

// standings tell of each source whether it matches Git and whether it works: 1 for the
// word that is true, 0 for the others.
type standings struct{ s *Server }

var (
	syncDesc   = prometheus.NewDesc("fairlead_source_sync", "Whether the cluster matches what Git asks of a source, by word.", []string{"source", "word"}, nil)
	healthDesc = prometheus.NewDesc("fairlead_source_health", "Whether the revision of a source that runs works, by word.", []string{"source", "word"}, nil)
)

func (c standings) Describe(ch chan<- *prometheus.Desc) { ch <- syncDesc; ch <- healthDesc }

func (c standings) Collect(ch chan<- prometheus.Metric) {
	snapshot := c.s.cfg.Feed.Snapshot()
	for src := range state.All[*schema.Source](snapshot, "") {
		if rev, ok := health.Asked(snapshot, src); ok {
			tellWords(ch, syncDesc, src.SourceName(), schema.SyncWords, rev.Status.Sync)
		}
		if rev, ok := health.Applied(snapshot, src); ok {
			tellWords(ch, healthDesc, src.SourceName(), schema.HealthWords, rev.Status.Health)
		}
	}
}

func tellWords(ch chan<- prometheus.Metric, desc *prometheus.Desc, source schema.SourceName, words []string, now *schema.Standing) {
	for _, word := range words {
		value := 0.0
		if now != nil && now.Word == word {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, string(source), word)
	}
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
