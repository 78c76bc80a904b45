package ops_test

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// replayWorld is two databases with an outbox each, as an operator sees them; no relay
// is at work.
type replayWorld struct {
	*testing.T
	owner     *pgxpool.Pool // of the store
	customers *pgxpool.Pool // owner of the other database, whose inbox vip's is
	replays   *ops.Replays
}

func replayable(t *testing.T) *replayWorld {
	t.Helper()
	t.Parallel()
	w := &replayWorld{T: t}
	helper := &world{T: t}
	db, other := pgtest.NewDatabase(t, store), pgtest.NewDatabase(t, store)
	w.owner, w.customers = helper.connect(db.DSN), helper.connect(other.DSN)
	operator, elsewhere := helper.connect(db.RoleDSN(schema.RoleMaintenance, password)), helper.connect(other.RoleDSN(schema.RoleMaintenance, password))
	cfg := ops.ReplaysConfig{DB: operator, By: "me", Logger: zerolog.Nop()}
	for _, in := range schema.Interests(schema.DefaultVIPThreshold) {
		c := ops.ReplayConsumer{Interest: in, Inbox: operator}
		switch in.Consumer {
		case schema.ConsumerVIP:
			c.Inbox = elsewhere
		case schema.ConsumerMarketing:
			continue
		}
		cfg.Consumers = append(cfg.Consumers, c)
	}
	w.replays = ops.NewReplays(cfg)
	return w
}

// commit appends an event of each payload, at noon of an hour each, and publishes it.
func (w *replayWorld) commit(payloads ...schema.Payload) (ids []uuid.UUID) {
	w.Helper()
	for _, p := range payloads {
		e, err := schema.New(schema.NewID(), p, "")
		require.NoError(w, err)
		require.NoError(w, schema.Append(w.Context(), w.owner, e))
		_, err = w.owner.Exec(w.Context(), `INSERT INTO ledger (day, event_id, outcome, message_id) SELECT day, id, 'published', 'm' FROM outbox WHERE id = $1`, e.ID)
		require.NoError(w, err)
		ids = append(ids, e.ID)
	}
	return ids
}

func (w *replayWorld) handle(inbox *pgxpool.Pool, consumer, state string, replay uuid.UUID, ids ...uuid.UUID) {
	w.Helper()
	for _, id := range ids {
		var day time.Time
		require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT day FROM outbox WHERE id = $1`, id).Scan(&day))
		_, err := inbox.Exec(w.Context(), `INSERT INTO inbox (day, consumer, event_id, replay_id, state, attempt) VALUES ($1, $2, $3, $4, $5, 1)`, day, consumer, id, replay, state)
		require.NoError(w, err)
	}
}

// items are the ids of a replay's events, in their order.
func (w *replayWorld) items(id uuid.UUID) (ids []uuid.UUID) {
	w.Helper()
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT array_agg(event_id ORDER BY place) FROM replay_items WHERE replay_id = $1`, id).Scan(&ids))
	return ids
}

func order(customer string, quantity int64, sku string) schema.OrderPlaced {
	return schema.OrderPlaced{OrderID: uuid.New(), CustomerID: customer, Quantity: quantity, Lines: []schema.Line{{SKU: sku, Quantity: quantity}}}
}

func request(sku string) schema.ReplenishmentRequested {
	return schema.ReplenishmentRequested{
		ReplenishmentID: uuid.New(), SKU: sku, ProductName: "Donut", Quantity: 10, FactoryID: "F", Requester: "m@example.com", CallbackURL: "http://127.0.0.1:1/",
	}
}

// TestReplaySelects: each way to select events means the right ones, in the order of
// the outbox whatever the order in which they were named.
func TestReplaySelects(t *testing.T) {
	w := replayable(t)
	quoted := `a "customerId":"c-1"` // a name that looks like part of a body
	first := order("c-1", 100, "CP-1")
	ids := w.commit(first, order("c-2", 5, `CP-<1>`), request("CP-1"), request("CP-2"), order(quoted, 1, "CP-3"))
	w.handle(w.owner, schema.ConsumerFactory, "done", uuid.Nil, ids[2])
	w.handle(w.owner, schema.ConsumerFactory, "dead", uuid.Nil, ids[3])
	w.handle(w.owner, schema.ConsumerAds, "done", uuid.New(), ids[2], ids[3])
	var middle time.Time
	require.NoError(t, w.owner.QueryRow(t.Context(), `SELECT created_at FROM outbox WHERE id = $1`, ids[2]).Scan(&middle))
	past, korea := middle.Add(-time.Hour), middle.In(time.FixedZone("KST", 9*3600))
	for name, test := range map[string]struct {
		s    ops.ReplaySelection
		want []int
	}{
		"ids, in any order and twice": {ops.ReplaySelection{Events: []uuid.UUID{ids[3], ids[0], ids[3]}}, []int{0, 3}},
		"a file":                      {ops.ReplaySelection{IDs: strings.NewReader(" " + ids[4].String() + "\r\n\n" + strings.ToUpper(ids[1].String())), IDsFile: "f"}, []int{1, 4}},
		"a file and a type":           {ops.ReplaySelection{IDs: strings.NewReader(ids[2].String()), Types: []string{schema.TypeReplenishmentRequested}}, []int{2}},
		"since":                       {ops.ReplaySelection{Since: &middle}, []int{2, 3, 4}},
		"until, in another zone":      {ops.ReplaySelection{Since: &past, Until: &korea}, []int{0, 1}},
		"type":                        {ops.ReplaySelection{Types: []string{schema.TypeOrderPlaced}}, []int{0, 1, 4}},
		"group":                       {ops.ReplaySelection{Groups: []string{"CP-1", "c-2"}}, []int{1, 2}},
		"sku":                         {ops.ReplaySelection{SKU: "CP-1"}, []int{0, 2}},
		"sku that JSON escapes":       {ops.ReplaySelection{SKU: "CP-<1>"}, []int{1}},
		"customer":                    {ops.ReplaySelection{Customer: "c-1"}, []int{0}},
		"customer in quotes":          {ops.ReplaySelection{Customer: quoted}, []int{4}},
		"order":                       {ops.ReplaySelection{Order: first.OrderID.String()}, []int{0}},
		"unhandled, the dead too":     {ops.ReplaySelection{Unhandled: schema.ConsumerFactory}, []int{3}},
		"unhandled elsewhere":         {ops.ReplaySelection{Unhandled: schema.ConsumerVIP}, []int{0}},
	} {
		plan, err := w.replays.Start(t.Context(), test.s, ops.ReplayOptions{Rate: 1})
		require.NoError(t, err, name)
		var want []uuid.UUID
		for _, i := range test.want {
			want = append(want, ids[i])
		}
		require.Equal(t, want, w.items(*plan.ID), name)
		require.Equal(t, int64(len(want)), plan.Events, name)
	}
	_, err := w.replays.Plan(t.Context(), ops.ReplaySelection{Unhandled: schema.ConsumerAds}, ops.ReplayOptions{})
	require.ErrorIs(t, err, ops.ErrNothingSelected, "by whichever replay it was handled")
}

// TestReplayRefuses: what means nothing is refused with its mend, and leaves nothing.
func TestReplayRefuses(t *testing.T) {
	w := replayable(t)
	ids := w.commit(request("CP-1"), request("CP-2"), request("CP-3"), request("CP-4"))
	for i, state := range []string{"held", "rejected"} {
		_, err := w.owner.Exec(t.Context(), `WITH l AS (UPDATE ledger SET outcome = 'parked' WHERE event_id = $1)
			INSERT INTO parked (day, event_id, message_group, seq, reason, detail) SELECT day, id, message_group, seq, $2, 'no' FROM outbox WHERE id = $1`, ids[i], state)
		require.NoError(t, err)
	}
	_, err := w.owner.Exec(t.Context(), `DELETE FROM ledger WHERE event_id = $1`, ids[2])
	require.NoError(t, err)
	unknown := uuid.New()
	early, late := time.Now().Add(-time.Hour), time.Now()
	for want, s := range map[string]ops.ReplaySelection{
		"say which events":                                  {},
		"runs backwards":                                    {Since: &late, Until: &early},
		"exclude each other":                                {Parked: true, Unpublished: true},
		`no event type is called "order.eaten"`:             {Types: []string{"order.eaten"}},
		`no consumer "cook"`:                                {Unhandled: "cook"},
		`line 2 of f is not an event id: "x\x1b[31m"`:       {IDs: strings.NewReader(ids[3].String() + "\nx\x1b[31m"), IDsFile: "f"},
		"line 1 of f is not an event id: it is far":         {IDs: strings.NewReader(strings.Repeat("x", 1<<20)), IDsFile: "f"},
		"read f: unexpected EOF":                            {IDs: io.MultiReader(strings.NewReader(ids[3].String()+"\n"), failing{}), IDsFile: "f"},
		unknown.String() + " (the outbox does not hold it)": {Events: []uuid.UUID{ids[3], unknown}},
		"events are named that cannot be replayed: 1: " + ids[0].String() + " (held)": {Events: ids[:1]},
		"1 are parked: --parked replays them":                                         {Groups: []string{"CP-2"}},
		ids[2].String() + " (unpublished)":                                            {Events: ids[2:3]},
		ids[3].String() + " (it does not meet the rest of the select":                 {Events: ids[3:4], SKU: "CP-9"},
		"no event is selected":                                                        {SKU: "CP-9"},
		"1 are published already":                                                     {Unpublished: true, Groups: []string{"CP-4"}},
	} {
		_, err := w.replays.Start(t.Context(), s, ops.ReplayOptions{})
		require.ErrorContains(t, err, want)
	}
	_, err = w.replays.Start(t.Context(), ops.ReplaySelection{Events: ids}, ops.ReplayOptions{Rate: -1})
	require.ErrorIs(t, err, ops.ErrSelection)
	_, err = w.replays.Start(t.Context(), ops.ReplaySelection{Events: ids}, ops.ReplayOptions{Consumer: "cook"})
	require.ErrorIs(t, err, ops.ErrSelection)
	all, err := w.replays.List(t.Context(), ops.Cursor{})
	require.NoError(t, err)
	require.Empty(t, all.Items)

	plan, err := w.replays.Start(t.Context(), ops.ReplaySelection{Events: append(ids, unknown), SkipMissing: true}, ops.ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, ids[3:], w.items(*plan.ID))
	require.Equal(t, int64(4), plan.Missing)
	plan, err = w.replays.Start(t.Context(), ops.ReplaySelection{Parked: true}, ops.ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, ids[1:2], w.items(*plan.ID), "a held event goes with its group only")
	require.Equal(t, map[string]int64{"held": 1, "published": 1, "unpublished": 1}, plan.LeftOut)
	plan, err = w.replays.Start(t.Context(), ops.ReplaySelection{Unpublished: true}, ops.ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, ids[2:3], w.items(*plan.ID))
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestReplayPlan: the plan tells what each consumer would do with each event, and
// writes nothing.
func TestReplayPlan(t *testing.T) {
	w := replayable(t)
	ids := w.commit(order("c-1", 100, "CP-1"), request("CP-1"), order("c-2", 1, "CP-1"))
	w.handle(w.customers, schema.ConsumerVIP, "done", uuid.Nil, ids[0])
	w.handle(w.owner, schema.ConsumerFactory, "failed", uuid.Nil, ids[1])
	w.handle(w.owner, schema.ConsumerAds, "done", uuid.New(), ids[1])
	s := ops.ReplaySelection{SKU: "CP-1"}
	plan, err := w.replays.Plan(t.Context(), s, ops.ReplayOptions{Rate: 2, Sample: 10})
	require.NoError(t, err)
	one, none := int64(1), int64(0)
	require.Equal(t, []ops.ReplayEffect{
		{Consumer: "factory", Wants: 1, Handled: &none}, {Consumer: "ads", Wants: 1, Handled: &one}, {Consumer: "vip", Wants: 1, Handled: &one},
	}, plan.Effects)
	does := func(p ops.ReplayPlan) (all []string) {
		for _, e := range p.Sample {
			all = append(all, fmt.Sprint(e.Does))
		}
		return all
	}
	require.Equal(t, []string{"map[vip:skips]", "map[ads:skips factory:handles]", "map[]"}, does(plan))
	require.Equal(t, []any{int64(3), int64(3), ids[0], ids[2], 1.5}, []any{plan.Events, plan.Groups, plan.First.EventID, plan.Last.EventID, *plan.Seconds})
	require.Nil(t, plan.ID)

	plan, err = w.replays.Plan(t.Context(), s, ops.ReplayOptions{Force: true, Sample: 2})
	require.NoError(t, err)
	require.Equal(t, []string{"map[vip:repeats]", "map[ads:repeats factory:handles]"}, does(plan))
	for _, e := range plan.Effects {
		require.NotEmpty(t, e.Repeats)
	}
	require.Nil(t, plan.Seconds)
	require.Equal(t, ids[2], plan.Last.EventID)
	plan, err = w.replays.Plan(t.Context(), s, ops.ReplayOptions{Consumer: schema.ConsumerVIP, Sample: 5})
	require.NoError(t, err)
	require.Equal(t, []string{"map[vip:skips]"}, does(plan), "what nobody else wants of them is left out")
	all, err := w.replays.List(t.Context(), ops.Cursor{})
	require.NoError(t, err)
	require.Empty(t, all.Items)
}

// TestReplayAudit: a replay says who asked for what, and how it ended.
func TestReplayAudit(t *testing.T) {
	w := replayable(t)
	ids := w.commit(request("CP-1"))
	s := ops.ReplaySelection{Events: ids}
	first, err := w.replays.Start(t.Context(), s, ops.ReplayOptions{Consumer: schema.ConsumerAds, Force: true, Rate: 7})
	require.NoError(t, err)
	second, err := w.replays.Start(t.Context(), s, ops.ReplayOptions{})
	require.NoError(t, err)
	require.Equal(t, 1, second.Ahead)
	cancelled, err := w.replays.Cancel(t.Context(), *first.ID)
	require.NoError(t, err)
	require.True(t, cancelled.Over())
	require.Equal(t, "me", cancelled.CancelledBy)
	all, err := w.replays.List(t.Context(), ops.Cursor{})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{*second.ID, *first.ID}, []uuid.UUID{all.Items[0].ID, all.Items[1].ID})
	require.Zero(t, all.Items[0].Ahead, "what is cancelled is in nobody's way")
	var kept ops.ReplaySelection
	require.NoError(t, json.Unmarshal(all.Items[1].Selection, &kept))
	require.Equal(t, s, kept)
	require.Equal(t, []any{"ads", true, 7, "me"}, []any{all.Items[1].Consumer, all.Items[1].Force, all.Items[1].Rate, all.Items[1].AskedBy})
	resumed, err := w.replays.Resume(t.Context(), *first.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"waiting", "me", "me"}, []string{resumed.State, resumed.CancelledBy, resumed.ResumedBy})
	require.Zero(t, resumed.Ahead, "it has its turn back")

	_, err = w.replays.Cancel(t.Context(), *first.ID)
	require.NoError(t, err)
	_, err = w.owner.Exec(t.Context(), `DELETE FROM replay_items WHERE replay_id = $1`, *first.ID) // as restock maintain does in the end
	require.NoError(t, err)
	forgotten, err := w.replays.Resume(t.Context(), *first.ID)
	require.ErrorContains(t, err, "forgotten: ask for a new one")
	require.Equal(t, "cancelled", forgotten.State, "it is in nobody's way")
	for _, do := range []func() error{
		func() error { _, err := w.replays.State(t.Context(), ids[0]); return err },
		func() error { _, err := w.replays.Cancel(t.Context(), ids[0]); return err },
	} {
		require.ErrorIs(t, do(), ops.ErrNoReplay)
	}
}

// TestReplayPlanTakesItsTime: neither what is selected nor what is handled is read under
// a time-out, whatever the role or the database has.
func TestReplayPlanTakesItsTime(t *testing.T) {
	w := replayable(t)
	w.commit(request("CP-1"))
	_, err := w.owner.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1000', current_database()); END $$`)
	require.NoError(t, err)
	for _, table := range []string{"outbox", "inbox"} {
		tx, err := w.owner.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `LOCK TABLE `+table)
		require.NoError(t, err)
		planned := make(chan error, 1)
		go func() {
			_, err := w.replays.Plan(t.Context(), ops.ReplaySelection{SKU: "CP-1"}, ops.ReplayOptions{})
			planned <- err
		}()
		require.Eventually(t, func() bool {
			var waits bool
			require.NoError(t, w.owner.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '1100 ms')`).Scan(&waits))
			return waits || len(planned) > 0
		}, patience, 10*time.Millisecond)
		require.NoError(t, tx.Commit(t.Context()))
		require.NoError(t, <-planned, table)
	}
}
