package consumers

import (
	"net/http"
	"time"
)

// SetRenewTick makes the worker renew at every tick of the test's, and no other.
func (w *Worker) SetRenewTick(tick <-chan time.Time) { w.renewTick = tick }

// WebhookHeaders signs a webhook of any id and body.
func WebhookHeaders(secrets []string, id string, at time.Time, body []byte) (http.Header, error) {
	s, err := newSigner(secrets)
	if err != nil {
		return nil, err
	}
	return s.headers(id, at, body), nil
}
