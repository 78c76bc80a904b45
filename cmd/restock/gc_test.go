package main

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTuneGC(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(1<<40)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	now := func() (int, int64) { return debug.SetGCPercent(100), debug.SetMemoryLimit(1 << 40) }

	t.Setenv("GOGC", "50")
	t.Setenv("GOMEMLIMIT", "1GiB")
	tuneGC(64 << 20)
	percent1, limit1 := now()
	require.Equal(t, 100, percent1, "the environment's is left alone")
	require.Equal(t, int64(1<<40), limit1)

	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	tuneGC(64 << 20)
	percent2, limit2 := now()
	require.Equal(t, 400, percent2)
	require.Equal(t, int64(176<<20), limit2)
}
