package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/internal/service"
)

// storyPatience bounds the wait for each thing that must happen by itself.
const storyPatience = 30 * time.Second

// errStory is a step that did not go as it must.
var errStory = errors.New("the story went wrong")

// teller plays the story as a customer would, and prints what happened with the
// time since the checkout that it follows from.
type teller struct {
	demo *demo
	ctx  context.Context //nolint:containedctx // it lives for one telling
	from time.Time
	bulk answer // the order that makes VIP
}

// story sells the last donut, fails to sell another, sees the factory asked,
// the ads stopped, the stock rise and the ads resumed, sells all that came, and sells so many at once that the customer
// becomes VIP and the marketing system hears of it.
func (d *demo) story(ctx context.Context) error {
	t := &teller{demo: d, ctx: ctx, from: time.Now()}
	for _, step := range []func() error{t.buyTheLast, t.failToBuy, t.productionArrives, t.adsStop, t.stockRises, t.adsResume, t.buyAgain, t.buyMany, t.customerIsVIP, t.marketingHears, t.booksAgree} {
		if err := step(); err != nil {
			return fmt.Errorf("%w: %w", errStory, err)
		}
	}
	t.say("story", "everything happened once, in order")
	return nil
}

func (t *teller) say(what, format string, args ...any) {
	fmt.Fprintf(t.demo.inv.stdout, "%8.1f ms  %-10s %s\n", float64(time.Since(t.from).Microseconds())/1000, what, fmt.Sprintf(format, args...))
}

// answer is what the story reads of the API's answers.
type answer struct {
	status          int
	Message         string `json:"message"`
	OrderID         string `json:"orderId"`
	Stock           int64  `json:"stock"`
	RemainingStock  int64  `json:"remainingStock"`
	ReplenishmentID string `json:"replenishmentId"`
}

func (t *teller) call(method, path, body string) (answer, error) {
	var a answer
	req, err := http.NewRequestWithContext(t.ctx, method, t.demo.apiURL+path, bytes.NewBufferString(body))
	if err != nil {
		return a, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := (&http.Client{Timeout: storyPatience}).Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return a, err
	}
	a.status = res.StatusCode
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%s %s answered %d with %q: %w", method, path, res.StatusCode, text, err)
	}
	return a, nil
}

func (t *teller) buyTheLast() error {
	t.from = time.Now()
	a, err := t.call(http.MethodPost, "/checkout", "")
	if err != nil {
		return err
	}
	t.say("checkout", "%d %s", a.status, a.Message)
	if a.status != http.StatusOK || a.RemainingStock != 0 || a.OrderID == "" {
		return fmt.Errorf("buying the last one: got %+v, want 200 with remaining stock 0", a)
	}
	return nil
}

func (t *teller) failToBuy() error {
	t.from = time.Now()
	a, err := t.call(http.MethodPost, "/checkout", "")
	if err != nil {
		return err
	}
	t.say("checkout", "%d %s (replenishment %s)", a.status, a.Message, a.ReplenishmentID)
	if a.status != http.StatusConflict || a.RemainingStock != 0 || a.ReplenishmentID == "" {
		return fmt.Errorf("buying from empty stock: got %+v, want 409 with a replenishment", a)
	}
	return nil
}

// until asks again and again until ok says yes.
func (t *teller) until(what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(t.ctx, storyPatience)
	defer cancel()
	for {
		if yes, err := ok(); err != nil || yes {
			return err
		}
		if err := service.Sleep(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("%s: not within %s", what, storyPatience)
		}
	}
}

func (t *teller) productionArrives() error {
	var got []localfactory.Production
	err := t.until("the factory is asked", func() (bool, error) {
		got = t.demo.factory.Productions()
		return len(got) > 0, nil
	})
	if err != nil {
		return err
	}
	o := got[0].Order
	t.say("factory", "production %s ordered: MessageGroupId=%s ProductId=%s ProductCnt=%s FactoryId=%s Requester=%s CallbackUrl=%s",
		got[0].ID, o.GroupID, o.ProductID, o.ProductCnt, o.FactoryID, o.Requester, withoutQuery(o.CallbackURL))
	want := localfactory.Order{GroupID: "stock-arrival-group", ProductID: demoSKU, ProductCnt: "10", FactoryID: "FF-500293", Requester: "manager@donuts.example", CallbackURL: o.CallbackURL}
	if o != want || o.CallbackURL == "" {
		return fmt.Errorf("the factory was asked for %+v, want %+v", o, want)
	}
	return nil
}

// withoutQuery hides the signature.
func withoutQuery(url string) string {
	if i := bytes.IndexByte([]byte(url), '?'); i >= 0 {
		return url[:i] + "?sig=…"
	}
	return url
}

func (t *teller) stockRises() error {
	var a answer
	err := t.until("the factory delivers", func() (ok bool, err error) {
		a, err = t.call(http.MethodGet, "/products/"+demoSKU, "")
		return a.Stock > 0, err
	})
	if err != nil {
		return err
	}
	t.say("callback", "the factory delivered, stock is %d", a.Stock)
	if a.Stock != 10 {
		return fmt.Errorf("stock is %d after the delivery, want 10", a.Stock)
	}
	return nil
}

func (t *teller) buyAgain() error {
	a, err := t.call(http.MethodPost, "/checkout", `{"sku":"`+demoSKU+`","quantity":10,"customerId":"`+demoCustomer+`"}`)
	if err != nil {
		return err
	}
	t.say("checkout", "%d %s", a.status, a.Message)
	if a.status != http.StatusOK || a.RemainingStock != 0 {
		return fmt.Errorf("buying all that was delivered: got %+v, want 200 with remaining stock 0", a)
	}
	return nil
}
