package desired

import (
	"strconv"

	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
)

// Traces say where receivers send spans of what they do. The zero value means nowhere.
type Traces struct {
	// Endpoint is the URL of a collector that takes OTLP over HTTP, such as http://collector.observability:4318.
	Endpoint string
	// Ratio is the share of traces that receivers record, from 0 to 1. A trace that somebody else has begun is recorded if
	// they say so.
	Ratio float64
}

// variables are those of OpenTelemetry's SDK environment variable specification.
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
