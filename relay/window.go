package relay

import "sync/atomic"

// window bounds the memory of the events between being read and being recorded.
// One goroutine, the reader, acquires; any may add or release.
type window struct {
	limit   int64
	used    atomic.Int64
	waiting atomic.Bool   // there was no room when the reader last asked
	freed   chan struct{} // holds a token when something was released
}

func newWindow(limit int) *window {
	return &window{limit: int64(limit), freed: make(chan struct{}, 1)}
}

// acquire takes n bytes if there is room. An event larger than the whole window
// is let in alone. When it says no, wait on freed and try again.
func (w *window) acquire(n int) bool {
	used := w.used.Load()
	full := used > 0 && used+int64(n) > w.limit
	if w.waiting.Load() != full {
		w.waiting.Store(full)
	}
	if full {
		return false
	}
	w.used.Add(int64(n))
	return true
}

// add takes n bytes, room or not: what comes back from being parked is bounded by
// itself, and the reader waits the longer.
func (w *window) add(n int) { w.used.Add(int64(n)) }

func (w *window) release(n int) {
	w.used.Add(-int64(n))
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

func (w *window) bytes() int { return int(w.used.Load()) }
