package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// Tracer tells the whole way of an event, an order or a replenishment, from the
// databases alone. It is safe for concurrent use.
type Tracer struct {
	sides        []*traceSide
	store        *pgxpool.Pool // nil where it cannot be reached
	customers    *pgxpool.Pool // nil where it cannot be reached, or is not there
	vipThreshold int64
	down         []Unreachable
}

// traceSide is a database with an outbox.
type traceSide struct {
	database string
	pool     *pgxpool.Pool
}

// NewTracer makes a Tracer on the databases of a Pipeline. Without customers what happens
// there is left out. Of databases that p was reached without, it says that they are missing.
func NewTracer(p Pipeline) *Tracer {
	t := &Tracer{store: p.Store, customers: p.Customers, vipThreshold: p.VIPThreshold, down: p.down}
	for _, d := range p.Databases() {
		t.sides = append(t.sides, &traceSide{d.Name, d.Pool})
	}
	return t
}

// side is the database of a name, nil where it is not at hand.
func (t *Tracer) side(database string) *traceSide {
	i := slices.IndexFunc(t.sides, func(s *traceSide) bool { return s.database == database })
	if i < 0 {
		return nil
	}
	return t.sides[i]
}

// ErrUnknown is that no event, order or replenishment has an id.
var ErrUnknown = errors.New("no event, order or replenishment has this id, or it is past retention")

// Trace is what is known of one id.
type Trace struct {
	ID            uuid.UUID            `json:"id"`
	Order         *TracedOrder         `json:"order,omitempty"`
	Replenishment *TracedReplenishment `json:"replenishment,omitempty"`
	Events        []TracedEvent        `json:"events"` // those of the id, and after each what it caused
	// Unreachable are the databases that could not be asked: what happened there is not told.
	Unreachable []Unreachable `json:"unreachable,omitempty"`
}

// TracedOrder is the order that was asked for.
type TracedOrder struct {
	SKU        string    `json:"sku,omitempty"` // where it is of one product
	Quantity   int       `json:"quantity"`      // units of all lines
	Lines      []Line    `json:"lines"`
	CustomerID string    `json:"customerId,omitempty"`
	PlacedAt   time.Time `json:"placedAt"`
}

// Line is one product of an order.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// TracedReplenishment is a replenishment with its mails and with what people did.
type TracedReplenishment struct {
	Replenishment

	Stop      string             `json:"adsStop,omitempty"`
	Resume    string             `json:"adsResume,omitempty"`
	Conflicts []int              `json:"conflictingCallbacks,omitempty"` // counts stated later, that changed nothing
	Acts      []ReplenishmentAct `json:"acts,omitempty"`
}

// TracedEvent is one event's way.
type TracedEvent struct {
	Database    string           `json:"database"`
	EventID     uuid.UUID        `json:"eventId"`
	CausedBy    *uuid.UUID       `json:"causedBy,omitempty"` // another event of this trace
	Type        string           `json:"type"`
	Group       string           `json:"group"`
	Sequence    int64            `json:"sequence"`
	TraceID     string           `json:"traceId,omitempty"`
	CommittedAt time.Time        `json:"committedAt"`
	Published   *Publication     `json:"published,omitempty"` // none: not yet, or parked
	Parked      *ParkedEvent     `json:"parked,omitempty"`    // that it is, or was
	Consumers   []TracedConsumer `json:"consumers"`

	day  time.Time
	body []byte
}

// Publication is what SNS answered.
type Publication struct {
	At             time.Time `json:"at"`
	MessageID      string    `json:"messageId"`
	SequenceNumber string    `json:"sequenceNumber"`
}

// TracedConsumer is what a consumer that wants the event did with it.
type TracedConsumer struct {
	Consumer  string     `json:"consumer"`
	ReplayID  *uuid.UUID `json:"replayId,omitempty"`
	State     string     `json:"state"` // of the inbox; empty: it has not been received; StateUnknown: the inbox cannot be reached
	Attempts  int        `json:"attempts"`
	FirstAt   *time.Time `json:"firstAt,omitempty"`
	LastAt    *time.Time `json:"lastAt,omitempty"`
	LastError string     `json:"lastError,omitempty"`
	Effect    string     `json:"effect,omitempty"`
	Calls     []Effect   `json:"calls,omitempty"`
}

// StateUnknown is that a consumer's inbox cannot be reached.
const StateUnknown = "unknown"

// Trace tells all that is known of an id. Where a database cannot be reached and the
// others know nothing of it, the error is an UnreachableError.
func (t *Tracer) Trace(ctx context.Context, id uuid.UUID) (Trace, error) {
	all := Trace{ID: id, Events: []TracedEvent{}, Unreachable: t.down}
	for _, find := range []func(context.Context, *Trace) (bool, error){t.asEvent, t.asOrder, t.asReplenishment} {
		found, err := find(ctx, &all)
		if err != nil {
			return all, fmt.Errorf("trace %s: %w", id, err)
		}
		if found {
			return all, nil
		}
	}
	if len(t.down) > 0 {
		return all, fmt.Errorf("trace %s: nothing that can be reached knows it: %w", id, &UnreachableError{t.down})
	}
	return all, ErrUnknown
}

func (t *Tracer) asEvent(ctx context.Context, all *Trace) (bool, error) {
	for _, side := range t.sides {
		days, err := side.daysOf(ctx, all.ID)
		if err != nil {
			return false, err
		}
		events, err := t.events(ctx, side, `o.day = ANY($1) AND o.id = $2`, days, all.ID)
		if err != nil || len(events) > 0 {
			return len(events) > 0, t.follow(ctx, all, events, err)
		}
	}
	return false, nil
}

// asOrder finds an order, and its event by the moment of the transaction that both
// were written in.
func (t *Tracer) asOrder(ctx context.Context, all *Trace) (bool, error) {
	if t.store == nil {
		return false, nil
	}
	var o TracedOrder
	err := t.store.QueryRow(ctx, `SELECT coalesce(sku, ''), quantity, coalesce(customer_id, ''), created_at,
		(SELECT json_agg(json_build_object('sku', l.sku, 'quantity', l.quantity) ORDER BY l.place) FROM all_order_lines l WHERE l.order_id = o.id)
		FROM orders o WHERE id = $1`, all.ID).Scan(&o.SKU, &o.Quantity, &o.CustomerID, &o.PlacedAt, &o.Lines)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	o.PlacedAt = o.PlacedAt.UTC()
	all.Order = &o
	events, err := t.writtenAt(ctx, o.PlacedAt, schema.TypeOrderPlaced, "orderId", all.ID)
	return true, t.follow(ctx, all, events, err)
}

// asReplenishment finds a replenishment with the event that asked for it. What tells
// of its delivery is followed as caused by that one, or found by itself where that is
// past retention.
func (t *Tracer) asReplenishment(ctx context.Context, all *Trace) (bool, error) {
	if t.store == nil {
		return false, nil
	}
	r, err := readReplenishment(ctx, t.store, all.ID)
	if errors.Is(err, ErrNoReplenishment) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	all.Replenishment = &TracedReplenishment{Replenishment: r}
	if err := t.details(ctx, all.Replenishment); err != nil {
		return false, err
	}
	events, err := t.writtenAt(ctx, r.RequestedAt, schema.TypeReplenishmentRequested, "replenishmentId", all.ID)
	if err == nil && len(events) == 0 && r.DeliveredAt != nil {
		events, err = t.writtenAt(ctx, *r.DeliveredAt, schema.TypeStockReplenished, "replenishmentId", all.ID)
	}
	return true, t.follow(ctx, all, events, err)
}

// details adds the mails, the callbacks that changed nothing, and what people did.
func (t *Tracer) details(ctx context.Context, r *TracedReplenishment) error {
	err := t.store.QueryRow(ctx, `SELECT coalesce((SELECT stop FROM ads_mails WHERE replenishment_id = $1), ''), coalesce((SELECT resume FROM ads_mails WHERE replenishment_id = $1), ''),
		ARRAY(SELECT stated_quantity FROM callback_conflicts WHERE replenishment_id = $1 ORDER BY id)`, r.ID).Scan(&r.Stop, &r.Resume, &r.Conflicts)
	if err != nil {
		return fmt.Errorf("look for its mails: %w", err)
	}
	r.Acts, err = readActs(ctx, t.store, r.ID)
	return err
}

// follow adds events, each followed by those that it caused.
func (t *Tracer) follow(ctx context.Context, all *Trace, events []TracedEvent, err error) error {
	if err != nil {
		return err
	}
	for _, e := range events {
		if slices.ContainsFunc(all.Events, func(other TracedEvent) bool { return other.EventID == e.EventID }) {
			continue
		}
		all.Events = append(all.Events, e)
		caused, err := t.caused(ctx, e)
		for i := range caused {
			caused[i].CausedBy = &e.EventID
		}
		if err := t.follow(ctx, all, caused, err); err != nil {
			return err
		}
	}
	return nil
}

// caused are the events that one led to: a promotion by an order, a delivery by a
// request.
func (t *Tracer) caused(ctx context.Context, e TracedEvent) ([]TracedEvent, error) {
	switch e.Type {
	case schema.TypeOrderPlaced:
		return t.promotion(ctx, e)
	case schema.TypeReplenishmentRequested:
		envelope, err := schema.Decode(e.body)
		if err != nil {
			return nil, nil //nolint:nilerr // a row written by hand: it is shown as far as it can be read
		}
		payload, err := envelope.Payload()
		requested, ok := payload.(schema.ReplenishmentRequested)
		if err != nil || !ok {
			return nil, nil //nolint:nilerr // as above
		}
		r, err := readReplenishment(ctx, t.store, requested.ReplenishmentID)
		if err != nil || r.DeliveredAt == nil {
			if errors.Is(err, ErrNoReplenishment) {
				err = nil
			}
			return nil, err
		}
		return t.writtenAt(ctx, *r.DeliveredAt, schema.TypeStockReplenished, "replenishmentId", r.ID)
	}
	return nil, nil
}

// promotion finds the event that vip's inbox refers to.
func (t *Tracer) promotion(ctx context.Context, e TracedEvent) ([]TracedEvent, error) {
	side := t.side(CustomersDatabase)
	if side == nil {
		return nil, nil
	}
	for _, c := range e.Consumers {
		told, err := uuid.Parse(c.Effect)
		if c.Consumer != schema.ConsumerVIP || err != nil {
			continue
		}
		days, err := side.daysOf(ctx, told)
		if err != nil {
			return nil, err
		}
		return t.events(ctx, side, `o.day = ANY($1) AND o.id = $2`, days, told)
	}
	return nil, nil
}

// writtenAt finds an event of the store by the moment of its transaction, which is
// the same for all that was written in it, and by an id in its data.
func (t *Tracer) writtenAt(ctx context.Context, at time.Time, eventType, name string, id uuid.UUID) ([]TracedEvent, error) {
	return t.events(ctx, t.side(StoreDatabase), `o.day = $1 AND o.created_at = $2 AND o.type = $3 AND o.body::jsonb -> 'data' ->> $4 = $5`,
		utcDay(at), at, eventType, name, id.String())
}

// daysOf are the days that an event may be kept under: about that of a UUIDv7, which
// was made before its transaction, else any.
func (s *traceSide) daysOf(ctx context.Context, id uuid.UUID) ([]time.Time, error) {
	if id.Version() == 7 {
		sec, nsec := id.Time().UnixTime()
		day := utcDay(time.Unix(sec, nsec))
		return []time.Time{day.AddDate(0, 0, -1), day, day.AddDate(0, 0, 1)}, nil
	}
	return (&ledgerSide{outbox: s.pool}).days(ctx, time.Time{}, time.Time{})
}
