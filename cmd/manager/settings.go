package main

import (
	"os"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"heymarket.dev/operator/internal/controller"
)

// settings returns the controller's settings from the flags.
func (o options) settings(liveness *controller.Liveness) controller.Settings {
	return controller.Settings{
		ReceiverImage:         o.receiverImage,
		ReceiverUserID:        int64(o.receiverUserID),
		ReceiverDefaults:      o.defaults,
		HostTemplate:          o.hostTemplate,
		AllowedHosts:          o.allowedHosts,
		AllowedAnnotations:    o.annotations,
		AllowedLabels:         o.labels,
		IngressClass:          o.ingressClass,
		Gateways:              o.gateways,
		TargetAddresses:       o.targets,
		TrustedProxies:        o.trustedProxies,
		Traces:                o.traces,
		ProbeInterval:         o.probeInterval,
		NetworkPolicy:         o.networkPolicy,
		MaxConcurrentRollouts: o.maxRollouts,
		MaxBacklogBytes:       o.maxBacklog,
		Namespaces:            o.namespaces,
		Liveness:              liveness,
		RedisIsolation:        o.redisIsolation,
		RedisRotation:         o.redisRotation,
		OperatorNamespace:     os.Getenv("POD_NAMESPACE"),
	}
}

// manager returns controller-runtime's options from the flags.
func (o options) manager(logger logr.Logger) ctrl.Options {
	return ctrl.Options{
		Scheme:                        controller.Scheme(),
		Logger:                        logger,
		Cache:                         controller.CacheOptions(o.namespaces),
		Client:                        controller.ClientOptions(o.namespaces),
		Metrics:                       server.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.healthAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              "heymarket-operator",
		LeaderElectionNamespace:       os.Getenv("POD_NAMESPACE"),
		LeaderElectionReleaseOnCancel: true, // The program ends with the manager.
		GracefulShutdownTimeout:       new(shutdownTimeout),
	}
}
