package relay

import "sync"

// window bounds the memory of the events between being read and being recorded.
// One goroutine, the reader, acquires; any may release.
type window struct {
	limit int

	mu    sync.Mutex
	used  int
	freed chan struct{} // holds a token when something was released
}

func newWindow(limit int) *window {
	return &window{limit: limit, freed: make(chan struct{}, 1)}
}

// acquire takes n bytes if there is room. An event larger than the whole window
// is let in alone. When it says no, wait on freed and try again.
func (w *window) acquire(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.used > 0 && w.used+n > w.limit {
		return false
	}
	w.used += n
	return true
}

func (w *window) release(n int) {
	w.mu.Lock()
	w.used -= n
	w.mu.Unlock()
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

func (w *window) bytes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used
}
