package consumers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// Bounds of a call to the factory.
const (
	DefaultFactoryTimeout = 15 * time.Second
	// unknownTries is how often a replenishment that is not there is looked for. With
	// synchronous replication an event can arrive shortly before its transaction is
	// visible.
	unknownTries = 5
)

// KindManufacture is the factory's call in effects.
const KindManufacture = "factory.manufacture"

// FactoryConfig is what the factory's handler needs.
type FactoryConfig struct {
	// URL is where the factory's API is; requests go to URL + /api/manufactures.
	URL string
	// Pool is the store's database, as schema.RoleConsumers.
	Pool *pgxpool.Pool
	// Client makes the calls; its own policy on redirects and its time-out are not
	// used. Default one of HTTP/1.1, through the proxy that the environment names.
	Client *http.Client
	// Timeout bounds a call, answer included. Default DefaultFactoryTimeout; the
	// worker's lease bounds it too.
	Timeout time.Duration
}

// Factory is the handler of replenishment.requested: it orders production.
//
// The factory is told the event's id as Idempotency-Key, so that a call repeated
// after a crash is no second order. What it answers decides:
//
//   - 2xx: accepted, with the production's id where the answer can be read, and
//     with none where it cannot; it is never posted again.
//   - 408, 425, 429, 5xx: tried again, after Retry-After where 429 and 503 have one.
//   - 3xx: not followed, and tried again. It tells of a moved or guarded address,
//     not of this request; to take it for a refusal would drop every order until
//     somebody mends the configuration.
//   - 409 where a call may have been made before: tried again. It says that the
//     first one, cut off on our side, is still under way there.
//     https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header
//   - any other 4xx: refused for good. The replenishment becomes refused, which
//     lets the product ask again, and the event is dead.
//   - no connection: unavailable, which costs no attempt. Once the request is
//     sent, a cut or a time-out is uncertain.
type Factory struct {
	endpoint string
	pool     *pgxpool.Pool
	outside  *outside
}

// NewFactory makes the handler. It calls nothing yet.
func NewFactory(cfg FactoryConfig) (*Factory, error) {
	base, err := url.Parse(cfg.URL)
	switch {
	case err != nil: // it quotes the URL, and a password may be in it
		return nil, errors.New("the factory URL cannot be parsed: want http://host or https://host")
	case base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("factory URL %q: want http://host or https://host", base.Redacted())
	}
	if cfg.Pool == nil {
		return nil, errors.New("factory: a database pool is needed")
	}
	setDefault(&cfg.Timeout, DefaultFactoryTimeout)
	transport := newTransport(nil)
	transport.Proxy = http.ProxyFromEnvironment
	client := http.Client{Transport: transport}
	if cfg.Client != nil {
		client = *cfg.Client
	}
	return &Factory{
		endpoint: base.JoinPath("api", "manufactures").String(),
		pool:     cfg.Pool,
		outside:  newOutside("the factory", client, cfg.Timeout),
	}, nil
}

// Longest is how long a call takes at most.
func (f *Factory) Longest() time.Duration { return f.outside.timeout }

// Handle orders the production that d asks for, unless somebody has already.
func (f *Factory) Handle(ctx context.Context, d Delivery) (Effect, error) {
	p, ok := d.Payload.(schema.ReplenishmentRequested)
	if !ok {
		return Effect{}, Permanent(fmt.Errorf("%s is no event for the factory", d.Event.Type))
	}
	var state string
	err := f.pool.QueryRow(ctx, `SELECT state FROM replenishments WHERE id = $1`, p.ReplenishmentID).Scan(&state)
	switch {
	case errors.Is(err, pgx.ErrNoRows) && d.Attempt < unknownTries:
		return Effect{}, notThereYet(fmt.Errorf("replenishment %s is not there yet", p.ReplenishmentID))
	case errors.Is(err, pgx.ErrNoRows):
		return Effect{}, Permanent(fmt.Errorf("replenishment %s is unknown", p.ReplenishmentID))
	case err != nil:
		return Effect{}, DatabaseUnavailable(fmt.Errorf("look up replenishment: %w", err))
	case state != "requested":
		return Effect{Reference: "superseded: the replenishment is " + state}, nil
	}
	return f.order(ctx, d, p)
}

func (f *Factory) order(ctx context.Context, d Delivery, p schema.ReplenishmentRequested) (Effect, error) {
	call := &Call{Kind: KindManufacture, Started: time.Now()}
	a, err := f.post(ctx, d, p)
	call.end(err)
	effect := Effect{Call: call}
	switch {
	case is(err, permanent):
		effect.Record = refuse(p.ReplenishmentID, call.Detail)
	case err == nil:
		call.Reference, call.Detail = a.id, a.detail
		effect.Reference = a.id
		effect.Record = accept(p.ReplenishmentID, a.id)
	}
	return effect, err
}

// accept records that the factory took the order. Where its callback came first
// the delivery stands, and only the id is added.
func accept(replenishment uuid.UUID, productionID string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE replenishments
			   SET production_id = coalesce(production_id, nullif($2, '')),
			       accepted_at = CASE WHEN state = 'requested' THEN now() ELSE accepted_at END,
			       state = CASE WHEN state = 'requested' THEN 'accepted' ELSE state END
			 WHERE id = $1`, replenishment, productionID)
		if err != nil {
			return fmt.Errorf("accept replenishment: %w", err)
		}
		return nil
	}
}

// refuse records that the factory will never make it, which lets the product ask
// for another one.
func refuse(replenishment uuid.UUID, reason string) func(context.Context, pgx.Tx) error {
	return func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `
			UPDATE replenishments SET state = 'refused', refusal = $2, closed_at = now()
			 WHERE id = $1 AND state = 'requested'`, replenishment, clean(reason))
		if err != nil {
			return fmt.Errorf("refuse replenishment: %w", err)
		}
		return nil
	}
}

// manufacture is the factory's request: all values are strings.
type manufacture struct {
	GroupID     string `json:"MessageGroupId"`
	ProductID   string `json:"MessageAttributeProductId"`
	ProductCnt  string `json:"MessageAttributeProductCnt"`
	FactoryID   string `json:"MessageAttributeFactoryId"`
	Requester   string `json:"MessageAttributeRequester"`
	CallbackURL string `json:"CallbackUrl"`
}

// accepted is what is read of a 2xx answer: the production's id, or why there is
// none.
type accepted struct{ id, detail string }

func (f *Factory) post(ctx context.Context, d Delivery, p schema.ReplenishmentRequested) (accepted, error) {
	body, err := json.Marshal(manufacture{
		GroupID:     schema.ArrivalGroup,
		ProductID:   p.SKU,
		ProductCnt:  strconv.FormatInt(p.Quantity, 10),
		FactoryID:   p.FactoryID,
		Requester:   p.Requester,
		CallbackURL: p.CallbackURL,
	})
	if err != nil {
		return accepted{}, Permanent(fmt.Errorf("encode request: %w", err))
	}
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("Accept", "application/json")
	header.Set("Idempotency-Key", d.Event.ID.String())
	if d.Event.Traceparent != "" {
		header.Set("Traceparent", d.Event.Traceparent)
	}
	a, err := f.outside.post(ctx, f.endpoint, header, body)
	switch {
	case err != nil:
		return accepted{}, err
	case a.status == http.StatusConflict && (d.Attempt > 1 || d.Doubtful):
		return accepted{}, fmt.Errorf("%s answered 409: an earlier call with this key is still under way there", f.outside.name)
	case !a.accepted():
		return accepted{}, refusal(f.outside.name, a)
	}
	return readAccepted(a), nil
}

// readAccepted reads the id out of an answer that accepted.
func readAccepted(a answer) accepted {
	var body struct {
		Data struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	switch {
	case a.err != nil:
		return accepted{detail: "id unknown: " + redact(a.err.Error())}
	case len(a.body) > maxAnswer:
		return accepted{detail: fmt.Sprintf("id unknown: the answer is over %d bytes", maxAnswer)}
	}
	if err := json.Unmarshal(a.body, &body); err != nil {
		return accepted{detail: "id unknown: " + err.Error()}
	}
	id := body.Data.ID
	if id == "" || len(id) > 200 || clean(id) != id {
		return accepted{detail: "id unknown: the answer has none that can be kept"}
	}
	return accepted{id: id}
}
