package relay

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waitForBytes returns when n bytes can be read, or as many as the system has room
// for, or conn's read deadline passes. It looks first, because nothing wakes it for
// bytes that are there already, and then asks to be woken for n bytes, not for each
// that comes.
// https://man7.org/linux/man-pages/man7/socket.7.html (SO_RCVLOWAT),
// https://man7.org/linux/man-pages/man7/tcp.7.html (SIOCINQ)
func waitForBytes(conn net.Conn, n int) error {
	raw, err := rawTCP(conn)
	if err != nil {
		return err
	}
	var failed error
	looked := false
	err = raw.Read(func(fd uintptr) bool {
		if looked { // and was woken
			return true
		}
		looked = true
		var came int
		if came, failed = unix.IoctlGetInt(int(fd), unix.TIOCINQ); failed != nil || came >= n {
			return true
		}
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, n)
		return failed != nil
	})
	// Whoever reads next waits for any byte.
	reset := setOption(raw, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1)
	if err != nil {
		return err
	}
	return errors.Join(failed, reset)
}

// shrinkBuffer has the system buffer n bytes of what comes, or twice that, instead of as
// many as it likes.
// https://man7.org/linux/man-pages/man7/socket.7.html (SO_RCVBUF)
func shrinkBuffer(conn net.Conn, n int) error {
	raw, err := rawTCP(conn)
	if err != nil {
		return err
	}
	return setOption(raw, unix.SOL_SOCKET, unix.SO_RCVBUF, n)
}

// waiting is how many bytes have come and were not read, as far as the system tells.
func waiting(conn net.Conn) (n int) {
	if raw, err := rawTCP(conn); err == nil {
		_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}

// giveUpAfter has the system end a connection when what was sent on it has not been
// acknowledged for so long. By itself it tries for a quarter of an hour.
// https://man7.org/linux/man-pages/man7/tcp.7.html (TCP_USER_TIMEOUT)
func giveUpAfter(conn net.Conn, within time.Duration) error {
	raw, err := rawTCP(conn)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // a Unix socket has nothing on its way that could be cut off
	}
	if err != nil {
		return err
	}
	return setOption(raw, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(within.Milliseconds()))
}

// rawTCP is errors.ErrUnsupported for what is no TCP connection.
func rawTCP(conn net.Conn) (syscall.RawConn, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return tcp.SyscallConn()
}

func setOption(raw syscall.RawConn, level, option, value int) error {
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), level, option, value) })
	return errors.Join(err, failed)
}
