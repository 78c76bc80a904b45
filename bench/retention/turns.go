package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/retention"
)

// slice is how long one contender goes on before it is the other's turn: short, so that
// whatever else the machine does slows down both.
const slice = 500 * time.Millisecond

// turn is what one contender did in a round.
type turn struct {
	bought  int
	took    time.Duration
	longest time.Duration // that one checkout took
}

func (t turn) rate() float64 { return float64(t.bought) / t.took.Seconds() }

func (t turn) and(more turn) turn {
	return turn{t.bought + more.bought, t.took + more.took, max(t.longest, more.longest)}
}

// round is one turn of each contender.
type round struct{ empty, full, dropping turn }

func compare(ctx context.Context, emptyShop, fullShop *shop, o options) (bool, error) {
	toEmpty, err := hire(ctx, emptyShop, o.Clients)
	if err != nil {
		return false, err
	}
	defer toEmpty.close()
	toFull, err := hire(ctx, fullShop, o.Clients)
	if err != nil {
		return false, err
	}
	defer toFull.close()
	var rounds []round
	for n := range o.Rounds + 1 {
		var r round
		for i := range max(int(o.Turn/slice), 1) {
			for second := range 2 {
				crew, sum := toEmpty, &r.empty
				if (i+second)%2 == 1 {
					crew, sum = toFull, &r.full
				}
				t, err := crew.buyWhile(ctx, pause)
				if err != nil {
					return false, err
				}
				*sum = sum.and(t)
			}
		}
		if r.dropping, err = buyWhileDropping(ctx, fullShop, toFull, o); err != nil {
			return false, err
		}
		if n > 0 { // the first only warms the caches
			rounds = append(rounds, r)
		}
	}
	return print(rounds, o.Rows), nil
}

func buyWhileDropping(ctx context.Context, s *shop, c *crew, o options) (turn, error) {
	for i := range o.Drop {
		if err := s.addDay(ctx, 2*retention.RecordDays+i, o.Rows/(retention.OutboxDays-1), true); err != nil {
			return turn{}, err
		}
	}
	return c.buyWhile(ctx, func(ctx context.Context) error {
		removed, err := s.maintain(ctx)
		if err == nil && removed != 2*o.Drop {
			err = fmt.Errorf("%d partitions were removed, not %d", removed, 2*o.Drop)
		}
		return err
	})
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(slice):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func print(rounds []round, rows int) bool {
	size := fmt.Sprint(rows)
	if rows == 10_000_000 {
		size = "10m"
	}
	values := func(of func(round) float64) (all []float64) {
		for _, r := range rounds {
			all = append(all, of(r))
		}
		return all
	}
	for _, c := range []struct {
		name string
		turn func(round) turn
	}{
		{"empty", func(r round) turn { return r.empty }},
		{"full", func(r round) turn { return r.full }},
		{"dropping", func(r round) turn { return r.dropping }},
	} {
		figure.Print(os.Stdout, "retention_checkout_"+c.name, "checkouts/s", figure.Goal{}, values(func(r round) float64 { return c.turn(r).rate() })...)
		figure.Print(os.Stdout, "retention_checkout_"+c.name+"_longest", "ms", figure.Goal{}, values(func(r round) float64 { return c.turn(r).longest.Seconds() * 1000 })...)
	}
	figure.Print(os.Stdout, "retention_dropping", "s", figure.Goal{}, values(func(r round) float64 { return r.dropping.took.Seconds() })...)
	figure.Print(os.Stdout, "retention_checkout_dropping_vs_full", "ratio", figure.Goal{}, values(func(r round) float64 { return r.dropping.rate() / r.full.rate() })...)
	return figure.Print(os.Stdout, "retention_checkout_"+size+"_vs_empty", "ratio", figure.AtLeast(0.95), values(func(r round) float64 { return r.full.rate() / r.empty.rate() })...)
}
