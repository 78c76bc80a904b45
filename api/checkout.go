package api

import (
	"fmt"

	"github.com/google/uuid"
)

// maxQuantity is the most that any request may ask for; a product's own
// max_order_quantity is usually lower.
const maxQuantity = 1_000_000

// checkoutRequest is a checkout with its defaults filled in: two bodies that
// mean the same read as equal values.
type checkoutRequest struct {
	sku      string
	quantity int
	customer string // empty is anonymous
}

// purchased is the answer to a checkout that took stock.
type purchased struct {
	Message        string    `json:"message"`
	OrderID        uuid.UUID `json:"orderId"`
	SKU            string    `json:"sku"`
	Quantity       int       `json:"quantity"`
	RemainingStock int64     `json:"remainingStock"`
}

func (a *API) checkout(c *call) (any, error) {
	answer, err := a.buy(c)
	outcome := outcomeBought
	if err != nil {
		outcome = outcomeOf(asProblem(err))
	}
	a.metrics.checkouts.WithLabelValues(outcome).Inc()
	return answer, err
}

func (a *API) buy(c *call) (any, error) {
	req, err := a.readCheckout(c)
	if err != nil {
		return nil, err
	}
	p, err := newPurchase(req, c.trace)
	if err != nil {
		return nil, fmt.Errorf("make the event: %w", err)
	}
	c.about("order_id", p.order)
	c.about("event_id", p.placed.ID)
	d, err := a.store.checkout(c.r.Context(), p)
	if err != nil {
		return nil, err
	}
	switch d.outcome {
	case decidedBought:
		return purchased{
			Message: sayBought.in(c.locale, d.remaining), OrderID: p.order,
			SKU: p.sku, Quantity: p.quantity, RemainingStock: d.remaining,
		}, nil
	case decidedShort:
		c.about("replenishment_id", d.replenishment)
		return nil, outOfStock(shortage{SKU: p.sku, Quantity: p.quantity, RemainingStock: d.remaining, ReplenishmentID: d.replenishment})
	case decidedUnknown:
		return nil, unknownProduct()
	case decidedOverLimit:
		return nil, overLimit(d.maxQuantity)
	}
	return nil, fmt.Errorf("check out: unknown outcome %q", d.outcome)
}

// readCheckout reads the body. None, or nothing but white space, is a wish for
// the defaults, whatever its content type says.
func (a *API) readCheckout(c *call) (checkoutRequest, error) {
	body, err := readBody(c.w, c.r)
	if err != nil {
		return checkoutRequest{}, err
	}
	o := object{}
	if !isBlank(body) {
		if !isJSON(c.r) {
			return checkoutRequest{}, notJSON()
		}
		if o, err = readObject(body); err != nil {
			return checkoutRequest{}, err
		}
	}
	return a.parseCheckout(o)
}

func (a *API) parseCheckout(o object) (checkoutRequest, error) {
	req := checkoutRequest{sku: a.cfg.DefaultSKU}
	if err := o.only("sku", "quantity", "customerId"); err != nil {
		return req, err
	}
	sku, given, err := o.text("sku")
	if err != nil {
		return req, err
	}
	if given {
		if err := checkSKU("sku", sku); err != nil {
			return req, err
		}
		req.sku = sku
	}
	if req.sku == "" {
		return req, invalidField("sku", sayMissing)
	}
	if req.quantity, err = o.integer("quantity", 1, 1, maxQuantity); err != nil {
		return req, err
	}
	customer, given, err := o.text("customerId")
	if err != nil {
		return req, err
	}
	if given {
		if err := checkCustomer("customerId", customer); err != nil {
			return req, err
		}
		req.customer = customer
	}
	return req, nil
}
