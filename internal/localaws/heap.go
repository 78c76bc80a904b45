package localaws

// indexedHeap is a min-heap whose items know their own position, so that any item can be taken out in O(log n).
type indexedHeap[T any] struct {
	items []T
	less  func(a, b T) bool
	moved func(item T, position int) // position is -1 once the item has left
}

func (h *indexedHeap[T]) len() int { return len(h.items) }

func (h *indexedHeap[T]) peek() (T, bool) {
	if len(h.items) == 0 {
		var none T
		return none, false
	}
	return h.items[0], true
}

func (h *indexedHeap[T]) push(item T) {
	h.items = append(h.items, item)
	h.moved(item, len(h.items)-1)
	h.up(len(h.items) - 1)
}

func (h *indexedHeap[T]) pop() T { return h.remove(0) }

func (h *indexedHeap[T]) remove(i int) T {
	last := len(h.items) - 1
	if i != last {
		h.swap(i, last)
	}
	item := h.items[last]
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	if i != last && !h.down(i) {
		h.up(i)
	}
	h.moved(item, -1)
	return item
}

// fix restores the order after the item at i changed its rank.
func (h *indexedHeap[T]) fix(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h *indexedHeap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	h.moved(h.items[i], i)
	h.moved(h.items[j], j)
}

func (h *indexedHeap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.items[i], h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *indexedHeap[T]) down(i int) bool {
	start := i
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if right := child + 1; right < len(h.items) && h.less(h.items[right], h.items[child]) {
			child = right
		}
		if !h.less(h.items[child], h.items[i]) {
			break
		}
		h.swap(i, child)
		i = child
	}
	return i > start
}
