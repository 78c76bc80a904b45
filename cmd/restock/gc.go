package main

import (
	"os"
	"runtime/debug"
)

// relayGCPercent saves up to a quarter of what a publish costs with Go's default of
// 100: a relay keeps little, and makes much garbage.
const relayGCPercent = 400

// relayMemory is the memory from which a relay collects however little garbage there
// is: twice the window, for its events and what is made of them, and room for the rest.
func relayMemory(window int) int64 { return 2*int64(window) + 64<<20 }

// tuneGC sets up the collector for a relay, where the environment does not.
func tuneGC(window int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(relayGCPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(relayMemory(window))
	}
}
