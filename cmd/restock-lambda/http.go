package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/api"
)

// newStockIncrease makes the function that takes the factory's callbacks. Which
// paths reach it is for the gateway's routes to say: POST /stock-increase/{id}.
func newStockIncrease(ctx context.Context, f flags, log zerolog.Logger) (any, error) {
	if len(f.CallbackSecrets) == 0 || f.PublicURL == "" {
		return nil, errors.New("set RESTOCK_CALLBACK_SECRETS and RESTOCK_PUBLIC_URL, the same as for the API")
	}
	traces, err := f.tracing(ctx, "api", log)
	if err != nil {
		return nil, err
	}
	cfg := api.Config{DSN: f.DatabaseURL, PublicURL: f.PublicURL, MaxConns: f.MaxConns, Logger: log, Tracing: traces.Provider()}
	for _, s := range f.CallbackSecrets {
		cfg.CallbackSecrets = append(cfg.CallbackSecrets, []byte(s))
	}
	a, err := api.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	// It keeps the partitions ahead while the function runs; Lambda ends it with the process.
	go func() { _ = a.Run(ctx) }()
	serve := gateway(a.Handler())
	return func(ctx context.Context, in gatewayRequest) (gatewayResponse, error) {
		defer flush(traces)
		return serve(ctx, in)
	}, nil
}

type gatewayRequest = events.APIGatewayV2HTTPRequest

// gatewayResponse is a response to an HTTP API. It is not the one of the events
// package, whose multiValueHeaders a payload of version 2.0 does not have.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
type gatewayResponse struct {
	StatusCode      int               `json:"statusCode"`
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
}

// gateway serves h behind an HTTP API with payload version 2.0.
func gateway(h http.Handler) func(context.Context, gatewayRequest) (gatewayResponse, error) {
	return func(ctx context.Context, in gatewayRequest) (gatewayResponse, error) {
		r, err := requestOf(ctx, in)
		if err != nil {
			return gatewayResponse{}, err
		}
		w := &answer{header: make(http.Header)}
		h.ServeHTTP(w, r)
		return w.response(), nil
	}
}

// requestOf is the request that the gateway received.
func requestOf(ctx context.Context, in gatewayRequest) (*http.Request, error) {
	if in.Version != "2.0" || in.RequestContext.HTTP.Method == "" {
		return nil, fmt.Errorf("payload version %q: this function is for an HTTP API with payload version 2.0", in.Version)
	}
	body := []byte(in.Body)
	if in.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(in.Body); err != nil {
			return nil, fmt.Errorf("decode body: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, in.RequestContext.HTTP.Method, "/", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.URL = &url.URL{Path: pathOf(in), RawQuery: in.RawQueryString}
	if unescaped, err := url.PathUnescape(r.URL.Path); err == nil {
		r.URL.Path, r.URL.RawPath = unescaped, r.URL.Path
	}
	for name, value := range in.Headers { // one value each: the gateway joins several by commas
		r.Header.Set(name, value)
	}
	r.Host = r.Header.Get("Host")
	r.Header.Del("Host")
	r.RemoteAddr = in.RequestContext.HTTP.SourceIP + ":0"
	r.RequestURI = r.URL.RequestURI()
	return r, nil
}

// pathOf is the path without the name of a stage, which begins it for any stage
// but $default.
func pathOf(in gatewayRequest) string {
	path := in.RawPath
	if stage := in.RequestContext.Stage; stage != "" && stage != "$default" {
		if rest, ok := strings.CutPrefix(path, "/"+stage); ok && (rest == "" || rest[0] == '/') {
			path = rest
		}
	}
	if path == "" {
		return "/"
	}
	return path
}

// answer keeps what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) response() gatewayResponse {
	a.WriteHeader(http.StatusOK)
	out := gatewayResponse{StatusCode: a.status, Headers: make(map[string]string, len(a.header))}
	for name, values := range a.header {
		out.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if out.Body = a.body.String(); !utf8.ValidString(out.Body) {
		out.Body, out.IsBase64Encoded = base64.StdEncoding.EncodeToString(a.body.Bytes()), true
	}
	return out
}
