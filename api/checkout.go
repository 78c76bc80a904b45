package api

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
)

const (
	// maxQuantity is the most that any request may ask for; a product's own
	// max_order_quantity is usually lower.
	maxQuantity = 1_000_000
	// maxItems is the most items of one checkout.
	maxItems = 50
)

// checkoutRequest is a checkout with its defaults filled in: two bodies that
// mean the same read as equal values.
type checkoutRequest struct {
	lines    []line
	itemised bool   // asked for with items, and answered so
	customer string // empty is anonymous
}

// line is one product of a checkout. A product that is asked for twice is one line.
type line struct {
	sku      string
	quantity int
	item     int // the first item of the product
}

func (r checkoutRequest) units() (units int) {
	for _, l := range r.lines {
		units += l.quantity
	}
	return units
}

// field names a member of the line, as the request has it.
func (r checkoutRequest) field(l line, name string) string {
	if !r.itemised {
		return name
	}
	return itemField(l.item, name)
}

func itemField(item int, name string) string { return "items[" + strconv.Itoa(item) + "]." + name }

func (a *API) checkout(c *call) (any, error) {
	answer, outcome, err := a.buy(c)
	if err != nil && outcome != outcomeRepeated {
		outcome = c.outcomeOf(err)
	}
	a.metrics.checkouts.WithLabelValues(outcome).Inc()
	return answer, err
}

// buy returns an answer or an error, and outcomeRepeated for one that was given
// before.
func (a *API) buy(c *call) (any, string, error) {
	k, err := readKey(c.r)
	if err != nil {
		return nil, "", err
	}
	req, err := a.readCheckout(c)
	if err != nil {
		return nil, "", err
	}
	p, err := newPurchase(req, c.trace)
	if err != nil {
		return nil, "", fmt.Errorf("make the event: %w", err)
	}
	p.locale = c.locale
	c.about("order_id", p.order)
	c.about("event_id", p.placed.ID)
	if k == "" {
		d, err := a.committer.checkout(c.r.Context(), p)
		if err != nil {
			return nil, "", err
		}
		if d.outcome == decidedShort {
			c.aboutShort(d)
		}
		answer, err := p.say(d)
		return answer, outcomeBought, err
	}
	return a.buyOnce(c, k, p)
}

// aboutShort notes the first replenishment that d names.
func (c *call) aboutShort(d decision) {
	for _, l := range d.lines {
		if l.short {
			c.about("replenishment_id", l.replenishment)
			return
		}
	}
}

// Answers to a checkout that took stock, as it was asked for.
type (
	purchased struct {
		Message        string    `json:"message"`
		OrderID        uuid.UUID `json:"orderId"`
		SKU            string    `json:"sku"`
		Quantity       int       `json:"quantity"`
		RemainingStock int64     `json:"remainingStock"`
	}
	purchasedItems struct {
		Message  string          `json:"message"`
		OrderID  uuid.UUID       `json:"orderId"`
		Quantity int             `json:"quantity"` // units of all items
		Items    []purchasedItem `json:"items"`
	}
	purchasedItem struct {
		SKU            string `json:"sku"`
		Quantity       int    `json:"quantity"`
		RemainingStock int64  `json:"remainingStock"`
	}
)

// say is the answer that d means for p.
func (p *purchase) say(d decision) (any, error) {
	switch d.outcome {
	case decidedBought:
		return p.sayBought(d), nil
	case decidedShort:
		return nil, p.sayShort(d)
	case decidedUnknown:
		unknown := unknownProduct()
		if p.itemised {
			unknown.field = p.field(p.lines[d.fault], "sku")
		}
		return nil, unknown
	case decidedOverLimit:
		return nil, overLimit(p.field(p.lines[d.fault], "quantity"), d.limit)
	case decidedMismatch:
		return nil, keyReused()
	case decidedInProgress:
		return nil, requestInProgress()
	}
	return nil, fmt.Errorf("check out: unknown outcome %q", d.outcome)
}

func (p *purchase) sayBought(d decision) any {
	if !p.itemised {
		l := p.lines[0]
		left := d.lines[0].remaining
		return purchased{Message: sayBought.in(p.locale, left), OrderID: p.order, SKU: l.sku, Quantity: l.quantity, RemainingStock: left}
	}
	all := purchasedItems{Message: sayBoughtItems.in(p.locale, len(p.lines)), OrderID: p.order, Quantity: p.units()}
	for i, l := range p.lines {
		all.Items = append(all.Items, purchasedItem{SKU: l.sku, Quantity: l.quantity, RemainingStock: d.lines[i].remaining})
	}
	return all
}

func (p *purchase) sayShort(d decision) *problem {
	if !p.itemised {
		l, of := p.lines[0], d.lines[0]
		return outOfStock(shortage{SKU: l.sku, Quantity: l.quantity, RemainingStock: of.remaining, ReplenishmentID: of.replenishment})
	}
	var all []shortItem
	for i, l := range p.lines {
		if of := d.lines[i]; of.short {
			all = append(all, shortItem{SKU: l.sku, Requested: l.quantity, Remaining: of.remaining, ReplenishmentID: of.replenishment})
		}
	}
	return itemsOutOfStock(all)
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
		if isEncoded(c.r) {
			return checkoutRequest{}, encoded()
		}
		if o, err = readObject(body); err != nil {
			return checkoutRequest{}, err
		}
	}
	return a.parseCheckout(o)
}

func (a *API) parseCheckout(o object) (req checkoutRequest, err error) {
	if err := o.only("sku", "quantity", "customerId", "items"); err != nil {
		return req, err
	}
	if _, itemised := o["items"]; itemised {
		req.itemised = true
		req.lines, err = parseItems(o)
	} else {
		var l line
		l, err = parseLine(o, a.cfg.DefaultSKU)
		req.lines = []line{l}
	}
	if err != nil {
		return req, err
	}
	customer, given, err := o.text("customerId")
	if err != nil || !given {
		return req, err
	}
	req.customer = customer
	return req, checkCustomer("customerId", customer)
}

// parseLine reads a product and a quantity.
func parseLine(o object, defaultSKU string) (line, error) {
	l := line{sku: defaultSKU}
	sku, given, err := o.text("sku")
	if err != nil {
		return l, err
	}
	if given {
		if err := checkSKU("sku", sku); err != nil {
			return l, err
		}
		l.sku = sku
	}
	if l.sku == "" {
		return l, invalidField("sku", sayMissing)
	}
	l.quantity, err = o.integer("quantity", 1, 1, maxQuantity)
	return l, err
}

// parseItems reads the items into lines, in the order of their products' first items.
func parseItems(o object) ([]line, error) {
	for _, name := range []string{"sku", "quantity"} {
		if _, beside := o[name]; beside {
			return nil, invalidField(name, sayBesideItems)
		}
	}
	items, err := o.list("items", 1, maxItems)
	if err != nil {
		return nil, err
	}
	var lines []line
	at := map[string]int{}
	for i, raw := range items {
		if raw[0] != '{' {
			return nil, invalidField(fmt.Sprintf("items[%d]", i), sayNotItem)
		}
		item, err := readObject(raw)
		if err == nil {
			err = item.only("sku", "quantity")
		}
		var l line
		if err == nil {
			l, err = parseLine(item, "")
		}
		if err != nil {
			return nil, ofItem(i, err)
		}
		n, twice := at[l.sku]
		if !twice {
			at[l.sku] = len(lines)
			l.item = i
			lines = append(lines, l)
			continue
		}
		if lines[n].quantity += l.quantity; lines[n].quantity > maxQuantity {
			return nil, invalidField(itemField(i, "quantity"), sayTogether, maxQuantity)
		}
	}
	return lines, nil
}

// ofItem makes an error about an item's member one about the request's.
func ofItem(i int, err error) error {
	var p *problem
	if errors.As(err, &p) && p.field != "" {
		p.field = itemField(i, p.field)
		p.args[0] = p.field
	}
	return err
}
