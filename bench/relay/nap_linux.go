package main

import (
	"syscall"
	"time"
)

// nap sleeps on a thread of its own, because the runtime's timers are late by up to a
// millisecond on a machine with little to do, which would count as service time.
func nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // cut short by a signal it only answers sooner
}
