package consumers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/restock-dev/restock/schema"
)

// DefaultMarketingTimeout is within the 15 to 30 s that Standard Webhooks advises.
const DefaultMarketingTimeout = 15 * time.Second

// KindWebhook is the marketing system's call in effects.
const KindWebhook = "marketing.webhook"

// MarketingConfig is what the marketing system's handler needs.
type MarketingConfig struct {
	// URL is where the webhooks go, whole. Errors name its host at the most, because
	// the path and the query of such a URL are often secret.
	URL string
	// Secrets sign each webhook, all of them: whsec_ and 24 to 64 bytes in base64.
	// To change one, add the new one, wait until the receiver has it, take the old
	// one away.
	Secrets []string
	// AllowedPrefixes are the networks that webhooks may go to although they are not
	// public: loopback, private, link-local and the like. Default none.
	AllowedPrefixes []netip.Prefix
	// Timeout bounds a call, answer included. Default DefaultMarketingTimeout; the
	// worker's lease bounds it too.
	Timeout time.Duration
	// Now is the clock of the timestamps. Tests set it; default time.Now.
	Now func() time.Time
}

// Marketing is the handler of customer.promoted: it tells the marketing system by
// a webhook. The body is the event as it was received, to the byte: CloudEvents
// JSON in structured mode. Its headers are those of Standard Webhooks, with the
// event's id as webhook-id, so that a call repeated after a crash is known to be
// one, and a timestamp and signatures of this attempt.
// https://www.standardwebhooks.com
//
// What is answered decides:
//
//   - 2xx: done, whatever the body.
//   - 408, 425, 429, 5xx: tried again, after Retry-After where 429 and 503 have one.
//   - 3xx: not followed, and tried again, as the factory's.
//   - 410 and any other 4xx: refused for good. The event is dead.
//   - no connection: unavailable, which costs no attempt. Once the request is
//     sent, a cut or a time-out is uncertain.
//
// The address that the URL's name resolves to is checked at every connection, and
// one that is neither public nor allowed is not connected to. That counts as no
// connection: it says something of the configuration or of the DNS and nothing of
// the event. So all events wait in the queue, the worker is not ready, and its log
// and the audit of calls tell the address and the mend; once mended, nothing has to
// be sent again by hand, as it would from the dead-letter queue. An address that
// stands in the URL itself is refused at the start.
type Marketing struct {
	url       string
	private   []string // what may be secret of it, the longest first
	outside   *outside
	transport *http.Transport
	signer    signer
	now       func() time.Time
}

// NewMarketing makes the handler. It calls nothing yet. Its errors show no secret,
// and of the URL an address at the most.
func NewMarketing(cfg MarketingConfig) (*Marketing, error) {
	if err := checkURL(cfg.URL, cfg.AllowedPrefixes); err != nil {
		return nil, fmt.Errorf("marketing webhook URL: %w", err)
	}
	sign, err := newSigner(cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("marketing: %w", err)
	}
	setDefault(&cfg.Timeout, DefaultMarketingTimeout)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	transport := webhookTransport(slices.Clone(cfg.AllowedPrefixes))
	return &Marketing{
		url:       cfg.URL,
		private:   privateOf(cfg.URL),
		outside:   newOutside("the marketing system", http.Client{Transport: transport}, cfg.Timeout),
		transport: transport,
		signer:    sign,
		now:       cfg.Now,
	}, nil
}

func checkURL(text string, allowed []netip.Prefix) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("want http://host/path or https://host/path")
	case u.User != nil:
		return errors.New("it has a user name or a password: take it out, the webhook is signed instead")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return CheckAddress(addr, allowed)
	}
	return nil
}

// Close closes the connections that are kept alive.
func (m *Marketing) Close() { m.transport.CloseIdleConnections() }

// Longest is how long a call takes at most.
func (m *Marketing) Longest() time.Duration { return m.outside.timeout }

// Handle tells the marketing system of the promotion.
func (m *Marketing) Handle(ctx context.Context, d Delivery) (Effect, error) {
	p, ok := d.Payload.(schema.CustomerPromoted)
	if !ok {
		return Effect{}, Permanent(fmt.Errorf("%s is no event for the marketing system", d.Event.Type))
	}
	call := &Call{Kind: KindWebhook, Started: time.Now()}
	a, err := m.post(ctx, d)
	if err == nil && !a.accepted() {
		a.body = without(withoutCustomer(a.body, p.CustomerID), "(URL)", m.private...)
		err = refusal(m.outside.name, a)
	}
	call.end(err)
	if a.status != 0 {
		call.Reference = fmt.Sprintf("%d/%s", a.status, d.Event.ID)
	}
	effect := Effect{Call: call}
	if err == nil {
		effect.Reference = call.Reference
	}
	return effect, err
}

func (m *Marketing) post(ctx context.Context, d Delivery) (answer, error) {
	header := m.signer.headers(d.Event.ID.String(), m.now(), d.Body)
	// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md#32-structured-content-mode
	header.Set("Content-Type", "application/cloudevents+json")
	header.Set("User-Agent", "restock")
	if d.Event.Traceparent != "" {
		header.Set("Traceparent", d.Event.Traceparent)
	}
	return m.outside.post(ctx, m.url, header, d.Body)
}

// privateOf is what may be secret of a URL, in the forms in which an answer may echo
// it: many servers tell which path they do not know.
func privateOf(text string) []string {
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	all := []string{u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" || s == "/" })
}

// withoutCustomer takes the customer's id, which the other side may echo, out of
// an answer: what is left of it is logged.
func withoutCustomer(body []byte, id string) []byte { return without(body, "(customer)", id) }

// without replaces texts in an answer, also as JSON and HTML show them.
func without(body []byte, instead string, texts ...string) []byte {
	var pairs []string
	for _, text := range texts {
		pairs = append(pairs, text, instead, html.EscapeString(text), instead)
		if quoted, err := json.Marshal(text); err == nil {
			pairs = append(pairs, string(quoted[1:len(quoted)-1]), instead)
		}
	}
	return []byte(strings.NewReplacer(pairs...).Replace(string(body)))
}
