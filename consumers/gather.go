package consumers

import "sync"

// gather turns what is asked while a call is under way into one next call. One
// that asks alone waits for nobody.
type gather[Q, A any] struct {
	most int // that one call takes
	call func([]Q) []A

	mu      sync.Mutex
	waiting []asked[Q, A]
	calling bool
}

type asked[Q, A any] struct {
	question Q
	answer   chan A
}

// ask returns what the call that took q answers to it.
func (g *gather[Q, A]) ask(q Q) A {
	a := asked[Q, A]{q, make(chan A, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, a)
	begin := !g.calling
	g.calling = true
	g.mu.Unlock()
	if begin {
		go g.answerAll()
	}
	return <-a.answer
}

// answerAll makes calls until nobody waits.
func (g *gather[Q, A]) answerAll() {
	for batch := g.next(); len(batch) > 0; batch = g.next() {
		questions := make([]Q, len(batch))
		for i, a := range batch {
			questions[i] = a.question
		}
		for i, answer := range g.call(questions) {
			batch[i].answer <- answer
		}
	}
}

func (g *gather[Q, A]) next() []asked[Q, A] {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := g.waiting[:min(len(g.waiting), g.most)]
	g.waiting = g.waiting[len(batch):]
	g.calling = len(batch) > 0
	return batch
}
