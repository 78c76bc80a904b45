package relay

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestStreamIsGivenUp: the system ends a stream of which nothing arrives any more after
// SenderTimeout, and not after a quarter of an hour.
func TestStreamIsGivenUp(t *testing.T) {
	t.Parallel()
	conn, g, err := openStream(t.Context(), Config{DSN: TestStore(t).Config().ConnString(), Slot: "s", SenderTimeout: 2 * time.Second})
	require.NoError(t, err)
	defer closeNow(conn)
	raw, err := g.Conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	var within int
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) {
		within, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	}))
	require.NoError(t, failed)
	require.Equal(t, 2000, within)
}

// TestGiveUpAfter: the other end takes nothing more, as far as one can tell, and closes
// nothing.
func TestGiveUpAfter(t *testing.T) {
	t.Parallel()
	_, far, g := connected(t, "tcp")
	require.NotNil(t, far)
	require.NoError(t, giveUpAfter(g.Conn, time.Second))
	require.NoError(t, g.Conn.SetDeadline(time.Now().Add(30*time.Second)))
	var err error
	for piece := make([]byte, 1<<20); err == nil; {
		_, err = g.Conn.Write(piece)
	}
	require.ErrorIs(t, err, syscall.ETIMEDOUT)
}

// TestShrinkBuffer: the system's buffer is as small as asked for, where there is one.
func TestShrinkBuffer(t *testing.T) {
	t.Parallel()
	_, _, g := connected(t, "tcp")
	raw, err := g.Conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	size := func() (n int) {
		var failed error
		require.NoError(t, raw.Control(func(fd uintptr) { n, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) }))
		require.NoError(t, failed)
		return n
	}
	const small = 20 << 10
	require.NotEqual(t, 2*small, size())
	require.NoError(t, shrinkBuffer(g.Conn, small))
	require.Equal(t, 2*small, size())

	_, _, g = connected(t, "pipe")
	require.ErrorIs(t, shrinkBuffer(g.Conn, small), errors.ErrUnsupported)
	require.Zero(t, waiting(g.Conn))
}
