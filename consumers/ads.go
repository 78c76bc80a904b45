package consumers

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// DefaultMailTimeout bounds a call to SES, answer included.
const DefaultMailTimeout = 15 * time.Second

// KindAdMail is the ads' call in effects. Its detail begins with stop or resume.
const KindAdMail = "ads.mail"

// AdsConfig is what the ads' handler needs.
type AdsConfig struct {
	// Pool is the store's database, as schema.RoleConsumers.
	Pool *pgxpool.Pool
	// SES makes the calls; its own retryer is not used.
	SES *SES
	// From is the sender: an address, or "Name <address>". SES must have verified it
	// or its domain.
	From string
	// ConfigurationSet is SES's, for whoever wants its events. Default none.
	ConfigurationSet string
	// Timeout bounds a call, answer included. Default DefaultMailTimeout; the
	// worker's lease bounds it too.
	Timeout time.Duration
}

// Ads is the handler of replenishment.requested and stock.replenished: it asks
// the product's ad manager by mail to stop the ads, and to resume them once there
// is stock again. The mail states the stock of the moment in which it is made.
//
// # Which mails
//
// The table ads_mails has a row for each replenishment. Whatever comes late, twice
// or from a dead-letter queue is held against it:
//
//   - stop is sent while its replenishment is undelivered. It is superseded by the
//     delivery, by a newer stop of the product that is in force, and, where the
//     replenishment was refused or cancelled, by a delivery of another one since.
//   - resume is sent if a stop may have been sent for its replenishment, and no
//     newer stop of the product is in force. Else it is unneeded, or superseded.
//   - a stop is in force unless its replenishment was refused or cancelled: those
//     bring no resume of their own, so they must not hold up another's.
//   - what was sent is not sent again, by a replay neither.
//
// # Twice
//
// SES has no idempotency key. A mail is sent again where a crash or a cut fell
// between the call and its record, which the inbox counts as repeated_uncertain;
// the mail says that twice is once. The row says sending from before the call, so
// that a stop of which nobody knows is taken back by a resume all the same.
//
// # What SES answers
//
//   - taken, with an id or with an answer that cannot be read: sent.
//   - throttling, 503, no connection: unavailable, which costs no attempt. The rate
//     is the account's and says nothing about this mail. Retry-After is honoured.
//   - sending paused, account suspended, the day's quota used up, sender or domain
//     not verified, configuration set unknown, key refused: held, which is
//     unavailable with a longer wait. Nothing is lost while somebody mends it.
//   - bad request, or the mail rejected for its address or for what is in it:
//     permanent, as is a recipient that is no address. The same mail would be refused
//     again, and hold up the product's resume meanwhile. It is dead with its reason,
//     to be redriven once the product is corrected.
//   - any other 5xx, a cut or a time-out once the request is sent: uncertain.
//   - all else: a failure of this event, tried again until its attempts or its age
//     are used up.
//
// No mail address is in an error, in effects or in a log.
//
// # Not here
//
// A mail that SES took and that later bounces, or draws a complaint, is not heard
// of: that takes a configuration set with an event destination.
type Ads struct {
	pool   *pgxpool.Pool
	mailer *mailer
}

// NewAds makes the handler. It calls nothing yet.
func NewAds(cfg AdsConfig) (*Ads, error) {
	from, err := sender(cfg.From)
	if err != nil {
		return nil, fmt.Errorf("ads: %w", err)
	}
	if cfg.Pool == nil || cfg.SES == nil {
		return nil, errors.New("ads: a database pool and an SES client are both needed")
	}
	setDefault(&cfg.Timeout, DefaultMailTimeout)
	return &Ads{pool: cfg.Pool, mailer: newMailer(cfg.SES, from, cfg.ConfigurationSet, cfg.Timeout)}, nil
}

// sender is the From header for an address, its name encoded as a header has to be.
func sender(from string) (string, error) {
	parsed, err := netmail.ParseAddress(from)
	if err != nil {
		return "", fmt.Errorf("sender %q: want address or Name <address>", from)
	}
	if parsed.Name = headerText(parsed.Name, maxHeaderName); parsed.Name == "" {
		return parsed.Address, nil
	}
	return parsed.String(), nil
}

// checkRecipient refuses what is not one plain address. The error does not show it.
func checkRecipient(address string) error {
	parsed, err := netmail.ParseAddress(address)
	notASCII := func(r rune) bool { return r <= ' ' || r >= 0x7f }
	if err != nil || parsed.Address != address || strings.ContainsFunc(address, notASCII) || strings.ContainsAny(address, `"\`) {
		return errors.New("the mail address of the product's ad manager is not a valid one: correct products.ad_manager_email and redrive")
	}
	return nil
}

// Longest is how long a call takes at most.
func (a *Ads) Longest() time.Duration { return a.mailer.timeout }

// Handle sends the mail that d's event is due, if it still is.
func (a *Ads) Handle(ctx context.Context, d Delivery) (Effect, error) {
	switch p := d.Payload.(type) {
	case schema.ReplenishmentRequested:
		return a.handle(ctx, d, p.ReplenishmentID, a.stop)
	case schema.StockReplenished:
		return a.handle(ctx, d, p.ReplenishmentID, a.resume)
	}
	return Effect{}, Permanent(fmt.Errorf("%s is no event for the ads", d.Event.Type))
}

func (a *Ads) handle(ctx context.Context, d Delivery, replenishment uuid.UUID, send func(context.Context, Delivery, adsCase) (Effect, error)) (Effect, error) {
	c, err := a.look(ctx, replenishment, d.Event.Seq())
	switch {
	case errors.Is(err, pgx.ErrNoRows) && d.Attempt < unknownTries:
		return Effect{}, notThereYet(fmt.Errorf("replenishment %s is not there yet", replenishment))
	case errors.Is(err, pgx.ErrNoRows):
		return Effect{}, Permanent(fmt.Errorf("replenishment %s is unknown", replenishment))
	case err != nil:
		return Effect{}, DatabaseUnavailable(fmt.Errorf("look up replenishment: %w", err))
	}
	return send(ctx, d, c)
}

// stop sends the mail of a replenishment that was asked for.
func (a *Ads) stop(ctx context.Context, d Delivery, c adsCase) (Effect, error) {
	if c.stop == mailSent {
		return Effect{Reference: "already sent: " + c.stopMessageID}, nil
	}
	if why := c.stopSuperseded(); why != "" {
		return Effect{Reference: "superseded: " + why, Record: c.recordStopSuperseded(d.Event.Seq())}, nil
	}
	letter, err := compose(adStop, c, d.Event.ID)
	if err != nil {
		return Effect{}, Permanent(err)
	}
	begun, err := a.beginStop(ctx, c, d.Event.Seq())
	switch {
	case err != nil:
		return Effect{}, DatabaseUnavailable(err)
	case !begun:
		return Effect{Reference: "already sent"}, nil
	}
	return a.send(ctx, adStop, letter, c.recordStop, c.recordStopFailed)
}

// resume sends the mail of a replenishment that was delivered.
func (a *Ads) resume(ctx context.Context, d Delivery, c adsCase) (Effect, error) {
	switch {
	case c.resume == mailSent:
		return Effect{Reference: "already sent: " + c.resumeMessageID}, nil
	case c.state != "delivered" && d.Attempt < unknownTries:
		return Effect{}, notThereYet(fmt.Errorf("the delivery of replenishment %s is not there yet", c.replenishment))
	case c.state != "delivered":
		return Effect{}, Permanent(fmt.Errorf("replenishment %s is %s, not delivered", c.replenishment, c.state))
	case c.stop != mailSending && c.stop != mailSent:
		return Effect{Reference: "unneeded: no stop was sent for it", Record: c.recordNoResume(mailUnneeded)}, nil
	case c.newerStop:
		return Effect{Reference: "superseded: a newer stop is in force", Record: c.recordNoResume(mailSuperseded)}, nil
	}
	letter, err := compose(adResume, c, d.Event.ID)
	if err != nil {
		return Effect{}, Permanent(err)
	}
	return a.send(ctx, adResume, letter, c.recordResume, nil)
}

// send makes the call. What is recorded is taken's where SES took the mail, and
// failed's where it certainly did not.
func (a *Ads) send(ctx context.Context, kind adKind, letter mail, taken func(messageID string) recording, failed func() recording) (Effect, error) {
	call := &Call{Kind: KindAdMail, Started: time.Now()}
	s, err := a.mailer.send(ctx, letter)
	call.Ended = time.Now()
	effect := Effect{Call: call}
	switch {
	case err == nil:
		call.Outcome, call.Reference, call.Detail = CallOK, s.id, string(kind)
		if s.detail != "" {
			call.Detail += ": " + s.detail
		}
		effect.Reference, effect.Record = s.id, taken(s.id)
		return effect, nil
	case is(err, uncertain):
		call.Outcome = CallUncertain
	default:
		call.Outcome = CallFailed
		if failed != nil {
			effect.Record = failed()
		}
	}
	call.Detail = string(kind) + ": " + err.Error()
	return effect, err
}
