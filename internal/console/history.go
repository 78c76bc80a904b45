package console

import (
	"time"

	"github.com/restock-dev/restock/internal/ops"
)

// A history goes back an hour, in points that are no closer than pointEvery: what it keeps
// is bounded, however often is looked.
const (
	historyFor = time.Hour
	pointEvery = 5 * time.Second
	mostPoints = int(historyFor / pointEvery)
)

// point is what is plotted of one look, in the words of a report.
type point struct {
	At     time.Time    `json:"at"`
	Relays []relayPoint `json:"relays"`
	Queues []queuePoint `json:"queues"`
}

type relayPoint struct {
	Database        string  `json:"database"`
	LagSeconds      float64 `json:"lagSeconds"`
	EventsPerSecond float64 `json:"eventsPerSecond"`
}

type queuePoint struct {
	Consumer string `json:"consumer"`
	Visible  int    `json:"visible"`
	InFlight int    `json:"inFlight"`
	Dead     int    `json:"dead"`
}

// pointOf leaves out what could not be asked: a gap, not a 0.
func pointOf(r ops.StatusReport) point {
	p := point{At: r.At, Relays: []relayPoint{}, Queues: []queuePoint{}}
	for _, s := range r.Relays {
		if s.Error == "" {
			p.Relays = append(p.Relays, relayPoint{s.Database, s.LagSeconds, s.EventsPerSecond})
		}
	}
	for _, q := range r.Queues {
		if q.Error == "" {
			p.Queues = append(p.Queues, queuePoint{q.Consumer, q.Visible, q.InFlight, q.Dead})
		}
	}
	return p
}

// history is a ring of points. It is for one goroutine at a time.
type history struct {
	points []point
	next   int // where the next point goes once the ring is full
}

// add keeps the point, unless it is too close to the last one.
func (h *history) add(p point) {
	if last := h.last(); last != nil && p.At.Sub(last.At) < pointEvery {
		return
	}
	if len(h.points) < mostPoints {
		h.points = append(h.points, p)
		return
	}
	h.points[h.next] = p
	h.next = (h.next + 1) % mostPoints
}

func (h *history) last() *point {
	if len(h.points) == 0 {
		return nil
	}
	return &h.points[(h.next+len(h.points)-1)%len(h.points)]
}

// since are the points from then on, the oldest first.
func (h *history) since(t time.Time) []point {
	all := []point{}
	for i := range h.points {
		if p := h.points[(h.next+i)%len(h.points)]; !p.At.Before(t) {
			all = append(all, p)
		}
	}
	return all
}
