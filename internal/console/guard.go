package console

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// MinToken is how long a token must be at least, in bytes: long enough that it
	// cannot be guessed, if it is random.
	MinToken = 16
	// sessionFor is how long a login lasts.
	sessionFor = 12 * time.Hour
	// maxBody bounds the body of a request.
	maxBody = 1 << 20

	sessionCookie = "restock_session"
)

// Guard lets in whom the package comment says. It is safe for concurrent use.
type Guard struct {
	token   [sha256.Size]byte
	open    bool // no token is asked for
	hosts   []string
	key     []byte // of the cookies; another one in each process
	foreign *http.CrossOriginProtection
	now     func() time.Time
}

// NewGuard returns a guard for a listener on address (host:port). hosts are the names,
// without port, under which it is reached besides the address itself and, if that is a
// loopback address, localhost. An error says what to set.
func NewGuard(address, token string, hosts ...string) (*Guard, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("admin address %q: want HOST:PORT", address)
	}
	local := isLoopback(host)
	switch {
	case token == "" && !local:
		return nil, fmt.Errorf("admin address %s can be reached from other machines: set a token, or listen on 127.0.0.1", address)
	case token != "" && len(token) < MinToken:
		return nil, fmt.Errorf("the admin token has %d bytes: it must be random and have at least %d", len(token), MinToken)
	}
	g := &Guard{
		token: sha256.Sum256([]byte(token)), open: token == "", key: make([]byte, sha256.Size),
		foreign: http.NewCrossOriginProtection(), now: time.Now,
	}
	_, _ = rand.Read(g.key) // it never fails
	for _, h := range hosts {
		g.hosts = append(g.hosts, strings.ToLower(h))
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || !ip.IsUnspecified()) {
		g.hosts = append(g.hosts, strings.ToLower(host))
	}
	if local {
		g.hosts = append(g.hosts, "localhost", "127.0.0.1", "::1")
	}
	if len(g.hosts) == 0 {
		return nil, fmt.Errorf("admin address %s stands for every address: name the hosts under which it is reached", address)
	}
	return g, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// Wrap guards h. Below /api/ it asks for the token; what else h serves must be no secret.
func (g *Guard) Wrap(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.Handle("/api/", g.members(h))
	mux.HandleFunc("POST /login", g.login)
	mux.HandleFunc("POST /logout", g.logout)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if err := g.refuse(r); err != nil {
			problem(w, err.status, err.text)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// refusal is why a request is not let in.
type refusal struct {
	status int
	text   string
}

func (g *Guard) refuse(r *http.Request) *refusal {
	if !slices.Contains(g.hosts, hostOf(r)) {
		return &refusal{http.StatusMisdirectedRequest, fmt.Sprintf("%q is no name of this service: reach it under one of %s, or add the name", hostOf(r), strings.Join(g.hosts, ", "))}
	}
	if err := g.foreign.Check(r); err != nil {
		return &refusal{http.StatusForbidden, "another site's page asked for this"}
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &refusal{http.StatusUnsupportedMediaType, "send JSON (Content-Type: application/json)"}
	}
	return nil
}

// hostOf is the name under which r came, without port and brackets.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

// members lets in whoever has the token, or a cookie for it.
func (g *Guard) members(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.open && !g.hasToken(r) && !g.hasSession(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem(w, http.StatusUnauthorized, "the admin token is missing or wrong: send it as Authorization: Bearer TOKEN")
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (g *Guard) hasToken(r *http.Request) bool {
	kind, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(kind, "Bearer") && g.isToken(strings.TrimSpace(token))
}

// isToken compares digests, so that neither the content nor the length of the token shows
// in the time that it takes.
func (g *Guard) isToken(token string) bool {
	digest := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(digest[:], g.token[:]) == 1
}

func (g *Guard) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	switch err := json.NewDecoder(r.Body).Decode(&body); {
	case errors.As(err, new(*http.MaxBytesError)):
		problem(w, http.StatusRequestEntityTooLarge, "the body is too large")
	case err != nil:
		problem(w, http.StatusBadRequest, `want {"token": "…"}`)
	case !g.open && !g.isToken(body.Token):
		problem(w, http.StatusUnauthorized, "the admin token is wrong")
	default:
		g.setSession(w, r, g.session(g.now().Add(sessionFor)), int(sessionFor.Seconds()))
	}
}

func (g *Guard) logout(w http.ResponseWriter, r *http.Request) { g.setSession(w, r, "", -1) }

func (g *Guard) setSession(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever the connection is
		Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	})
	w.WriteHeader(http.StatusNoContent)
}

// session is a cookie's value: until when it holds, and a code that only this process can
// make. Nothing is kept of it here.
func (g *Guard) session(until time.Time) string {
	value := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(value, g.code(value)...))
}

func (g *Guard) code(value []byte) []byte {
	mac := hmac.New(sha256.New, g.key)
	mac.Write(value)
	return mac.Sum(nil)
}

func (g *Guard) hasSession(r *http.Request) bool {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return false
	}
	value, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(value) != 8+sha256.Size || !hmac.Equal(value[8:], g.code(value[:8])) {
		return false
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(value)), 0)
	return g.now().Before(until)
}

// problem answers as the shop's API does.
// https://www.rfc-editor.org/rfc/rfc9457
func problem(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": text, "message": text}) // the client may be gone
}
