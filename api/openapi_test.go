package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"
)

// spec is openapi.yaml, loaded once.
var spec = sync.OnceValues(func() (*openapi3.T, error) {
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForUUIDOfRFC9562))
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background(), openapi3.EnableExamplesValidation())
})

// contract holds every request that h takes and every answer that it gives
// against openapi.yaml.
func contract(t testing.TB, h http.Handler) http.Handler {
	doc, err := spec()
	require.NoError(t, err)
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var sent bytes.Buffer
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &sent), r.Body}
		recorded := httptest.NewRecorder()
		h.ServeHTTP(recorded, r)
		holdToContract(t, doc, router, r, sent.Bytes(), recorded)
		for name, values := range recorded.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(recorded.Body.Bytes())
	})
}

func holdToContract(t testing.TB, doc *openapi3.T, router routers.Router, r *http.Request, sent []byte, got *httptest.ResponseRecorder) {
	if got.Code >= 400 {
		holdToProblem(t, r, got)
	}
	route, params, err := findRoute(router, r)
	if err != nil {
		if got.Code != http.StatusNotFound {
			t.Errorf("%s %s is not in openapi.yaml, yet answered %d", r.Method, r.URL.Path, got.Code)
		}
		return
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r.Clone(context.WithoutCancel(r.Context())), PathParams: params, Route: route,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	if got.Code < 300 && r.Method != http.MethodHead {
		holdRequest(t, in, sent)
	}
	err = openapi3filter.ValidateResponse(in.Request.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: got.Code, Header: got.Header(), Options: in.Options,
		Body: io.NopCloser(bytes.NewReader(got.Body.Bytes())),
	})
	if err != nil {
		t.Errorf("%s %s answered %d, not as openapi.yaml says: %v\n%s", r.Method, r.URL.Path, got.Code, err, got.Body)
	}
}

// holdRequest: whatever the server takes, the document must allow.
func holdRequest(t testing.TB, in *openapi3filter.RequestValidationInput, sent []byte) {
	in.Request.Body = io.NopCloser(bytes.NewReader(sent))
	if len(bytes.TrimSpace(sent)) == 0 {
		in.Request.Body = http.NoBody
	} else if in.Request.URL.Path != "/checkout" {
		in.Request.Header.Set("Content-Type", "application/json") // a callback may say what it likes
	}
	if err := openapi3filter.ValidateRequest(in.Request.Context(), in); err != nil {
		t.Errorf("%s %s was taken, but openapi.yaml refuses it: %v\n%s", in.Request.Method, in.Request.URL.Path, err, sent)
	}
}

// findRoute finds a documented operation at the path; a refused method has the
// 405 of any of them.
func findRoute(router routers.Router, r *http.Request) (*routers.Route, map[string]string, error) {
	var err error
	for _, method := range []string{r.Method, http.MethodGet, http.MethodPost} {
		tried := r.Clone(r.Context())
		tried.Method = method
		route, params, e := router.FindRoute(tried)
		if e == nil {
			return route, params, nil
		}
		err = e
	}
	return nil, nil, err
}

func holdToProblem(t testing.TB, r *http.Request, got *httptest.ResponseRecorder) {
	if strings.HasSuffix(r.URL.Path, "z") { // probes are no problem documents
		return
	}
	a := readAnswer(got.Code, got.Header(), got.Body.Bytes())
	if a.header.Get("Content-Type") != "application/problem+json" || a.num("status") != got.Code ||
		a.str("type") == "" || a.str("title") == "" || a.str("detail") == "" || a.str("message") == "" {
		t.Errorf("%s %s answered %d without a problem: %s", r.Method, r.URL.Path, got.Code, got.Body)
	}
	if got.Code == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
		t.Errorf("%s %s answered 503 without Retry-After", r.Method, r.URL.Path)
	}
}

func TestDocument(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	doc, err := spec()
	require.NoError(t, err)
	var documented []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	require.ElementsMatch(t, documented, s.api.Routes())

	got := s.send("GET", "/openapi.json", "")
	require.Equal(t, http.StatusOK, got.status)
	served, err := openapi3.NewLoader().LoadFromData([]byte(got.raw))
	require.NoError(t, err)
	require.NoError(t, served.Validate(t.Context(), openapi3.EnableExamplesValidation()))
	require.Equal(t, "3.0.3", got.body["openapi"])
}

func TestProbesAndMetrics(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Equal(t, http.StatusOK, s.send("GET", "/healthz", "").status)
	require.Equal(t, http.StatusOK, s.send("GET", "/readyz", "").status)
	require.Equal(t, http.StatusOK, s.checkout("").status)
	require.Equal(t, http.StatusMethodNotAllowed, s.send("POST", "/metrics", "").status)
	require.Equal(t, http.StatusMethodNotAllowed, s.send("BREW", "/checkout", "").status)
	metrics := s.send("GET", "/metrics", "")
	require.Equal(t, http.StatusOK, metrics.status)
	require.Contains(t, metrics.raw, `restock_api_checkouts_total{outcome="bought"} 1`)
	require.Contains(t, metrics.raw, `restock_api_request_seconds_count{class="2xx",method="POST",route="/checkout"} 1`)
	require.Contains(t, metrics.raw, `restock_api_request_seconds_count{class="4xx",method="other",route="/checkout"} 1`)
	s.requireLint()

	s.exec(`DO $$ DECLARE p text; BEGIN
		FOR p IN SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'outbox'::regclass LOOP EXECUTE 'DROP TABLE ' || p; END LOOP; END $$`)
	unready := s.send("GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, unready.status)
	require.Contains(t, unready.str("reason"), "partition")
}

// An API on a database that is not migrated, or as another role, is not ready, and says why.
func TestNotReadyOnWhatIsNotFit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ damage, want string }{
		"a right is missing": {`REVOKE INSERT ON orders FROM restock_api`, "restock_api may not sell: connect as the role"},
		"not migrated":       {`DROP TABLE order_lines CASCADE`, "restock migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.exec(c.damage)
			unready := s.send("GET", "/readyz", "")
			require.Equal(t, http.StatusServiceUnavailable, unready.status)
			require.Contains(t, unready.str("reason"), c.want)
		})
	}
}
