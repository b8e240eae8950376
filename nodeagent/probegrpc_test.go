package nodeagent

import (
	"context"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	corev1 "k8s.io/api/core/v1"

	"fairlead/nodeagent/pod"
)

// serveGRPC answers on loopback until the test ends, and returns the port.
func serveGRPC(t *testing.T, register func(*grpc.Server)) int32 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-served })
	return int32(listener.Addr().(*net.TCPAddr).Port)
}

// talkative is a health service that explains at that length why it fails.
type talkative int

func (n talkative) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return nil, status.Error(codes.Internal, strings.Repeat("x", int(n)))
}

func (n talkative) List(context.Context, *grpc_health_v1.HealthListRequest) (*grpc_health_v1.HealthListResponse, error) {
	return nil, status.Error(codes.Unimplemented, "")
}

func (n talkative) Watch(*grpc_health_v1.HealthCheckRequest, grpc_health_v1.Health_WatchServer) error {
	return status.Error(codes.Unimplemented, "")
}

func TestGRPCProbes(t *testing.T) {
	state := health.NewServer()
	state.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	state.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	healthy := serveGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, state) })
	other := serveGRPC(t, func(*grpc.Server) {})
	long := serveGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, talkative(12<<10)) })
	endless := serveGRPC(t, func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, talkative(1<<20)) })
	listener, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	silent := int32(listener.Addr().(*net.TCPAddr).Port)
	for _, test := range []struct {
		name    string
		port    int32
		service string
		want    string // in the error; "" for a success
	}{
		{"the server as a whole", healthy, "", ""},
		{"a service", healthy, "up", ""},
		{"a service that is down", healthy, "down", `gRPC service "down" answers NOT_SERVING`},
		{"a service that is not there", healthy, "none", `the server knows no gRPC service "none"`},
		{"another protocol", other, "", "the server does not implement the gRPC health protocol (grpc.health.v1.Health)"},
		{"a long explanation", long, "", "gRPC health check failed: xxx"},
		{"one without end", endless, "", "gRPC health check failed: "},
		{"no answer", silent, "", "no answer within 1s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := probe{kind: pod.ProbeReadiness, ip: "127.0.0.1", spec: &corev1.Probe{TimeoutSeconds: 1, ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: test.port, Service: &test.service}}}}
			if test.port != silent {
				p.spec.TimeoutSeconds = 60
			}
			_, err := p.once(context.Background())
			if got := ""; err != nil {
				got = err.Error()
				if len(got) > messageBytes+100 {
					t.Errorf("it tells %d bytes", len(got))
				}
				if test.want == "" || !strings.Contains(got, test.want) {
					t.Errorf("got %q, want %q", got, test.want)
				}
			} else if test.want != "" {
				t.Errorf("passes, want %q", test.want)
			}
		})
	}
}
