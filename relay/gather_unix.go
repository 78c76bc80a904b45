//go:build unix

package relay

import (
	"net"
	"syscall"
)

// setLowWater asks to be woken for n bytes or more only.
// https://man7.org/linux/man-pages/man7/socket.7.html
func setLowWater(conn *net.TCPConn, n int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n) })
	if err != nil {
		return err
	}
	return failed
}
