//go:build !linux

package relay

import (
	"errors"
	"net"
)

// waitForBytes is not known here.
func waitForBytes(net.Conn, int) error { return errors.ErrUnsupported }
