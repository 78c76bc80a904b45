//go:build !unix

package relay

import (
	"errors"
	"net"
)

// setLowWater is not known here.
func setLowWater(*net.TCPConn, int) error { return errors.ErrUnsupported }
