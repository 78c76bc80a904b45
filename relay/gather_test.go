package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/service"
)

// connected returns both ends of a connection of the given kind, with a gatherer
// beneath the near one.
func connected(t *testing.T, kind string) (near, far net.Conn, g *gatherer) {
	t.Helper()
	if kind == "pipe" {
		near, far = net.Pipe()
	} else {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		accepted := make(chan net.Conn, 1)
		go func() {
			conn, _ := l.Accept()
			accepted <- conn
		}()
		near, err = net.Dial("tcp", l.Addr().String())
		require.NoError(t, err)
		far = <-accepted
	}
	g = newGatherer(near)
	near = g
	if kind == "tls" {
		identity := httptest.NewTLSServer(nil)
		identity.Close()
		server := tls.Server(far, &tls.Config{Certificates: identity.TLS.Certificates})
		client := tls.Client(g, &tls.Config{InsecureSkipVerify: true})
		go func() { _ = server.Handshake() }()
		require.NoError(t, client.Handshake())
		near, far = client, server
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far, g
}

// TestGather: whatever the sender's pace, every byte comes, in order, and a tail
// that is shorter than what the gatherer likes to be woken for comes as well.
func TestGather(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tcp", "tls", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			near, far, g := connected(t, kind)

			g.readInBursts()
			require.Equal(t, kind != "pipe" && runtime.GOOS == "linux", g.near)
			g.expect(inBacklog, time.Now())
			random := rand.New(rand.NewPCG(1, 2))
			sent := make([]byte, 8<<20)
			for i := range sent {
				sent[i] = byte(random.Uint32())
			}
			go func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+random.IntN(2000))
					if _, err := far.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			got := make([]byte, len(sent))
			_, err := io.ReadFull(near, got)
			require.NoError(t, err)
			require.True(t, bytes.Equal(sent, got))
			require.True(t, g.empty())

			// Fast or not, one byte is not waited for in vain.
			before := newBursts(time.Now())
			g.wakeup, g.bursts, g.readAt = inBacklog, before, time.Time{} // the last turn is not judged first
			go func() { _, _ = far.Write([]byte{42}) }()
			_, err = io.ReadFull(near, got[:1])
			require.NoError(t, err)
			require.Equal(t, byte(42), got[0])
			require.Equal(t, g.near, g.bursts != before, "it came in a burst")
		})
	}
}

// TestGatherGivesUp: a read ends at its deadline and at an interruption, also one
// that comes before it, and the next read goes on.
func TestGatherGivesUp(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tcp", "tls", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			near, far, g := connected(t, kind)
			g.readInBursts()
			one := make([]byte, 1)

			for _, wakeup := range []wakeup{atOnce, whenFast, inBacklog} {
				g.expect(wakeup, time.Now())
				require.NoError(t, near.SetReadDeadline(time.Now()))
				_, err := near.Read(one)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)

				g.expect(wakeup, time.Now())
				require.NoError(t, near.SetReadDeadline(time.Now().Add(time.Hour)))
				go func() { _ = near.SetReadDeadline(time.Unix(1, 0)) }()
				_, err = near.Read(one)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			}

			require.NoError(t, near.SetReadDeadline(time.Time{}))
			go func() { _, _ = far.Write([]byte{42}) }()
			_, err := near.Read(one)
			require.NoError(t, err)
			require.Equal(t, byte(42), one[0])

			go far.Close()
			_, err = near.Read(one)
			require.True(t, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF), err)
		})
	}
}

// TestGatherToTheEnd: what came before the end of a connection, or its failure, goes first,
// and that is told again to whoever asks again.
func TestGatherToTheEnd(t *testing.T) {
	t.Parallel()
	near, far, g := connected(t, "tcp")
	g.readInBursts()
	g.expect(inBacklog, time.Now())
	sent := make([]byte, 2*refilled.bytes)
	_, err := far.Write(sent)
	require.NoError(t, err)
	require.NoError(t, far.Close())
	got, err := io.ReadAll(near)
	require.NoError(t, err)
	require.Len(t, got, len(sent))
	for range 2 {
		_, err = near.Read(got)
		require.ErrorIs(t, err, io.EOF)
	}

	_, _, g = connected(t, "tcp")
	require.NoError(t, g.SetReadDeadline(time.Unix(1, 0)))
	g.keep(os.ErrDeadlineExceeded)
	require.ErrorIs(t, g.fill(), os.ErrDeadlineExceeded)
	require.NoError(t, g.failed, "a deadline is asked for anew")
	g.keep(syscall.ECONNRESET)
	require.ErrorIs(t, g.fill(), syscall.ECONNRESET)
	require.ErrorIs(t, g.fill(), syscall.ECONNRESET)
}

// TestPauseSeesTheWindowShut: a writer that cannot go on is seen, silence is not taken for it.
func TestPauseSeesTheWindowShut(t *testing.T) {
	t.Parallel()
	_, far, g := connected(t, "tcp")
	g.readInBursts()
	if !g.near {
		t.Skip("this system has no bursts")
	}
	g.expect(inBacklog, time.Now())
	g.pause()
	require.True(t, g.bursts.filling(), "there is nothing")
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		_, _ = far.Write(make([]byte, 32<<20)) // more than both ends' buffers hold
	}()
	for range 100 {
		g.pause()
	}
	require.False(t, g.bursts.filling())
	require.NoError(t, g.Close())
	<-wrote
}

// TestOnThisHost: two ends of one address are on one host.
func TestOnThisHost(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]bool{"tcp": true, "pipe": false} {
		_, _, g := connected(t, kind)
		require.Equal(t, want, onThisHost(g.Conn), kind)
	}
	_, _, g := connected(t, "tcp")
	require.False(t, onThisHost(elsewhere{g.Conn}))
}

type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

// TestGatherForTwo: what pgx gives up it reads to the end, perhaps beside a read that
// goes on in the background. Every byte comes once, to one of the two.
func TestGatherForTwo(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tcp", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			near, far, _ := connected(t, kind)
			const all = 4 << 20
			go func() {
				defer far.Close()
				piece := make([]byte, 1000)
				for rest := all; rest > 0; rest -= len(piece) {
					piece = piece[:min(len(piece), rest)]
					if _, err := far.Write(piece); err != nil {
						return
					}
				}
			}()
			read := make(chan int64)
			for range 2 {
				go func() {
					n, _ := io.Copy(io.Discard, struct{ io.Reader }{near})
					read <- n
				}()
			}
			require.EqualValues(t, all, <-read+<-read)
		})
	}
}

func TestWakeup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		bytes    int
		messages int64
		in       time.Duration
		want     wakeup
	}{
		"nothing":                         {0, 0, time.Second, atOnce},
		"one event now and then":          {1000, 3, 5 * time.Millisecond, atOnce},
		"large events":                    {15 << 20, 150, time.Second, atOnce},
		"just below fast":                 {2 << 20, 2999, time.Second, atOnce},
		"fast":                            {2 << 20, 3000, time.Second, whenFast},
		"fast, in a short span":           {24 << 10, 30, gatherSpan, whenFast},
		"just below a backlog":            {16<<20 - 1, 20_000, time.Second, whenFast},
		"a backlog":                       {16 << 20, 0, time.Second, inBacklog},
		"a backlog that a read waited on": {gatherBuffer, 1000, 10 * time.Millisecond, inBacklog},
	} {
		require.Equal(t, c.want, wakeupFor(c.bytes, c.messages, c.in), name)
	}
}

// TestMeasure: what comes as fast as a backlog shows after two milliseconds, all else only
// after ten: two events side by side do not keep the next one waiting.
func TestMeasure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGatherer(nil)
		for _, step := range []struct {
			after    time.Duration
			bytes    int
			messages int64
			want     wakeup
		}{
			{time.Hour, 8 << 10, 10, atOnce},
			{time.Millisecond, 8 << 10, 10, atOnce},
			{time.Millisecond, 8 << 10, 10, atOnce},
			{8 * time.Millisecond, 8 << 10, 10, whenFast},
			{5 * time.Millisecond, 0, 0, whenFast},
			{5 * time.Millisecond, 1 << 10, 3, atOnce},
			{time.Millisecond, 64 << 10, 70, atOnce},
			{time.Millisecond, 64 << 10, 70, inBacklog},
			{20 * time.Millisecond, 1 << 10, 3, atOnce},
		} {
			require.NoError(t, service.Sleep(t.Context(), step.after))
			g.messages.Add(step.messages)
			g.bytes += step.bytes
			g.readAt = time.Now()
			g.measure()
			require.Equal(t, step.want, g.wakeup)
		}
	})
}

// steady is a connection on which messages come one after the other, and a read waits as
// the gatherer would have it wait.
type steady struct {
	net.Conn
	g     *gatherer
	since time.Time
	read  int
}

const (
	steadySize  = 600
	steadyEvery = time.Second / 15_000 // five times as fast as what is fast, half as fast as a backlog
)

func (s *steady) Read([]byte) (int, error) {
	w := s.g.wakeup
	worth := time.Duration(s.read+max(1, w.bytes/steadySize)) * steadyEvery
	if err := service.Sleep(context.Background(), max(steadyEvery, min(w.wait, worth-time.Since(s.since)))); err != nil {
		return 0, err
	}
	came := int(time.Since(s.since)/steadyEvery) - s.read
	s.read += came
	return came * steadySize, nil
}

// SetReadDeadline is for a burst's wait, which this connection cannot do.
func (s *steady) SetReadDeadline(time.Time) error { return nil }

// TestBehindABacklog: what comes fast behind a backlog that was taken in bursts is taken for fast.
func TestBehindABacklog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGatherer(nil)
		g.Conn, g.near, g.unable = &steady{g: g, since: time.Now()}, true, true
		g.expect(inBacklog, time.Now())
		piece := make([]byte, gatherBuffer)
		for reads := range 100 {
			n, err := g.Read(piece)
			require.NoError(t, err)
			g.messages.Add(int64(n / steadySize))
			if reads > 0 {
				require.Equal(t, whenFast, g.wakeup, reads)
			}
		}
	})
}

// TestSteadyTrafficIsGathered: what comes fast and evenly is taken for fast, and stays so,
// also where each tenth read takes long to be taken.
func TestSteadyTrafficIsGathered(t *testing.T) {
	t.Parallel()
	for name, handling := range map[string]time.Duration{"in no time": 0, "slowly at times": 2 * gatherSpan} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGatherer(nil)
				g.Conn = &steady{g: g, since: time.Now()}
				g.unable = true // it is the connection that waits
				piece := make([]byte, gatherBuffer)
				for reads := range 500 {
					n, err := g.Read(piece)
					require.NoError(t, err)
					g.messages.Add(int64(n / steadySize))
					if reads >= 300 { // 20 ms, one by one
						require.Equal(t, whenFast, g.wakeup, reads)
					}
					if reads%10 == 9 {
						require.NoError(t, service.Sleep(t.Context(), handling))
					}
				}
			})
		})
	}
}
