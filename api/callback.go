package api

import (
	"regexp"
	"strconv"

	"github.com/google/uuid"

	"github.com/restock-dev/restock/schema"
)

// stocked is the answer to a callback that was believed.
type stocked struct {
	Message         string    `json:"message"`
	ReplenishmentID uuid.UUID `json:"replenishmentId"`
	SKU             string    `json:"sku"`
	Quantity        int       `json:"quantity"`
	RemainingStock  int64     `json:"remainingStock"`
}

func (a *API) stockIncrease(c *call) (any, error) {
	answer, outcome, err := a.takeDelivery(c)
	if err != nil {
		outcome = c.outcomeOf(err)
	}
	a.metrics.callbacks.WithLabelValues(outcome).Inc()
	return answer, err
}

// takeDelivery believes the signature before it reads the body, and the body
// before it touches the stock.
func (a *API) takeDelivery(c *call) (any, string, error) {
	r, err := a.signedReplenishment(c)
	if err != nil {
		return nil, "", err
	}
	count, err := readDelivery(c, r)
	if err != nil {
		return nil, "", err
	}
	a.followCause(c, r)
	d := delivery{replenishment: r, count: count, event: schema.NewID(), trace: c.trace}
	c.about("event_id", d.event)
	done, err := a.store.deliver(c.r.Context(), d)
	if err != nil {
		return nil, "", err
	}
	if done.outcome == outcomeConflict {
		a.log.Warn().Str("trace_id", c.trace.traceID()).Stringer("replenishment_id", r.id).Str("sku", r.sku).
			Int("delivered", done.count).Int("stated", count).Msg("callback states another count than the one delivered: kept, stock unchanged")
		return nil, "", callbackConflict(done.count)
	}
	return stocked{
		Message: sayDelivered.in(c.locale, done.stock), ReplenishmentID: r.id,
		SKU: r.sku, Quantity: done.count, RemainingStock: done.stock,
	}, done.outcome, nil
}

// followCause moves c into the trace of the event that asked for r. A delivery is
// taken without that too: stock is worth more than a trace.
func (a *API) followCause(c *call, r replenishment) {
	cause, err := a.store.cause(c.r.Context(), r.id)
	if err != nil {
		a.log.Warn().Err(err).Str("trace_id", c.trace.traceID()).Stringer("replenishment_id", r.id).
			Msg("the delivery is not in the trace of its checkout: where a permission is missing run restock migrate")
		return
	}
	c.follow("deliver replenishment", cause)
}

func (a *API) signedReplenishment(c *call) (replenishment, error) {
	id, ok := pathID(c.r)
	if !ok {
		return replenishment{}, notFound(sayUnknownReplenishment)
	}
	c.about("replenishment_id", id)
	sigs := c.r.URL.Query()["sig"]
	if len(sigs) != 1 {
		return replenishment{}, badSignature()
	}
	mac, ok := decodeSig(sigs[0])
	if !ok {
		return replenishment{}, badSignature()
	}
	r, err := a.store.replenishment(c.r.Context(), id)
	if err != nil {
		return replenishment{}, err
	}
	if !a.signer.verify(mac, r.id, r.sku, r.quantity) {
		return replenishment{}, badSignature()
	}
	return r, nil
}

// The members that a factory sends, all strings. Two of them say something new;
// the others repeat what it was asked and are only held to their type, so that
// a delivery is not lost for the sake of one that nobody reads.
const (
	memberProduct = "MessageAttributeProductId"
	memberCount   = "MessageAttributeProductCnt"
)

var memberEchoes = []string{"MessageGroupId", "MessageAttributeFactoryId", "MessageAttributeRequester", "CallbackUrl"}

var deliveredCount = regexp.MustCompile(`^[1-9][0-9]{0,6}$`)

// readDelivery returns the delivered count. Other members than the known ones
// are the factory's own affair, and so is its content type.
func readDelivery(c *call, asked replenishment) (int, error) {
	body, err := readBody(c.w, c.r)
	if err != nil {
		return 0, err
	}
	o, err := readObject(body)
	if err != nil {
		return 0, err
	}
	for _, name := range memberEchoes {
		if _, _, err := o.text(name); err != nil {
			return 0, err
		}
	}
	sku, err := o.needed(memberProduct)
	if err != nil {
		return 0, err
	}
	if sku != asked.sku {
		return 0, invalidField(memberProduct, sayOtherSKU)
	}
	stated, err := o.needed(memberCount)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(stated)
	if !deliveredCount.MatchString(stated) || err != nil || n > asked.quantity {
		return 0, invalidField(memberCount, sayOverAsked, asked.quantity)
	}
	return n, nil
}
