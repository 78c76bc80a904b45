package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/load"
)

// contender is something that checks out, and its rate in each round.
type contender struct {
	name  string
	turn  func(ctx context.Context) (rate float64, err error)
	rates []float64

	loader func() float64 // of an API: the loader's CPU in the last turn, in us a checkout
	cpu    []float64
}

// against is a ratio of two contenders, round by round.
type against struct {
	name, over, under string
	goal              figure.Goal
}

// compare has the contenders take turns, and prints their rates and ratios.
func (b *bench) compare(ctx context.Context, s *shop, contenders []*contender, ratios []against) (bool, error) {
	by := map[string]*contender{}
	for round := range b.Rounds + 1 {
		for _, c := range contenders {
			by[c.name] = c
			if err := s.settle(ctx); err != nil {
				return false, err
			}
			rate, err := c.turn(ctx)
			if err != nil {
				return false, fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 { // the first only warms the caches
				c.rates = append(c.rates, rate)
				if c.loader != nil {
					c.cpu = append(c.cpu, c.loader())
				}
			}
		}
	}
	for _, c := range contenders {
		figure.Print(os.Stdout, "checkout_"+c.name, "checkouts/s", figure.Goal{}, c.rates...)
		if c.loader != nil {
			figure.Print(os.Stdout, "checkout_"+c.name+"_loader_cpu", "us/checkout", figure.Goal{}, c.cpu...)
		}
	}
	ok := true
	for _, r := range ratios {
		var values []float64
		for i, rate := range by[r.over].rates {
			values = append(values, rate/by[r.under].rates[i])
		}
		ok = figure.Print(os.Stdout, "checkout_"+r.name, "ratio", r.goal, values...) && ok
	}
	return ok, nil
}

func (s *shop) byPgbench(name, script string, clients int) *contender {
	return &contender{name: name, turn: func(ctx context.Context) (float64, error) {
		rate, _, err := s.pgbench(ctx, script, clients)
		return rate, err
	}}
}

// byAPI is the load tool in a closed loop.
func (s *shop) byAPI(name, on string, connections int, keys bool) *contender {
	var cpu float64
	return &contender{name: name, loader: func() float64 { return cpu }, turn: func(ctx context.Context) (float64, error) {
		l, err := s.closedLoop(ctx, on, connections, keys)
		cpu = l.CPU
		return l.Rate, err
	}}
}

func uniform(ctx context.Context, b *bench) (bool, error) {
	s, err := b.newShop(ctx, "uniform", b.Products)
	if err != nil {
		return false, err
	}
	if err := s.open(ctx); err != nil {
		return false, err
	}
	defer func() { _ = s.close() }()
	script := oneStatement(b.Products)
	at32 := s.byAPI("uniform_32", onUniform, 32, false)
	if b.Profile != "" {
		at32.turn = s.profiled(at32.turn)
	}
	ok, err := b.compare(ctx, s, []*contender{
		s.byPgbench("pgbench_1", script, 1), s.byAPI("uniform_1", onUniform, 1, false),
		s.byPgbench("pgbench_8", script, 8), s.byAPI("uniform_8", onUniform, 8, false),
		s.byPgbench("pgbench_32", script, 32), at32, s.byAPI("uniform_32_keyed", onUniform, 32, true), s.byAPI("uniform_128", onUniform, 128, false),
	}, []against{
		{"uniform_1_vs_pgbench_1", "uniform_1", "pgbench_1", figure.AtLeast(0.65)},
		{"uniform_8_vs_pgbench_8", "uniform_8", "pgbench_8", figure.AtLeast(0.8)},
		{"uniform_32_vs_pgbench_32", "uniform_32", "pgbench_32", figure.AtLeast(1.2)},
		{"uniform_32_keyed_vs_pgbench_32", "uniform_32_keyed", "pgbench_32", figure.AtLeast(1.1)},
		{"uniform_128_vs_pgbench_32", "uniform_128", "pgbench_32", figure.AtLeast(1.8)},
	})
	return ok, err
}

func hot(ctx context.Context, b *bench) (bool, error) {
	s, err := b.newShop(ctx, "hot", b.Products)
	if err != nil {
		return false, err
	}
	if err := s.open(ctx); err != nil {
		return false, err
	}
	defer func() { _ = s.close() }()
	return b.compare(ctx, s, []*contender{
		s.byPgbench("pgbench_hot_32", threeStatements, 32), s.byAPI("hot_32", onHot, 32, false), s.byAPI("hot_128", onHot, 128, false),
		s.byAPI("spread_32", onUniform, 32, false),
	}, []against{
		{"hot_32_vs_pgbench_hot_32", "hot_32", "pgbench_hot_32", figure.AtLeast(16)},
		{"hot_128_vs_pgbench_hot_32", "hot_128", "pgbench_hot_32", figure.AtLeast(22)},
		{"hot_32_vs_spread_32", "hot_32", "spread_32", figure.AtLeast(0.95)},
	})
}

// latency is that of half of the greatest rate, each answer from when it was due.
func latency(ctx context.Context, b *bench) (bool, error) {
	s, err := b.newShop(ctx, "latency", b.Products)
	if err != nil {
		return false, err
	}
	if err := s.open(ctx); err != nil {
		return false, err
	}
	defer func() { _ = s.close() }()
	pick := uniformly(s.products)
	var p50, p99, ratios []float64
	for round := range b.Rounds + 1 {
		if err := s.settle(ctx); err != nil {
			return false, err
		}
		most, err := s.closedLoop(ctx, onUniform, 32, false)
		if err != nil {
			return false, err
		}
		// From here, with timers that are not late.
		half, err := load.Run(ctx, load.Config{URL: s.url, For: b.Turn, Connections: 128, Pick: pick, Rate: most.Rate / 2})
		if err == nil {
			err = allBought(half.Bought, half.Requests)
		}
		if err != nil {
			return false, err
		}
		_, mean, err := s.pgbench(ctx, oneStatement(b.Products), 1)
		if err != nil {
			return false, err
		}
		if round > 0 {
			p50, p99 = append(p50, milliseconds(half.Latency(0.5))), append(p99, milliseconds(half.Latency(0.99)))
			ratios = append(ratios, float64(half.Latency(0.99))/float64(mean))
		}
	}
	figure.Print(os.Stdout, "checkout_half_rate_p50", "ms", figure.Goal{}, p50...)
	figure.Print(os.Stdout, "checkout_half_rate_p99", "ms", figure.Goal{}, p99...)
	return figure.Print(os.Stdout, "checkout_half_rate_p99_vs_pgbench_1_mean", "ratio", figure.AtMost(12), ratios...), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
