package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	status.Store(http.StatusOK)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.WriteHeader(int(status.Load()))
		}
	}))
	defer s.Close()
	code, _, errs := restock(t, nil, "healthcheck", s.URL+"/healthz")
	require.Zero(t, code, errs)
	status.Store(http.StatusServiceUnavailable)
	code, _, errs = restock(t, nil, "healthcheck", s.URL+"/healthz")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "answers 503")
	code, _, _ = restock(t, nil, "healthcheck", "http://127.0.0.1:1/healthz")
	require.Equal(t, 1, code)
	code, _, errs = restock(t, nil, "healthcheck", "http://[")
	require.Equal(t, 2, code, errs)
}

func TestVersion(t *testing.T) {
	t.Parallel()
	code, out, errs := restock(t, nil, "version")
	require.Zero(t, code, errs)
	require.Regexp(t, `^restock \S+ go1\.\S+\n$`, out)
	code, out, errs = restock(t, nil, "version", "--sbom")
	require.Zero(t, code, errs)
	var b bill
	require.NoError(t, json.Unmarshal([]byte(out), &b))
	require.Equal(t, "CycloneDX", b.Format)
	var names []string
	for _, c := range b.Components {
		require.NotEmpty(t, c.Version, c.Name)
		names = append(names, c.Name)
	}
	require.Subset(t, names, []string{"std", "github.com/jackc/pgx/v5", "github.com/jackc/pglogrepl"})
}
