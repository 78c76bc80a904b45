package api

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/restock-dev/restock/internal/service"
)

//go:embed openapi.yaml
var openapiYAML []byte

// openAPI is the document as JSON.
func openAPI() ([]byte, error) {
	document, err := yaml.YAMLToJSON(openapiYAML)
	if err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return document, nil
}

// readyTimeout is how long the database may take to answer /readyz.
const readyTimeout = time.Second

// Handler serves every route of openapi.yaml, and problems for all the rest.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for route, methods := range a.routes() {
		mux.Handle(route, a.dispatch(route, methods))
	}
	nothing := a.endpoint("unmatched", func(*call) (any, error) { return nil, notFound(sayNoPath) })
	mux.Handle("/", nothing)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The mux would redirect such a path, and a POST with it.
		if !isClean(r.URL.EscapedPath()) {
			nothing.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// isClean tells a path without empty, "." and ".." segments.
func isClean(p string) bool { return path.Clean(p) == strings.TrimSuffix(p, "/") || p == "/" }

// routes is every path with its methods. A test holds it against openapi.yaml.
func (a *API) routes() map[string]map[string]http.Handler {
	get := func(route string, h endpoint) map[string]http.Handler {
		return map[string]http.Handler{http.MethodGet: a.endpoint(route, a.usingStore(h))}
	}
	post := func(route string, h endpoint) map[string]http.Handler {
		return map[string]http.Handler{http.MethodPost: a.endpoint(route, a.usingStore(h))}
	}
	health := map[string]http.Handler{http.MethodGet: a.health()}
	return map[string]map[string]http.Handler{
		"/checkout":            post("/checkout", a.checkout),
		"/stock-increase/{id}": post("/stock-increase/{id}", a.stockIncrease),
		"/orders/{id}":         get("/orders/{id}", a.order),
		"/products":            get("/products", a.products),
		"/products/{sku}":      get("/products/{sku}", a.product),
		"/openapi.json":        {http.MethodGet: http.HandlerFunc(a.document)},
		"/healthz":             health,
		"/readyz":              health,
		"/metrics":             health,
	}
}

func (a *API) health() http.Handler {
	mux := http.NewServeMux()
	service.Health(mux, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, readyTimeout)
		defer cancel()
		return a.store.ready(ctx)
	}, a.cfg.Metrics)
	return mux
}

func (a *API) document(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(a.openapi) // the client is gone: there is no one to tell
}

// dispatch chooses by method. The mux could do it, but its 405 is not a
// problem document.
func (a *API) dispatch(route string, methods map[string]http.Handler) http.Handler {
	if get, ok := methods[http.MethodGet]; ok {
		methods = maps.Clone(methods)
		methods[http.MethodHead] = get
	}
	refuse := a.endpoint(route, func(*call) (any, error) {
		return nil, methodNotAllowed(slices.Sorted(maps.Keys(methods)))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, ok := methods[r.Method]
		if !ok {
			h = refuse
		}
		h.ServeHTTP(w, r)
	})
}
