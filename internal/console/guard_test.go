package console

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const token = "a-token-that-nobody-guesses"

var tokens = []Token{{"kim", "another-token-of-somebody"}, {"admin", token}}

func TestNewGuard(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address, token string // comma-separated
		hosts          []string
		refused        string
	}{
		{"127.0.0.1:9090", "", nil, ""},
		{"[::1]:9090", "", nil, ""},
		{"localhost:9090", "", nil, ""},
		{"[::ffff:127.0.0.1]:9090", "", nil, ""},
		{"127.0.0.1:9090", "", []string{"localhost"}, ""},
		{"127.0.0.1:9090", "", []string{"admin.example"}, "set a token"},
		{"10.0.0.5:9090", "", nil, "set a token"},
		{"0.0.0.0:9090", "", []string{"admin.example"}, "set a token"},
		{":9090", "", nil, "set a token"},
		{"[::]:9090", token, nil, "name the hosts"},
		{":9090", token, nil, "name the hosts"},
		{":9090", token, []string{"admin.example"}, ""},
		{"10.0.0.5:9090", token, nil, ""},
		{"127.0.0.1:9090", "short", nil, "at least 16"},
		{"127.0.0.1:9090", "kim:short", nil, "token of kim has 5 bytes"},
		{"127.0.0.1:9090", ":" + token, nil, "want NAME:TOKEN"},
		{"127.0.0.1:9090", token + "," + token, nil, "two admin tokens are named admin"},
		{"127.0.0.1:9090", "kim:" + token + "," + token + "0", nil, ""},
		{"9090", token, nil, "want HOST:PORT"},
	} {
		var all []Token
		for _, t := range strings.FieldsFunc(c.token, func(r rune) bool { return r == ',' }) {
			all = append(all, ParseToken(t))
		}
		_, err := NewGuard(c.address, all, c.hosts...)
		if c.refused == "" {
			require.NoError(t, err, c)
			continue
		}
		require.ErrorContains(t, err, c.refused, c)
		require.NotContains(t, err.Error(), "short", "a token is never shown")
		require.NotContains(t, err.Error(), token, "a token is never shown")
	}
}

// guarded answers "in" to whom g lets in.
func guarded(t *testing.T, g *Guard) http.Handler {
	t.Helper()
	return g.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			problem(w, http.StatusRequestEntityTooLarge, err.Error())
			return
		}
		_, _ = io.WriteString(w, "in "+by(r))
	}))
}

func TestGuard(t *testing.T) {
	t.Parallel()
	g, err := NewGuard("10.0.0.5:9090", tokens, "Admin.example")
	require.NoError(t, err)
	h := guarded(t, g)
	bearer := map[string]string{"Authorization": "Bearer " + token}
	for name, c := range map[string]struct {
		method, target, host string
		header               map[string]string
		body                 string
		want                 int
	}{
		"no token":                   {"GET", "/api/status", "admin.example", nil, "", 401},
		"the token":                  {"GET", "/api/status", "admin.example", bearer, "", 200},
		"by address":                 {"GET", "/api/status", "10.0.0.5:9090", bearer, "", 200},
		"in other letters":           {"GET", "/api/status", "ADMIN.example:9090", map[string]string{"Authorization": "bearer " + token}, "", 200},
		"a wrong token":              {"GET", "/api/status", "admin.example", map[string]string{"Authorization": "Bearer " + token + "x"}, "", 401},
		"an empty token":             {"GET", "/api/status", "admin.example", map[string]string{"Authorization": "Bearer "}, "", 401},
		"basic":                      {"GET", "/api/status", "admin.example", map[string]string{"Authorization": "Basic " + token}, "", 401},
		"in the URL":                 {"GET", "/api/status?token=" + token, "admin.example", nil, "", 401},
		"a made up cookie":           {"GET", "/api/status", "admin.example", map[string]string{"Cookie": sessionCookie + "=" + token}, "", 401},
		"a path that hides":          {"GET", "//api/status", "admin.example", nil, "", 307},
		"a path that climbs":         {"GET", "/x/../api/status", "admin.example", nil, "", 307},
		"the page needs none":        {"GET", "/", "admin.example", nil, "", 200},
		"another host":               {"GET", "/", "evil.example", bearer, "", 421},
		"another address":            {"GET", "/api/status", "127.0.0.1", bearer, "", 421},
		"no host":                    {"GET", "/", "", bearer, "", 421},
		"a look by another site":     {"GET", "/api/dlq", "admin.example", merge(bearer, "Sec-Fetch-Site", "cross-site"), "", 403},
		"a look by our page":         {"GET", "/api/dlq", "admin.example", merge(bearer, "Sec-Fetch-Site", "same-origin"), "", 200},
		"a link from another site":   {"GET", "/", "admin.example", map[string]string{"Sec-Fetch-Site": "cross-site"}, "", 200},
		"a change":                   {"POST", "/api/replays", "admin.example", merge(bearer, "Content-Type", "application/json; charset=utf-8"), "{}", 200},
		"a change as a form":         {"POST", "/api/replays", "admin.example", merge(bearer, "Content-Type", "text/plain"), "{}", 415},
		"a change without a kind":    {"DELETE", "/api/replays/1", "admin.example", bearer, "", 415},
		"a change by another site":   {"POST", "/api/replays", "admin.example", merge(bearer, "Content-Type", "application/json", "Sec-Fetch-Site", "cross-site"), "{}", 403},
		"a change by another origin": {"POST", "/api/replays", "admin.example", merge(bearer, "Content-Type", "application/json", "Origin", "http://evil.example"), "{}", 403},
		"a change by our page":       {"POST", "/api/replays", "admin.example", merge(bearer, "Content-Type", "application/json", "Origin", "http://admin.example"), "{}", 200},
		"too large":                  {"POST", "/api/replays", "admin.example", merge(bearer, "Content-Type", "application/json"), strings.Repeat("x", maxBody+1), 413},
		"a login that is too large":  {"POST", "/login", "admin.example", map[string]string{"Content-Type": "application/json"}, `"` + strings.Repeat("x", maxBody+1), 413},
		"a login without a token":    {"POST", "/login", "admin.example", map[string]string{"Content-Type": "application/json"}, `{}`, 401},
		"a login of nonsense":        {"POST", "/login", "admin.example", map[string]string{"Content-Type": "application/json"}, `[`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(c.method, c.target, strings.NewReader(c.body))
			r.Host = c.host
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, c.want, w.Code, w.Body)
			require.NotContains(t, w.Body.String(), token)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Contains(t, w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'")
		})
	}
}

func merge(m map[string]string, more ...string) map[string]string {
	all := map[string]string{}
	for k, v := range m {
		all[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}

// TestSession: a login lasts for its time, in this process, and a page of another site
// cannot use it.
func TestSession(t *testing.T) {
	t.Parallel()
	g, err := NewGuard("127.0.0.1:9090", tokens)
	require.NoError(t, err)
	now := time.Now()
	g.now = func() time.Time { return now }
	h := guarded(t, g)
	ask := func(method, target, body string, cookies ...*http.Cookie) *http.Response {
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		r.Host = "localhost:9090"
		r.Header.Set("Content-Type", "application/json")
		for _, c := range cookies {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}

	login := ask("POST", "/login", `{"token":"another-token-of-somebody"}`)
	require.Equal(t, http.StatusNoContent, login.StatusCode)
	cookie := login.Cookies()[0]
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
	require.NotContains(t, cookie.Value, "another-token")

	in := ask("GET", "/api/status", "", cookie)
	require.Equal(t, http.StatusOK, in.StatusCode)
	text, err := io.ReadAll(in.Body)
	require.NoError(t, err)
	require.Equal(t, "in kim", string(text))
	bad := *cookie
	first := "B"
	if strings.HasPrefix(cookie.Value, first) { // one in 64
		first = "C"
	}
	bad.Value = first + cookie.Value[1:]
	require.Equal(t, http.StatusUnauthorized, ask("GET", "/api/status", "", &bad).StatusCode, "a longer time")

	other, err := NewGuard("127.0.0.1:9090", tokens)
	require.NoError(t, err)
	_, ok := other.hasSession(&http.Request{Header: http.Header{"Cookie": {cookie.String()}}})
	require.False(t, ok, "of another process")

	now = now.Add(sessionFor)
	require.Equal(t, http.StatusUnauthorized, ask("GET", "/api/status", "", cookie).StatusCode, "its time is over")
	require.Negative(t, ask("POST", "/logout", `{}`, cookie).Cookies()[0].MaxAge)
}
