package main

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/restock-dev/restock/internal/otlp"
)

// otlpFlags are where a part's spans go.
type otlpFlags struct {
	OTLP       string `name:"otlp" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"OpenTelemetry collector to send spans to, by OTLP over HTTP at URL/v1/traces. Default: no tracing. OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS and the like are read as by any OpenTelemetry SDK."`
	OTLPTraces string `name:"otlp-traces" env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" placeholder:"URL" help:"The same for a collector that takes spans at URL itself."`
}

// start begins to send the spans of a part.
func (f otlpFlags) start(inv *invocation, part string, attributes ...attribute.KeyValue) (*otlp.Tracing, error) {
	t, err := otlp.Start(inv, otlp.Config{
		Service: "restock-" + part, Attributes: attributes, Collector: f.OTLP, Endpoint: f.OTLPTraces,
		Logger: inv.log.With().Str("part", "tracing").Logger(),
	})
	if err != nil {
		return nil, &setupError{err}
	}
	return t, nil
}
