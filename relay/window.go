package relay

import "sync/atomic"

// window bounds the memory of the events between being read and being recorded.
// One goroutine, the reader, acquires; any may release, add or remove.
type window struct {
	limit   int64
	read    atomic.Int64
	beside  atomic.Int64  // of what the reader did not bring
	waiting atomic.Bool   // there was no room when the reader last asked
	freed   chan struct{} // holds a token when something was released or removed
}

func newWindow(limit int) *window {
	return &window{limit: int64(limit), freed: make(chan struct{}, 1)}
}

// acquire takes n bytes if there is room. An event larger than the whole window
// is let in alone. When it says no, wait on freed and try again.
func (w *window) acquire(n int) bool {
	read := w.read.Load()
	full := read > 0 && read+int64(n) > w.limit
	if w.waiting.Load() != full {
		w.waiting.Store(full)
	}
	if full {
		return false
	}
	w.read.Add(int64(n))
	return true
}

// release gives back what was acquired.
func (w *window) release(n int) { w.free(&w.read, n) }

// add takes n bytes, room or not: what comes back from being parked, and what is
// replayed, is bounded by itself. The reader does not wait for it: it may last for
// hours, and be more than the whole window.
func (w *window) add(n int) { w.beside.Add(int64(n)) }

// remove gives back what was added.
func (w *window) remove(n int) { w.free(&w.beside, n) }

func (w *window) free(from *atomic.Int64, n int) {
	from.Add(-int64(n))
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

// bytes is all of it.
func (w *window) bytes() int { return int(w.read.Load() + w.beside.Load()) }
