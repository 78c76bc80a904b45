package main

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// nowhere accepts everything at once, and says when it has had so many.
type nowhere struct {
	left atomic.Int64
	all  chan struct{}
}

func newNowhere(events int) *nowhere {
	n := &nowhere{all: make(chan struct{})}
	n.left.Store(int64(events))
	return n
}

func (n *nowhere) Publish(_ context.Context, events []schema.Event) ([]relay.Result, error) {
	if n.left.Add(-int64(len(events))) == 0 {
		close(n.all)
	}
	return make([]relay.Result, len(events)), nil
}

const (
	withLedger    = true
	withoutLedger = false
)

func asIs(dsn string) string { return dsn }

// drainRestock is the relay with a publisher that leads nowhere.
func drainRestock(how func(dsn string) string, ledger bool) func(ctx context.Context, b *backlog, slot string) error {
	return func(ctx context.Context, b *backlog, slot string) error {
		publisher := newNowhere(b.rows)
		r, err := relay.New(relay.Config{
			DSN: how(b.pg.RoleDSN(schema.RoleRelay, password, b.database)), Slot: slot, Publication: schema.Publication,
			Publisher: publisher, Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel), WithoutLedger: !ledger,
		})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		select {
		case <-publisher.all:
		case err := <-ended:
			cancel()
			return errors.Join(errors.New("the relay ended"), err)
		}
		for ledger && r.PublishLag() > 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		return <-ended
	}
}
