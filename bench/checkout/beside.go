package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

// caughtUpWithin is when the relay has to be done after the last checkout, else the
// figure does not count.
const caughtUpWithin = 2 * time.Second

// withRelay is checkouts with a relay that reads, keeps its ledger and publishes
// nowhere, against the same in a shop without it.
func withRelay(ctx context.Context, b *bench) (bool, error) {
	alone, err := b.newShop(ctx, "alone", b.Products)
	if err != nil {
		return false, err
	}
	relayed, err := b.newShop(ctx, "relayed", b.Products)
	if err != nil {
		return false, err
	}
	if _, err := relay.CreateSlot(ctx, b.pg.DSN("relayed"), schema.SlotName("relayed"), schema.Publication, relay.RefuseExisting, time.Minute); err != nil {
		return false, err
	}
	for _, s := range []*shop{alone, relayed} {
		if err := s.open(ctx); err != nil {
			return false, err
		}
		defer func() { _ = s.close() }()
	}
	with := relayed.byAPI("relay_on", onUniform, 32, false)
	plain := with.turn
	with.turn = func(ctx context.Context) (float64, error) { return relayed.besideRelay(ctx, plain) }
	return b.compare(ctx, alone, []*contender{alone.byAPI("relay_off", onUniform, 32, false), with},
		[]against{{"relay_on_vs_off", "relay_on", "relay_off", figure.AtLeast(0.78)}})
}

// besideRelay runs a turn beside a relay, which has nothing to do before and after.
func (s *shop) besideRelay(ctx context.Context, turn func(context.Context) (float64, error)) (float64, error) {
	cmd, url, err := again(ctx, "--relay", s.b.pg.RoleDSN(schema.RoleRelay, password, s.database), "--slot", schema.SlotName(s.database))
	if err != nil {
		return 0, err
	}
	rate, err := 0.0, caughtUp(ctx, url)
	if err == nil {
		rate, err = turn(ctx)
	}
	if err == nil {
		err = caughtUp(ctx, url)
	}
	return rate, errors.Join(err, end(cmd))
}

func caughtUp(ctx context.Context, url string) error {
	for until := time.Now().Add(caughtUpWithin); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("the relay did not catch up within %s", caughtUpWithin)
}

type nowhere struct{}

func (nowhere) Publish(_ context.Context, events []schema.Event) ([]relay.Result, error) {
	return make([]relay.Result, len(events)), nil
}

// relayNowhere is a relay. Its address says 200 once nothing is left to publish.
func relayNowhere(ctx context.Context, dsn, slot string) error {
	debug.SetGCPercent(400) // as restock relay has it by default
	r, err := relay.New(relay.Config{
		DSN: dsn, Slot: slot, Publication: schema.Publication, Publisher: nowhere{}, Logger: zerolog.New(os.Stderr).Level(zerolog.WarnLevel),
	})
	if err != nil {
		return err
	}
	ln, err := service.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if r.PublishLag() > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	fmt.Println("http://" + ln.Addr().String())
	return service.Run(ctx, r.Run, service.HTTP(ln, mux))
}

// grown is a shop with a large outbox and many products beside a new one. Its turns are
// longer: before each is a checkpoint, and the first change of a page behind it writes the
// whole page to the WAL. With many products nearly each checkout of the first seconds is such
// a change. A shop has a checkpoint every five minutes (checkpoint_timeout), and so pays that
// for a shorter part of its time still.
func grown(ctx context.Context, b *bench) (bool, error) {
	longer := *b
	longer.Turn = b.GrownTurn
	b = &longer
	small, err := b.newShop(ctx, "small", b.Products)
	if err != nil {
		return false, err
	}
	large, err := b.newShop(ctx, "large", b.Many)
	if err != nil {
		return false, err
	}
	if err := large.fill(ctx, b.Rows); err != nil {
		return false, fmt.Errorf("fill the outbox: %w", err)
	}
	for _, s := range []*shop{small, large} {
		if err := s.open(ctx); err != nil {
			return false, err
		}
		defer func() { _ = s.close() }()
	}
	// Of all its products, so that what a larger table costs is measured as well.
	return b.compare(ctx, small, []*contender{
		small.byAPI("small", onUniform, 32, false), large.byAPI("grown", onUniform, 32, false),
	}, []against{{"grown_vs_small", "grown", "small", figure.AtLeast(0.95)}})
}

// fill spreads rows over today and the days to come, so that partitions are there.
func (s *shop) fill(ctx context.Context, rows int) error {
	const days = 10
	var g errgroup.Group
	g.SetLimit(2)
	for day := range days {
		g.Go(func() error {
			return s.sql(ctx, fmt.Sprintf(`SET synchronous_commit = off;
				INSERT INTO outbox (day, id, type, message_group, attributes, body) SELECT (now() AT TIME ZONE 'UTC')::date + %d, gen_random_uuid(), 'order.placed', 'c-' || n %% 5000,
				'{"quantity":{"type":"Number","value":"1"}}', '{"data":{"text":"a small one"}}' FROM generate_series(1, %d) n`, day, rows/days))
		})
	}
	return g.Wait()
}

// profiled takes a CPU profile of the API in the second turn.
func (s *shop) profiled(turn func(context.Context) (float64, error)) func(context.Context) (float64, error) {
	turns := 0
	return func(ctx context.Context) (float64, error) {
		if turns++; turns != 2 {
			return turn(ctx)
		}
		var g errgroup.Group
		g.Go(func() error { return s.profile(ctx) })
		rate, err := turn(ctx)
		return rate, errors.Join(err, g.Wait())
	}
}

func (s *shop) profile(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(int(s.b.Turn.Seconds())-1, 1)), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := os.Create(s.b.Profile)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, res.Body)
	return errors.Join(err, out.Close())
}
