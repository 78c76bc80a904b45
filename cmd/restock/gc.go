package main

import (
	"os"
	"runtime/debug"
)

// gcPercent saves up to a quarter of what a publish or a checkout costs with Go's
// default of 100: a relay and an API keep little, and make much garbage.
const gcPercent = 400

// gcMemory is the memory from which a part collects however little garbage there is:
// twice the window, for what it has in hand and what is made of it, and room for the rest.
// Go passes it by a little while it collects, and it knows nothing of the program's own
// pages: with a window of 64 MiB a relay ends up below 192 MiB.
func gcMemory(window int) int64 { return 2*int64(window) + 48<<20 }

// tuneGC sets up the collector for a part with so many bytes in hand, where the
// environment does not.
func tuneGC(window int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(gcMemory(window))
	}
}
