//go:build !linux

package relay

import (
	"errors"
	"net"
	"time"
)

// waitForBytes is not known here.
func waitForBytes(net.Conn, int) error { return errors.ErrUnsupported }

// giveUpAfter leaves it to the system.
func giveUpAfter(net.Conn, time.Duration) error { return nil }
