//go:build !linux

package relay

import (
	"errors"
	"net"
	"time"
)

// waitForBytes is not known here.
func waitForBytes(net.Conn, int) error { return errors.ErrUnsupported }

// shrinkBuffer is not known here.
func shrinkBuffer(net.Conn, int) error { return errors.ErrUnsupported }

// waiting is not known here.
func waiting(net.Conn) int { return 0 }

// giveUpAfter leaves it to the system.
func giveUpAfter(net.Conn, time.Duration) error { return nil }
