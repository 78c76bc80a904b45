package relay

import "sync/atomic"

// window bounds the memory of the events between being read and being recorded.
// One goroutine, the reader, acquires; any may release.
type window struct {
	limit int64
	used  atomic.Int64
	freed chan struct{} // holds a token when something was released
}

func newWindow(limit int) *window {
	return &window{limit: int64(limit), freed: make(chan struct{}, 1)}
}

// acquire takes n bytes if there is room. An event larger than the whole window
// is let in alone. When it says no, wait on freed and try again.
func (w *window) acquire(n int) bool {
	// Nobody else adds, so what was free still is.
	if used := w.used.Load(); used > 0 && used+int64(n) > w.limit {
		return false
	}
	w.used.Add(int64(n))
	return true
}

func (w *window) release(n int) {
	w.used.Add(-int64(n))
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

func (w *window) bytes() int { return int(w.used.Load()) }
