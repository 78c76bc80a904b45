package console

import (
	"context"
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
	// maxName bounds the name of a token, in bytes.
	maxName = 64
	// sessionFor is how long a login lasts.
	sessionFor = 12 * time.Hour
	// maxBody bounds the body of a request.
	maxBody = 1 << 20

	sessionCookie = "restock_session"
)

// Token lets its bearer do everything. Its name is kept with what is done by it.
type Token struct{ Name, Secret string }

// anyone is who has a token without a name, or is let in without one.
const anyone = "admin"

// ParseToken reads NAME:SECRET, or a secret alone.
func ParseToken(s string) Token {
	if name, secret, named := strings.Cut(s, ":"); named {
		return Token{strings.TrimSpace(name), secret}
	}
	return Token{anyone, s}
}

// Guard lets in whom the package comment says. It is safe for concurrent use.
type Guard struct {
	members []member // none: no token is asked for
	hosts   []string
	key     []byte // of the cookies; another one in each process
	foreign *http.CrossOriginProtection
	now     func() time.Time
}

type member struct {
	name   string
	digest [sha256.Size]byte
}

// NewGuard returns a guard for a listener on address (host:port). hosts are the names,
// without port, under which it is reached besides the address itself and, if that is a
// loopback address, localhost. An error says what to set.
func NewGuard(address string, tokens []Token, hosts ...string) (*Guard, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("admin address %q: want HOST:PORT", address)
	}
	local := isLoopback(host)
	if len(tokens) == 0 && !local {
		return nil, fmt.Errorf("admin address %s can be reached from other machines: set a token, or listen on 127.0.0.1", address)
	}
	for _, h := range hosts {
		if len(tokens) == 0 && !isLoopback(h) {
			return nil, fmt.Errorf("it is reached as %s, so from other machines: set a token", h)
		}
	}
	g := &Guard{key: make([]byte, sha256.Size), foreign: http.NewCrossOriginProtection(), now: time.Now}
	for _, t := range tokens {
		switch {
		case t.Name == "" || len(t.Name) > maxName:
			return nil, fmt.Errorf("an admin token is named %q: want NAME:TOKEN, with a name of 1 to %d bytes", t.Name, maxName)
		case slices.ContainsFunc(g.members, func(m member) bool { return m.name == t.Name }):
			return nil, fmt.Errorf("two admin tokens are named %s: give each a name of its own, NAME:TOKEN", t.Name)
		case len(t.Secret) < MinToken:
			return nil, fmt.Errorf("the admin token of %s has %d bytes: it must be random and have at least %d", t.Name, len(t.Secret), MinToken)
		}
		g.members = append(g.members, member{t.Name, sha256.Sum256([]byte(t.Secret))})
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
	mux.Handle("/api/", g.onlyMembers(h))
	mux.HandleFunc("POST /login", g.login)
	mux.HandleFunc("POST /logout", g.logout)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if err := g.refuse(r); err != nil {
			problem(w, err.status, err.Error())
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
		"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

func (g *Guard) refuse(r *http.Request) *refusal {
	if !slices.Contains(g.hosts, hostOf(r)) {
		return refused(http.StatusMisdirectedRequest, "%q is no name of this service: reach it under one of %s, or add the name", hostOf(r), strings.Join(g.hosts, ", "))
	}
	if err := g.foreign.Check(r); err != nil {
		return refused(http.StatusForbidden, "another site's page asked for this")
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		// To look costs something, and without a token nobody else would stop it.
		if site := r.Header.Get("Sec-Fetch-Site"); strings.HasPrefix(r.URL.Path, "/api/") && site != "" && site != "same-origin" && site != "none" {
			return refused(http.StatusForbidden, "another site's page asked for this")
		}
		return nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refused(http.StatusUnsupportedMediaType, "send JSON (Content-Type: application/json)")
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

// onlyMembers lets in whoever has a token, or a cookie for one, and notes who that is.
func (g *Guard) onlyMembers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := g.who(r)
		if !ok {
			w.Header().Set("WWW-Authenticate", "Bearer")
			problem(w, http.StatusUnauthorized, "the admin token is missing or wrong: send it as Authorization: Bearer TOKEN")
			return
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nameKey{}, name)))
	})
}

type nameKey struct{}

// by is who asks, of a request that was let in.
func by(r *http.Request) string {
	name, _ := r.Context().Value(nameKey{}).(string)
	return name
}

func (g *Guard) who(r *http.Request) (name string, ok bool) {
	if len(g.members) == 0 {
		return anyone, true
	}
	if kind, secret, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(kind, "Bearer") {
		return g.member(strings.TrimSpace(secret))
	}
	return g.hasSession(r)
}

// member is whose secret it is. It compares digests, and all of them, so that neither
// content nor length of a token shows in the time that it takes.
func (g *Guard) member(secret string) (name string, ok bool) {
	digest := sha256.Sum256([]byte(secret))
	for _, m := range g.members {
		if subtle.ConstantTimeCompare(digest[:], m.digest[:]) == 1 {
			name, ok = m.name, true
		}
	}
	return name, ok
}

func (g *Guard) login(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Token string `json:"token"`
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	name, ok := g.member(body.Token)
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		problem(w, http.StatusRequestEntityTooLarge, "the body is too large")
	case err != nil:
		problem(w, http.StatusBadRequest, `want {"token": "…"}`)
	case !ok && len(g.members) > 0:
		problem(w, http.StatusUnauthorized, "the admin token is wrong")
	default:
		g.setSession(w, r, g.session(g.now().Add(sessionFor), name), int(sessionFor.Seconds()))
	}
}

func (g *Guard) logout(w http.ResponseWriter, r *http.Request) { g.setSession(w, r, "", -1) }

func (g *Guard) setSession(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	// Behind a proxy it is the browser's own word that its connection is secure.
	secure := r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://")
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure wherever the connection is
		Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
	})
	w.WriteHeader(http.StatusNoContent)
}

// session is a cookie's value: a code that only this process can make, until when it
// holds, and whose it is. Nothing is kept of it here.
func (g *Guard) session(until time.Time, name string) string {
	value := append(binary.BigEndian.AppendUint64(nil, uint64(until.Unix())), name...)
	return base64.RawURLEncoding.EncodeToString(append(g.code(value), value...))
}

func (g *Guard) code(value []byte) []byte {
	mac := hmac.New(sha256.New, g.key)
	mac.Write(value)
	return mac.Sum(nil)
}

func (g *Guard) hasSession(r *http.Request) (name string, ok bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", false
	}
	all, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil || len(all) < sha256.Size+8 {
		return "", false
	}
	value := all[sha256.Size:]
	if !hmac.Equal(all[:sha256.Size], g.code(value)) {
		return "", false
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(value)), 0)
	return string(value[8:]), g.now().Before(until)
}
