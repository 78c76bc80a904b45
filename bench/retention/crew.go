package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/schema"
)

// crew buys in one shop, each on a connection of his own.
type crew struct{ buyers []*pgx.Conn }

func hire(ctx context.Context, s *shop, clients int) (*crew, error) {
	c := &crew{}
	for range clients {
		conn, err := pgx.Connect(ctx, s.dsn)
		if err != nil {
			c.close()
			return nil, err
		}
		c.buyers = append(c.buyers, conn)
	}
	return c, nil
}

func (c *crew) close() {
	for _, conn := range c.buyers {
		conn.Close(context.Background())
	}
}

// buyWhile buys with all connections for as long as something else takes.
func (c *crew) buyWhile(ctx context.Context, something func(context.Context) error) (turn, error) {
	open, end := context.WithCancel(ctx)
	defer end()
	turns := make([]turn, len(c.buyers))
	var g errgroup.Group
	started := time.Now()
	for i, conn := range c.buyers {
		g.Go(func() error {
			for open.Err() == nil {
				one := time.Now()
				if err := buy(ctx, conn); err != nil {
					return err
				}
				turns[i] = turns[i].and(turn{bought: 1, longest: time.Since(one)})
			}
			return nil
		})
	}
	err := something(ctx)
	end()
	err = errors.Join(err, g.Wait())
	sum := turn{took: time.Since(started)}
	for _, t := range turns {
		sum = sum.and(t)
	}
	return sum, err
}

func buy(ctx context.Context, conn *pgx.Conn) error {
	var outcome string
	product := rand.IntN(products) //nolint:gosec // G404: which one is no secret
	err := conn.QueryRow(ctx, `SELECT outcome FROM checkout_alone($1, $2, 1, NULL, '5 minutes', $3, 'order.placed', $4::text, bucket_of($4),
			'{"quantity":{"type":"Number","value":"1"}}', '{"specversion":"1.0","type":"order.placed","data":{"quantity":1}}', NULL)`,
		schema.NewID(), fmt.Sprintf("P-%d", product), schema.NewID(), schema.NewID().String()).Scan(&outcome)
	if err == nil && outcome != "bought" {
		err = fmt.Errorf("checkout: %s", outcome)
	}
	return err
}
