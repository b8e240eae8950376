package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	corev1 "k8s.io/api/core/v1"

	"fairlead/schema"
)

// grpcAnswer and grpcHeaders are how much of an answer is read: one of the health protocol
// is a few bytes, and what it says of a failure stands in its headers.
const (
	grpcAnswer  = 4 << 10
	grpcHeaders = 16 << 10
)

// grpc asks by the gRPC health protocol
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md), without TLS as
// Kubernetes does. Each probe is a connection of its own.
func (p probe) grpc(ctx context.Context, action *corev1.GRPCAction) error {
	service := ""
	if action.Service != nil {
		service = *action.Service
	}
	conn, err := grpc.NewClient("passthrough:///"+net.JoinHostPort(p.ip, strconv.Itoa(int(action.Port))),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("kube-probe/"+schema.KubernetesMajor+"."+schema.KubernetesMinor),
		grpc.WithMaxHeaderListSize(grpcHeaders),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(grpcAnswer)),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	answer, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{Service: service})
	said := status.Convert(err)
	switch {
	case err == nil && answer.Status == health.HealthCheckResponse_SERVING:
		return nil
	case err == nil:
		return fmt.Errorf("gRPC service %q answers %s", service, answer.Status)
	case said.Code() == codes.Unimplemented:
		return errors.New("the server does not implement the gRPC health protocol (grpc.health.v1.Health)")
	case said.Code() == codes.NotFound:
		return fmt.Errorf("the server knows no gRPC service %q", service)
	}
	return fmt.Errorf("gRPC health check failed: %s", schema.FitText(said.Message(), messageBytes))
}
