package desired

import (
	"strconv"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// Traces configure where receivers send spans. The zero value disables tracing.
type Traces struct {
	// Endpoint is the URL of a collector that accepts OTLP over HTTP, such as http://collector.observability:4318.
	Endpoint string
	// Ratio is the share of traces that receivers record, from 0 to 1. For a trace started elsewhere, the caller's
	// sampling decision applies.
	Ratio float64
}

// variables returns the variables of OpenTelemetry's SDK environment specification.
func (t Traces) variables() []*corev1ac.EnvVarApplyConfiguration {
	if t.Endpoint == "" {
		return nil
	}
	out := []*corev1ac.EnvVarApplyConfiguration{variable("OTEL_EXPORTER_OTLP_ENDPOINT", t.Endpoint)}
	if t.Ratio < 1 {
		out = append(out,
			variable("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
			variable("OTEL_TRACES_SAMPLER_ARG", strconv.FormatFloat(t.Ratio, 'f', -1, 64)))
	}
	return out
}

func variable(name, value string) *corev1ac.EnvVarApplyConfiguration {
	return corev1ac.EnvVar().WithName(name).WithValue(value)
}
