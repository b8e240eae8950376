package nodeagent_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairlead/nodeagent"
	"fairlead/nodeagent/pod"
	"fairlead/schema"
	"fairlead/schema/wire"
)

func (r *rig) condition(uid types.UID, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range r.report(uid).Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func (r *rig) trouble() string {
	r.master.mu.Lock()
	defer r.master.mu.Unlock()
	if r.master.report == nil || r.master.report.Problem == nil {
		return ""
	}
	return r.master.report.Problem.Reason
}

// What keeps a container from its start has the reason of whoever must act.
func TestAWaitingContainerHasItsReason(t *testing.T) {
	for _, tc := range []struct {
		name, spec string
		before     func(r *rig)
		want       string
	}{
		{"the image is missing", `containers: [{name: c, image: "registry.example/none:1"}]`, nil, schema.ReasonImagePullBackOff},
		{"the registry does not answer", `containers: [{name: c, image: "registry.example/none:1"}]`, func(r *rig) {
			r.runtime.Fail("pull", fmt.Errorf("%w: connection refused", nodeagent.ErrNoRegistry))
		}, schema.ReasonRegistryUnavailable},
		{"the registry denies it", `containers: [{name: c, image: "registry.example/none:1"}]`, func(r *rig) {
			r.runtime.Fail("pull", fmt.Errorf("%w: unauthorized", nodeagent.ErrDenied))
		}, schema.ReasonRegistryDenied},
		{"the node cannot keep the image", `containers: [{name: c, image: "registry.example/none:1"}]`, func(r *rig) {
			r.runtime.Fail("pull", fmt.Errorf("%w: no space left on device", nodeagent.ErrNode))
		}, schema.ReasonNodeError},
		{"the image names no registry", `containers: [{name: c, image: "localhost/none:1", imagePullPolicy: Always}]`, nil, schema.ReasonErrImageNeverPull},
		{"the image may not be pulled", `containers: [{name: c, image: "registry.example/none:1", imagePullPolicy: Never}]`, nil, schema.ReasonErrImageNeverPull},
		{"the node cannot make it", `containers: [{name: c}]`, func(r *rig) {
			r.runtime.Fail("create", fmt.Errorf("%w: no cgroups", nodeagent.ErrNode))
		}, schema.ReasonNodeError},
		{"the node cannot start it", `containers: [{name: c}]`, func(r *rig) {
			r.runtime.Fail("start", fmt.Errorf("%w: no conmon", nodeagent.ErrNode))
		}, schema.ReasonNodeError},
		{"a key is missing", `containers: [{name: c, env: [{name: X, valueFrom: {secretKeyRef: {name: x, key: y}}}]}]`, nil, schema.ReasonContainerConfig},
		{"a ConfigMap is missing", `containers: [{name: c, envFrom: [{configMapRef: {name: x}}]}]`, nil, schema.ReasonContainerConfig},
		{"what is asked for cannot be done", `containers: [{name: c, volumeMounts: [{name: x, mountPath: /x}]}]`, nil, schema.ReasonContainerCreate},
		{"the start fails", `containers: [{name: c}]`, func(r *rig) { r.runtime.Fail("start", errors.New("no such file")) }, schema.ReasonContainerRun},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lied(t, func(r *rig) {
				if tc.before != nil {
					tc.before(r)
				}
				r.run("uid-1", tc.spec)
				r.awaitStatus("uid-1", "Pending "+tc.want)
				time.Sleep(awhile)
				if got := r.status("uid-1"); got != "Pending "+tc.want {
					t.Errorf("after more attempts: %s", got)
				}
			})
		})
	}
}

// A registry is asked with what the pod's imagePullSecrets have for it; who is refused
// learns with what it was asked.
func TestImagesArePulledWithThePodsCredentials(t *testing.T) {
	const image = "registry.example/private:1"
	spec := `{imagePullSecrets: [{name: old}, {name: registry}], containers: [{name: c, image: "` + image + `", args: [stay]}]}`
	config := func(password string) map[string][]byte {
		return map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths": {"registry.example": {"username": "u", "password": "` + password + `"}}}`)}
	}
	lied(t, func(r *rig) {
		r.runtime.Private(image, pod.Credential{User: "u", Password: "new"})
		r.master.publish(func(w *wire.Work) { w.Secrets["shop/old"] = config("old") })
		r.run("uid-1", spec)
		r.awaitStatus("uid-1", "Pending "+schema.ReasonRegistryDenied)
		said := r.report("uid-1").Status.ContainerStatuses[0].State.Waiting.Message
		if !strings.Contains(said, "shop/registry") || strings.Contains(said, "old\"") {
			t.Errorf("refused: %s", said)
		}
		r.master.publish(func(w *wire.Work) { w.Secrets["shop/registry"] = config("new") })
		r.awaitStatus("uid-1", "Running Ready")
	})
}

// A pod none of whose containers had their turn says in its condition why.
func TestAPodThatCannotBeSetUpHasItsReason(t *testing.T) {
	for _, tc := range []struct {
		name, spec string
		before     func(r *rig)
		want       string
	}{
		{"a volume's ConfigMap is missing", `{containers: [{name: c}], volumes: [{name: v, configMap: {name: x}}]}`, nil, schema.ReasonContainerConfig},
		{"a volume's key is missing", `{containers: [{name: c}], volumes: [{name: v, projected: {sources: [{secret: {name: x, items: [{key: k, path: k}]}}]}}]}`, func(r *rig) {
			r.master.publish(func(w *wire.Work) { w.Secrets["shop/x"] = map[string][]byte{"z": nil} })
		}, schema.ReasonContainerConfig},
		{"a hostPath is missing", `{containers: [{name: c}], volumes: [{name: v, hostPath: {path: /nowhere/at/all, type: Directory}}]}`, nil, schema.ReasonMount},
		{"the network refuses", `{containers: [{name: c}]}`, func(r *rig) {
			r.network.mu.Lock()
			defer r.network.mu.Unlock()
			r.network.sandboxes["uid-9"] = netip.MustParseAddr("10.112.0.1") // another's already
		}, schema.ReasonSandbox},
		{"a full name that is too long", `{hostname: h, subdomain: ` + strings.Repeat("d", 63) + `, setHostnameAsFQDN: true, containers: [{name: c}]}`, nil, schema.ReasonContainerConfig},
		{"a sysctl that the node does not allow", `{securityContext: {sysctls: [{name: net.core.somaxconn, value: "5"}]}, containers: [{name: c}]}`, nil, schema.ReasonContainerConfig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lied(t, func(r *rig) {
				r.await("the agent has begun", func() bool { r.master.mu.Lock(); defer r.master.mu.Unlock(); return r.master.report != nil })
				if tc.before != nil {
					tc.before(r)
				}
				r.run("uid-1", tc.spec)
				r.await("the reason", func() bool {
					c := r.condition("uid-1", corev1.PodReadyToStartContainers)
					return c.Status == corev1.ConditionFalse && c.Reason == tc.want && c.Message != ""
				})
			})
		})
	}
}

// What ended a container, where it was not its own doing, is its reason.
func TestAnEndHasItsReason(t *testing.T) {
	ended := func(r *rig, want string) {
		r.t.Helper()
		r.await("the end "+want, func() bool { reason, _ := r.lastState("uid-1"); return reason == want })
	}
	t.Run("a liveness probe", func(t *testing.T) {
		lied(t, func(r *rig) {
			r.run("uid-1", `containers: [{name: c, args: [stay], livenessProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/program, exit, "1"]}}}]`)
			ended(r, schema.ReasonUnhealthy)
		})
	})
	t.Run("a startup probe", func(t *testing.T) {
		lied(t, func(r *rig) {
			r.run("uid-1", `containers: [{name: c, args: [stay], startupProbe: {periodSeconds: 1, failureThreshold: 1, exec: {command: [/program, exit, "1"]}}}]`)
			ended(r, schema.ReasonUnhealthy)
		})
	})
	t.Run("a boot", func(t *testing.T) {
		lied(t, func(r *rig) {
			r.run("uid-1", `containers: [{name: c, args: [stay]}]`)
			r.awaitStatus("uid-1", "Running Ready")
			r.stop()
			r.runtime.Die("fl-uid1-c-0", pod.Exit{Code: 137})
			r.network.sandboxes = map[types.UID]netip.Addr{}
			r.bootID = "boot-2"
			r.start()
			ended(r, schema.ReasonNodeRebooted)
		})
	})
	t.Run("a grace period that was not enough", func(t *testing.T) {
		lied(t, func(r *rig) {
			r.run("uid-1", "terminationGracePeriodSeconds: 1\ncontainers: [{name: c, args: [stubborn]}]")
			r.awaitStatus("uid-1", "Running Ready")
			r.remove("uid-1", true)
			r.await("gone", func() bool { return r.report("uid-1").Gone })
			if !r.happened(schema.ReasonExceededGracePeriod) {
				t.Error("nobody is told that SIGKILL had to follow")
			}
		})
	})
	t.Run("a pod that ends in time", func(t *testing.T) {
		lied(t, func(r *rig) {
			r.run("uid-1", `containers: [{name: c, args: [stay]}]`)
			r.awaitStatus("uid-1", "Running Ready")
			r.remove("uid-1", true)
			r.await("gone", func() bool { return r.report("uid-1").Gone })
			if r.happened(schema.ReasonExceededGracePeriod) {
				t.Error("it is told to have exceeded its grace period")
			}
		})
	})
}

// A node whose runtime answers nothing for long says that it cannot work, and
// takes that back; what the service's own restart mends is no trouble.
func TestANodeWithoutItsRuntimeSaysSo(t *testing.T) {
	for name, take := range map[string]func(*rig){"down": func(r *rig) { r.runtime.KillService() }, "hung": func(r *rig) { r.runtime.Hang() }} {
		t.Run(name, func(t *testing.T) {
			lied(t, func(r *rig) {
				r.run("uid-1", "containers: [{name: c, args: [stay]}]")
				r.awaitStatus("uid-1", "Running Ready")
				take(r)
				time.Sleep(15 * time.Second)
				if got := r.trouble(); got != "" {
					t.Errorf("trouble after 15s: %s", got)
				}
				r.await("trouble", func() bool { return r.trouble() == schema.ReasonRuntimeUnavailable })
				r.runtime.StartService()
				r.await("no trouble", func() bool { return r.trouble() == "" })
				if got := r.runtime.Running(); !slices.Equal(got, []string{"fl-uid1-c-0"}) {
					t.Errorf("running: %v", got)
				}
			})
		})
	}
}

func TestANodeWhoseNetworkRefusesSaysSo(t *testing.T) {
	lied(t, func(r *rig) {
		refuse := func(err error) {
			r.network.mu.Lock()
			defer r.network.mu.Unlock()
			r.network.err = err
		}
		refuse(errors.New("no such table"))
		r.run("uid-1", "containers: [{name: c, args: [stay]}]")
		time.Sleep(15 * time.Second)
		if got := r.trouble(); got != "" {
			t.Errorf("trouble after 15s: %s", got)
		}
		r.await("trouble", func() bool { return r.trouble() == schema.ReasonNetworkUnavailable })
		refuse(nil)
		r.await("no trouble", func() bool { return r.trouble() == "" })
		r.awaitStatus("uid-1", "Running Ready")
	})
}
