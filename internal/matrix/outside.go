package matrix

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Outside stands in front of what a consumer calls. It counts the calls, and it
// fails as it is told, in the same ways whatever is behind it. It is down until
// Up.
type Outside struct {
	URL string

	t      testing.TB
	socket int // bound, and listening only when up
	key    func(http.Header, []byte) string
	behind http.Handler

	mu    sync.Mutex
	calls []call
	fault Fault
}

// call is one request that came, and whether what is behind took it.
type call struct {
	key   string
	taken bool
}

// Fault is a way to fail. The zero value does not.
//
//	Fault{Status: 429, RetryAfter: "1800", Times: 1}   throttled once
//	Fault{Cut: true, Times: 1}                         taken once, and the answer is lost
type Fault struct {
	Status     int // answered without asking what is behind
	RetryAfter string
	Cut        bool // hangs up after the request was taken
	Times      int  // how many requests fail; 0 is all
	hold       *hold
}

// newOutside takes an address. A socket that is bound and does not listen refuses
// connections as one does where nobody is, and nobody else can get its port.
func newOutside(t testing.TB, behind http.Handler, key func(http.Header, []byte) string) *Outside {
	t.Helper()
	syscall.ForkLock.RLock()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(socket)
	require.NoError(t, err)
	port := strconv.Itoa(name.(*syscall.SockaddrInet4).Port)
	o := &Outside{URL: "http://" + net.JoinHostPort("127.0.0.1", port), t: t, socket: socket, key: key, behind: behind}
	t.Cleanup(o.close)
	return o
}

// Up lets it be reached.
func (o *Outside) Up() {
	o.t.Helper()
	require.NoError(o.t, syscall.Listen(o.socket, 128))
	file := os.NewFile(uintptr(o.socket), "outside")
	o.socket = -1 // the file's
	ln, err := net.FileListener(file)
	require.NoError(o.t, err)
	require.NoError(o.t, file.Close())
	server := httptest.NewUnstartedServer(http.HandlerFunc(o.serve))
	require.NoError(o.t, server.Listener.Close())
	server.Listener = ln
	server.Start()
	o.t.Cleanup(server.Close)
}

func (o *Outside) close() {
	if o.socket >= 0 {
		_ = syscall.Close(o.socket) // it was never up
	}
}

// Fail makes the coming requests fail.
func (o *Outside) Fail(f Fault) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fault = f
}

func (o *Outside) nextFault() Fault {
	o.mu.Lock()
	defer o.mu.Unlock()
	fault := o.fault
	if o.fault.Times > 0 {
		if o.fault.Times--; o.fault.Times == 0 {
			o.fault = Fault{}
		}
	}
	return fault
}

// errorTypes name statuses as SES does, which says what it means in a header.
var errorTypes = map[int]string{
	http.StatusTooManyRequests:     "TooManyRequestsException",
	http.StatusInternalServerError: "InternalServiceErrorException",
	http.StatusUnprocessableEntity: "BadRequestException",
}

// Refusal is what a fault with a status says in its body.
const Refusal = "this failure was asked for"

func (o *Outside) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	n := o.note(o.key(r.Header, body))
	fault := o.nextFault()
	if fault.hold != nil && !fault.hold.afterTaken {
		fault.hold.keep(r)
	}
	if fault.Status != 0 {
		fault.refuse(w)
		return
	}
	answer := httptest.NewRecorder()
	r.Body = io.NopCloser(bytes.NewReader(body))
	o.behind.ServeHTTP(answer, r)
	if answer.Code/100 == 2 {
		o.noteTaken(n)
	}
	if fault.hold != nil && fault.hold.afterTaken {
		fault.hold.keep(r)
	}
	if fault.Cut {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the client is gone: there is no one to tell
}

func (f Fault) refuse(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", errorTypes[f.Status])
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, `{"message":"`+Refusal+`"}`) // as above
}

func (o *Outside) note(key string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, call{key: key})
	return len(o.calls) - 1
}

func (o *Outside) noteTaken(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[n].taken = true
}

// counts counts the calls, their keys, and those taken of a key that was taken
// before.
func (o *Outside) counts() (calls, repeated int, keys map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	keys = make(map[string]bool)
	taken := make(map[string]bool)
	for _, c := range o.calls {
		keys[c.key] = true
		if c.taken && taken[c.key] {
			repeated++
		}
		taken[c.key] = taken[c.key] || c.taken
	}
	return len(o.calls), repeated, keys
}
