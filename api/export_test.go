package api

import (
	"context"
	"net/http"

	"github.com/google/uuid"
)

// Routes lists "METHOD path" of every route.
func (a *API) Routes() []string {
	var all []string
	for path, methods := range a.routes() {
		for method := range methods {
			all = append(all, method+" "+path)
		}
	}
	return all
}

// CallbackURL is what the factory would be told.
func (a *API) CallbackURL(id uuid.UUID, sku string, quantity int) string {
	return a.signer.callbackURL(id, sku, quantity)
}

// ReadObject is the strict reader of bodies.
func ReadObject(body []byte) (map[string]string, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, err
	}
	members := map[string]string{}
	for name := range o {
		members[name], _, _ = o.text(name)
	}
	return members, nil
}

// Verify signs with one secret and verifies with another.
func Verify(signing, verifying []byte, id uuid.UUID, sku string, quantity int) bool {
	return signer{secrets: [][]byte{verifying}}.verify(sign(signing, id, sku, quantity), id, sku, quantity)
}

// Sign makes a signature.
func Sign(secret []byte, id uuid.UUID, sku string, quantity int) []byte {
	return sign(secret, id, sku, quantity)
}

// DecodeSig reads a signature out of a URL.
var DecodeSig = decodeSig

// Panicking is an endpoint with a mistake in it.
func (a *API) Panicking() http.Handler {
	return a.endpoint("/panicking", func(*call) (any, error) { panic("a mistake") })
}

// Wish is a checkout to be decided together with others.
type Wish struct {
	SKUs       []string // each once
	Quantities []int
	Key        string
}

// Verdict is what a wish got.
type Verdict struct {
	Outcome   string
	Remaining []int64  // of bought, short and depleted
	Short     []string // the products of short and depleted that are
	Fault     int      // of unknown and over-limit
}

// DecideTogether decides wishes in one transaction.
func (a *API) DecideTogether(ctx context.Context, wishes []Wish) ([]Verdict, error) {
	ps, err := purchases(wishes)
	if err != nil {
		return nil, err
	}
	all, err := a.store.decideTogether(ctx, ps)
	if err != nil {
		return nil, err
	}
	var out []Verdict
	for i, v := range all {
		if v.err != nil {
			return nil, v.err
		}
		got := Verdict{Outcome: v.outcome}
		switch v.outcome {
		case decidedUnknown, decidedOverLimit:
			got.Fault = v.fault
		case decidedBought, decidedShort, decidedDepleted:
			for j, l := range v.lines {
				got.Remaining = append(got.Remaining, l.remaining)
				if l.short {
					got.Short = append(got.Short, wishes[i].SKUs[j])
				}
			}
		}
		out = append(out, got)
	}
	return out, nil
}

func purchases(wishes []Wish) (ps []*purchase, err error) {
	for _, w := range wishes {
		req := checkoutRequest{itemised: true}
		for i, sku := range w.SKUs {
			req.lines = append(req.lines, line{sku: sku, quantity: w.Quantities[i], item: i})
		}
		p, err := newPurchase(req, newTrace())
		if err != nil {
			return nil, err
		}
		if w.Key != "" {
			p.key = &key{text: w.Key, fingerprint: p.fingerprint()}
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// SQLCheckout is the statement of a checkout that is decided alone.
const SQLCheckout = sqlCheckout

// DecideBatch decides wishes as a batch out of the queue, and returns where the outcome of
// each will come, the type of the problem for an error.
func (a *API) DecideBatch(wishes ...Wish) ([]<-chan string, error) {
	ps, err := purchases(wishes)
	if err != nil {
		return nil, err
	}
	var (
		batch    []*ticket
		outcomes []<-chan string
	)
	for _, p := range ps {
		t := &ticket{purchase: p, answer: make(chan verdict, 1)}
		t.state.Store(taken)
		outcome := make(chan string, 1)
		go func() {
			v := <-t.answer
			if v.err != nil {
				v.outcome = asProblem(v.err).kind
			}
			outcome <- v.outcome
		}()
		batch, outcomes = append(batch, t), append(outcomes, outcome)
	}
	a.committer.decide(batch)
	return outcomes, nil
}

// InRoom is how many checkouts wait for a product that somebody else has locked.
func (a *API) InRoom(sku string) int {
	a.committer.mu.Lock()
	defer a.committer.mu.Unlock()
	if r := a.committer.rooms[sku]; r != nil {
		return len(r.tickets)
	}
	return 0
}
