// Package otlp sends the spans of a part to an OpenTelemetry collector, by OTLP
// over HTTP.
//
//	t, err := otlp.Start(ctx, otlp.Config{Service: "restock-api", Collector: url, Logger: log})
//	...
//	defer t.Stop()
//	a, err := api.New(ctx, api.Config{Tracing: t.Provider(), …})
//
// # Promises
//
// A collector that is slow, dead or refuses holds up nobody: a span that ends is
// put into a queue of bounded length, or dropped where that is full, and sent from
// there by a goroutine of its own. How many were not sent, refused by a collector that
// took the rest, or dropped is told in the log at most once a minute. Stop sends what is left, for StopTimeout at most. No headers, where
// credentials stand, no values of variables and of the URL nothing but the host are
// logged.
//
// Besides the endpoint everything is as the SDK's own variables say: OTEL_SERVICE_NAME,
// OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_SPAN_*_LIMIT,
// OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, _COMPRESSION, _CERTIFICATE and so on. The
// SDK reads those itself. Who wants none of them takes them out of the environment.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// StopTimeout is how long Stop may take to send what is left.
const StopTimeout = 3 * time.Second

// Config says whose spans go where.
type Config struct {
	// Service names the part, unless OTEL_SERVICE_NAME does.
	Service string
	// Attributes tell more of the part than its name.
	Attributes []attribute.KeyValue
	// Collector is the URL of one that takes spans at /v1/traces below it, Endpoint the
	// URL of one that takes them there; it is the one that counts. Without either
	// nothing is traced.
	Collector, Endpoint string
	Logger              zerolog.Logger
}

// Tracing is a part's spans on their way. A nil one makes none.
type Tracing struct {
	provider *sdk.TracerProvider
	sender   *quiet
	log      zerolog.Logger
}

// Start checks cfg and begins to send. It does not need the collector to be there.
// Where nothing is to be traced it returns nil.
func Start(ctx context.Context, cfg Config) (*Tracing, error) {
	if cfg.Collector == "" && cfg.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracing is one that does nothing
	}
	endpoint, err := endpointOf(cfg)
	if err != nil {
		return nil, err
	}
	log := cfg.Logger.With().Str("service", cfg.Service).Str("to", endpoint.Host).Logger()
	listen(log)
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.String()))
	if err != nil {
		return nil, fmt.Errorf("prepare to send spans: %w", err)
	}
	of, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", cfg.Service), attribute.String("service.version", version())),
		resource.WithAttributes(cfg.Attributes...),
		resource.WithFromEnv(), // the last one wins
	)
	if err != nil {
		log.Warn().Err(err).Msg("spans will not tell all of where they come from")
	}
	sender := &quiet{SpanExporter: exporter, endpoint: endpoint, log: log, now: time.Now}
	return &Tracing{
		provider: sdk.NewTracerProvider(sdk.WithResource(of), sdk.WithSpanProcessor(newBounded(sender))),
		sender:   sender, log: log,
	}, nil
}

// endpointOf is where spans are posted to. Its error does not show the URL, where a
// password may stand.
func endpointOf(cfg Config) (*url.URL, error) {
	text := cfg.Endpoint
	if text == "" {
		text = cfg.Collector
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the collector of spans has no usable URL: want http://host:4318 or https://host, by OTLP over HTTP")
	case u.User != nil:
		return nil, errors.New("the URL of the collector of spans has a user name or a password: give it in OTEL_EXPORTER_OTLP_HEADERS instead")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the URL of the collector of spans has a query, which would not be sent: take it out, and see OTEL_EXPORTER_OTLP_HEADERS")
	case cfg.Endpoint == "":
		u = u.JoinPath("v1", "traces")
	}
	return u, nil
}

// version is the program's, or else the commit that it was built from.
func version() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return "(devel)"
	}
	if v := build.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range build.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "(devel)"
}

// Provider is for a part's Config; nil where nothing is traced.
func (t *Tracing) Provider() trace.TracerProvider {
	if t == nil {
		return nil // and not an interface that holds one
	}
	return t.provider
}

// Flush sends what has gathered and waits for it, until ctx ends.
func (t *Tracing) Flush(ctx context.Context) {
	if t != nil {
		_ = t.provider.ForceFlush(ctx) // what is not sent now is sent later
	}
}

// Stop sends what is left. No span may be begun after.
func (t *Tracing) Stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), StopTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn().Err(err).Int64("left", t.sender.queue.waiting.Load()).Msg("the last spans may not have been sent")
	}
	t.sender.tellRest()
}

// listened is done once a process: the SDK has one log for all of it.
var listened sync.Once

func listen(log zerolog.Logger) {
	listened.Do(func() {
		otel.SetLogger(sdkLogger(log))
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn().Err(err).Msg("tracing") }))
	})
}
