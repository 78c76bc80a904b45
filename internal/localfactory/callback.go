package localfactory

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/restock-dev/restock/internal/service"
)

// callBack delivers a production after its time.
func (f *Factory) callBack(ctx context.Context, p *Production) {
	if !f.wait(ctx, f.cfg.Delay) {
		f.putBack(p)
		return
	}
	f.mu.Lock()
	order := p.Order
	f.mu.Unlock()
	err := service.Retry(ctx, f.cfg.Retry, func(ctx context.Context) error {
		err := f.deliver(ctx, order)
		f.note(p, err)
		return err
	})
	switch {
	case err == nil:
		f.cfg.Logger.Info().Stringer("production", p.ID).Str("sku", order.ProductID).Msg("delivered")
	case ctx.Err() != nil:
		f.putBack(p)
	default:
		f.cfg.Logger.Error().Err(err).Stringer("production", p.ID).Msg("delivery given up")
	}
}

func (f *Factory) deliver(ctx context.Context, order Order) error {
	body, err := json.Marshal(order)
	if err != nil {
		return backoff.Permanent(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, order.CallbackURL, bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := f.cfg.Client.Do(req)
	if err != nil {
		return fmt.Errorf("call back: no answer: %w", unwrapURL(err))
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection is used again
	switch code := res.StatusCode; {
	case code/100 == 2:
		return nil
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		return backoff.Permanent(fmt.Errorf("call back: answered %d", code))
	default:
		return fmt.Errorf("call back: answered %d", code)
	}
}

func (f *Factory) note(p *Production, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.Tries++
	p.LastError = ""
	if err != nil {
		p.LastError = err.Error()
		return
	}
	p.Callbacks++
}

func (f *Factory) putBack(p *Production) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, p)
}

func (f *Factory) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-f.cfg.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
