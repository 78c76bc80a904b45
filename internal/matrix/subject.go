package matrix

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/localmarketing"
	"github.com/restock-dev/restock/schema"
)

// Consumers are the subjects, in the order of the table.
var Consumers = []string{schema.ConsumerFactory, schema.ConsumerAds, schema.ConsumerVIP, schema.ConsumerMarketing}

// WebhookSecret is what the marketing system verifies with.
var WebhookSecret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("the secret that both sides have"))

// Subject is one consumer as a fault meets it: how its events come to be, where
// its effects are, and what it calls.
type Subject struct {
	Consumer string
	// Outside is what the consumer calls, nil for one with effects in its own
	// database only.
	Outside *Outside

	t       testing.TB
	db      *pgxpool.Pool
	event   func(group string) schema.Payload
	effects func() int
}

// NewSubject makes the subject of a consumer. db is the database with its inbox,
// as the owner, and aws has the mailbox.
func NewSubject(t testing.TB, consumer string, db *pgxpool.Pool, aws *localaws.Server) *Subject {
	t.Helper()
	s := &Subject{Consumer: consumer, t: t, db: db}
	switch consumer {
	case schema.ConsumerFactory:
		s.event, s.effects = s.replenishment, s.counting(`replenishments WHERE production_id IS NOT NULL`)
		s.Outside = newOutside(t, localfactory.New(localfactory.Config{}).Handler(), header("Idempotency-Key"))
	case schema.ConsumerAds:
		s.event, s.effects = s.replenishment, s.counting(`ads_mails WHERE stop = 'sent'`)
		s.Outside = newOutside(t, forward(t, aws.URL()), mailTag)
	case schema.ConsumerVIP:
		s.event, s.effects = order, s.counting(`outbox WHERE type = 'customer.promoted'`)
	case schema.ConsumerMarketing:
		system, err := localmarketing.New(localmarketing.Config{Secrets: []string{WebhookSecret}})
		require.NoError(t, err)
		s.event, s.effects = promotion, func() int { return len(system.Received()) }
		s.Outside = newOutside(t, system.Handler(), header("Webhook-Id"))
	}
	return s
}

// Event commits an event of a group, with the rows that stand beside it. A second
// one of a group is what comes after the first.
func (s *Subject) Event(group string) schema.Event {
	s.t.Helper()
	p := s.event(group)
	e, err := schema.New(schema.NewID(), p, "")
	require.NoError(s.t, err)
	require.NoError(s.t, schema.Append(s.t.Context(), s.db, e))
	require.NoError(s.t, s.db.QueryRow(s.t.Context(), `SELECT day, seq, body FROM outbox WHERE id = $1`, e.ID).Scan(&e.Day, &e.Seq, &e.Body))
	e.Body, err = schema.WithSequence(e.Body, e.Seq)
	require.NoError(s.t, err)
	if r, ok := p.(schema.ReplenishmentRequested); ok {
		s.exec(`INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, $2, $3, $4)`, r.ReplenishmentID, r.SKU, r.Quantity, e.ID)
	}
	return e
}

// replenishment is of a product that is sold out. One that was open is cancelled,
// since a product has one at most.
func (s *Subject) replenishment(sku string) schema.Payload {
	s.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email)
		VALUES ($1, 'Donut', 0, 0, 10, 'FF-500293', 'manager@example.com') ON CONFLICT DO NOTHING`, sku)
	s.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now() WHERE sku = $1 AND state IN ('requested', 'accepted')`, sku)
	return schema.ReplenishmentRequested{
		ReplenishmentID: uuid.New(), SKU: sku, ProductName: "Donut", Quantity: 10, FactoryID: "FF-500293",
		Requester: "manager@example.com", CallbackURL: "http://127.0.0.1:1/stock-increase/1?sig=secret",
	}
}

func order(customer string) schema.Payload {
	return schema.OrderPlaced{OrderID: schema.NewID(), CustomerID: customer, Quantity: 100, Lines: []schema.Line{{SKU: "CP-1", Quantity: 100}}}
}

func promotion(customer string) schema.Payload {
	return schema.CustomerPromoted{CustomerID: customer, OrderID: schema.NewID(), Quantity: 100}
}

func (s *Subject) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

func (s *Subject) counting(from string) func() int {
	return func() (n int) {
		s.t.Helper()
		require.NoError(s.t, s.db.QueryRow(s.t.Context(), `SELECT count(*) FROM `+from).Scan(&n))
		return n
	}
}

func header(name string) func(http.Header, []byte) string {
	return func(h http.Header, _ []byte) string { return h.Get(name) }
}

// mailTag is the event's id as a mail bears it, SES knowing no idempotency key.
func mailTag(_ http.Header, body []byte) string {
	var mail struct {
		EmailTags []struct{ Name, Value string }
	}
	_ = json.Unmarshal(body, &mail) // a mail without the tag is found out by its key
	for _, tag := range mail.EmailTags {
		if tag.Name == "event-id" {
			return tag.Value
		}
	}
	return ""
}

func forward(t testing.TB, to string) http.Handler {
	target, err := url.Parse(to)
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
}
