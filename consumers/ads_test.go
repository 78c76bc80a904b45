package consumers_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localaws"
	"github.com/restock-dev/restock/schema"
)

// adsWorld is a world whose worker is that of the ads.
type adsWorld struct {
	*world
	ses    *consumers.SES
	worker *running // the last that was started
}

func adsSetup(t *testing.T) *adsWorld {
	t.Helper()
	w := &adsWorld{world: setup(t)}
	w.queue = w.made.Queues[schema.ConsumerAds]
	w.ses = sesv2.NewFromConfig(w.aws.AWSConfig())
	return w
}

func (w *adsWorld) handler(change ...func(*consumers.AdsConfig)) *consumers.Ads {
	w.Helper()
	cfg := consumers.AdsConfig{Pool: w.pool, SES: w.ses, From: "Restock <ads@restock.example>", ConfigurationSet: "restock"}
	for _, c := range change {
		c(&cfg)
	}
	a, err := consumers.NewAds(cfg)
	require.NoError(w, err)
	return a
}

// startAds runs a worker of the ads' queue until the test ends.
func (w *adsWorld) startAds(h consumers.Handler, change ...func(*consumers.Config)) *running {
	w.Helper()
	interest, _ := schema.InterestOf(schema.ConsumerAds, schema.DefaultVIPThreshold)
	w.worker = w.start(h, append([]func(*consumers.Config){func(c *consumers.Config) { c.Interest = interest }}, change...)...)
	return w.worker
}

func (w *adsWorld) comeBack() { w.aws.Faults().ExpireVisibility(schema.QueueName(schema.ConsumerAds)) }

// sparing waits for a state that nothing signals, and now and then ends the waits
// of messages that nobody has in hand. Those under way are left alone: one that
// comes back from under its attempt waits for the lease, and its group with it.
func (w *adsWorld) sparing(what string, done func() bool) {
	w.Helper()
	last := time.Now()
	w.eventually(what, func() bool {
		if done() {
			return true
		}
		if time.Since(last) < 200*time.Millisecond {
			return false
		}
		last = time.Now()
		idle := w.worker.metric(w.world, "in_flight") == 0 && !scan[bool](w.world, `SELECT EXISTS (SELECT FROM inbox WHERE state = 'claimed')`)
		if _, hidden := w.counts(w.queue.URL); idle && hidden > 0 {
			w.comeBack()
		}
		return false
	})
}

// awaitEmpty waits until the queue holds nothing more.
func (w *adsWorld) awaitEmpty() {
	w.Helper()
	w.sparing("queue is empty", func() bool {
		waiting, hidden := w.counts(w.queue.URL)
		return waiting+hidden == 0
	})
}

// settle waits for the event's inbox row to be in a state.
func (w *adsWorld) settle(event uuid.UUID, state string) row {
	w.Helper()
	w.sparing("inbox row becomes "+state, func() bool { return w.inbox(event, uuid.Nil).state == state })
	return w.inbox(event, uuid.Nil)
}

func (w *adsWorld) product(sku, name, language string) {
	w.Helper()
	w.exec(`INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email, ad_manager_email, language)
		VALUES ($1, $2, 2, 2, 10, 'FF-500293', 'manager@example.com', 'ads-manager@example.com', $3)`, sku, name, language)
}

// depletion is a replenishment and its two events.
type depletion struct {
	id           uuid.UUID
	sku          string
	stop, resume schema.Event
}

// deplete opens a replenishment as a failing checkout does, its event unpublished.
func (w *adsWorld) deplete(sku string) *depletion {
	w.Helper()
	p := w.replenishment(sku)
	d := &depletion{id: p.ReplenishmentID, sku: sku, stop: w.append(p)}
	w.exec(`INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, $2, $3, $4)`, d.id, sku, p.Quantity, d.stop.ID)
	return d
}

// arrive raises the stock as a callback does, its event unpublished.
func (w *adsWorld) arrive(d *depletion) {
	w.Helper()
	w.exec(`UPDATE products SET stock = stock + 10 WHERE sku = $1`, d.sku)
	w.exec(`UPDATE replenishments SET state = 'delivered', delivered_quantity = 10, delivered_at = clock_timestamp(),
		closed_at = coalesce(closed_at, clock_timestamp()) WHERE id = $1`, d.id)
	d.resume = w.append(schema.StockReplenished{ReplenishmentID: d.id, SKU: d.sku, ProductName: "Donut", Quantity: 10, Stock: 12})
}

// end closes a replenishment without a delivery.
func (w *adsWorld) end(d *depletion, state string) {
	w.Helper()
	w.exec(`UPDATE replenishments SET state = $2, closed_at = clock_timestamp() WHERE id = $1`, d.id, state)
}

// handled publishes an event and waits until it is done.
func (w *adsWorld) handled(e schema.Event) row {
	w.Helper()
	w.publish(e)
	return w.settle(e.ID, "done")
}

// kinds lists what the mails asked for, oldest first.
func (w *adsWorld) kinds() []string {
	kinds := []string{}
	for _, m := range w.aws.Mails() {
		kinds = append(kinds, m.Tags["kind"])
	}
	return kinds
}

// mails is what ads_mails says of a replenishment.
func (w *adsWorld) mails(d *depletion) (stop, resume string) {
	w.Helper()
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT stop, resume FROM ads_mails WHERE replenishment_id = $1`, d.id).Scan(&stop, &resume))
	return stop, resume
}

// calls lists the outcomes of the event's calls.
func (w *adsWorld) calls(e schema.Event) []string {
	w.Helper()
	return scan[[]string](w.world, `SELECT coalesce(array_agg(outcome ORDER BY id), '{}') FROM effects WHERE event_id = $1 AND kind = 'ads.mail'`, e.ID)
}

// noAddress checks that no mail address is kept where everybody looks.
func (w *adsWorld) noAddress() {
	w.Helper()
	require.Empty(w, scan[[]string](w.world, `SELECT coalesce(array_agg(t), '{}') FROM (
		SELECT detail FROM effects UNION ALL SELECT reference FROM effects UNION ALL SELECT last_error FROM inbox UNION ALL SELECT effect FROM inbox) AS all_of(t)
		WHERE t LIKE '%@%'`))
}

func TestAdsStopAndResume(t *testing.T) {
	for language, says := range map[string]struct{ stop, resume, stock2, stock12 string }{
		"ko": {"광고 중단 요청", "광고 재개 요청", "현재 재고: 2개", "현재 재고: 12개"},
		"en": {"Stop the ads", "Resume the ads", "Stock now: 2\n", "Stock now: 12\n"},
	} {
		t.Run(language, func(t *testing.T) {
			w := adsSetup(t)
			w.product("CP-1", "도너츠", language)
			w.startAds(w.handler())
			d := w.deplete("CP-1")
			row := w.handled(d.stop)
			require.Equal(t, 1, row.attempt)
			stop := w.aws.Mails()[0]
			require.Equal(t, stop.MessageID, row.effect)
			require.Equal(t, []string{"ads-manager@example.com"}, stop.To)
			require.Equal(t, `"Restock" <ads@restock.example>`, stop.From)
			require.Equal(t, "restock", stop.ConfigurationSet)
			require.Equal(t, map[string]string{"event-id": d.stop.ID.String(), "replenishment-id": d.id.String(), "kind": "stop"}, stop.Tags)
			for _, part := range []string{says.stop, "도너츠", "CP-1", d.id.String()} {
				require.Contains(t, stop.Subject, part)
			}
			require.Contains(t, stop.Text, says.stock2)
			require.Contains(t, stop.Text, " KST (")
			require.Contains(t, stop.HTML, d.id.String())

			w.arrive(d)
			row = w.handled(d.resume)
			resume := w.aws.Mails()[1]
			require.Equal(t, resume.MessageID, row.effect)
			require.Contains(t, resume.Subject, says.resume)
			require.Contains(t, resume.Text, says.stock12)
			require.Equal(t, d.resume.ID.String(), resume.Tags["event-id"])

			gotStop, gotResume := w.mails(d)
			require.Equal(t, "sent sent", gotStop+" "+gotResume)
			require.Equal(t, stop.MessageID, scan[string](w.world, `SELECT stop_message_id FROM ads_mails`))
			require.Equal(t, []string{"ok"}, w.calls(d.stop))
			require.Equal(t, []string{"stop", "resume"}, scan[[]string](w.world, `SELECT array_agg(detail ORDER BY id) FROM effects`))
			require.Equal(t, []string{stop.MessageID, resume.MessageID}, scan[[]string](w.world, `SELECT array_agg(reference ORDER BY id) FROM effects`))
			w.noAddress()
			w.awaitEmpty()
		})
	}
}

// The stock in the mail is that of the moment in which it is made, not that of
// the event.
func TestAdsStateTheTrueStock(t *testing.T) {
	w := adsSetup(t)
	w.product("CP-1", "Donut", "en")
	d := w.deplete("CP-1")
	w.exec(`UPDATE products SET stock = 1`)
	w.startAds(w.handler())
	w.handled(d.stop)
	w.arrive(d)
	w.exec(`UPDATE products SET stock = 7`)
	w.handled(d.resume)
	require.Contains(t, w.aws.Mails()[0].Text, "Stock now: 1\n")
	require.Contains(t, w.aws.Mails()[1].Text, "Stock now: 7\n")
	require.Contains(t, w.aws.Mails()[1].Subject, "stock 7,")
}

// Which mails are sent when events come late, out of order or again.
func TestAdsPairing(t *testing.T) {
	const delivered = "superseded: the replenishment is delivered"
	const noStop = "unneeded: no stop was sent for it"
	const newer = "superseded: a newer stop is in force"
	for name, test := range map[string]struct {
		play func(w *adsWorld)
		want []string
	}{
		"stop after the delivery": {func(w *adsWorld) {
			d := w.deplete("CP-1")
			w.arrive(d)
			require.Equal(w, delivered, w.handled(d.stop).effect)
			require.Equal(w, noStop, w.handled(d.resume).effect)
			stop, resume := w.mails(d)
			require.Equal(w, "superseded unneeded", stop+" "+resume)
		}, []string{}},
		"resume before its stop": {func(w *adsWorld) {
			d := w.deplete("CP-1")
			w.arrive(d)
			require.Equal(w, noStop, w.handled(d.resume).effect)
			require.Equal(w, delivered, w.handled(d.stop).effect)
			stop, resume := w.mails(d)
			require.Equal(w, "superseded unneeded", stop+" "+resume)
		}, []string{}},
		"resume with a newer stop": {func(w *adsWorld) {
			first := w.deplete("CP-1")
			w.handled(first.stop)
			w.end(first, "cancelled")
			second := w.deplete("CP-1")
			w.handled(second.stop)
			w.arrive(first) // late, and all that can be sold until the second comes
			require.Equal(w, newer, w.handled(first.resume).effect)
			_, resume := w.mails(first)
			require.Equal(w, "superseded", resume)
			w.arrive(second)
			w.handled(second.resume)
		}, []string{"stop", "stop", "resume"}},
		"resume with a newer stop that will never bring one": {func(w *adsWorld) {
			first := w.deplete("CP-1")
			w.handled(first.stop)
			w.end(first, "cancelled")
			second := w.deplete("CP-1")
			w.handled(second.stop)
			w.end(second, "refused")
			w.arrive(first)
			w.handled(first.resume)
		}, []string{"stop", "stop", "resume"}},
		"resume with a newer stop of another product": {func(w *adsWorld) {
			w.product("CP-2", "Donut", "ko")
			first, other := w.deplete("CP-1"), w.deplete("CP-2")
			w.handled(first.stop)
			w.handled(other.stop)
			w.arrive(first)
			w.handled(first.resume)
		}, []string{"stop", "stop", "resume"}},
		"two depletions one after the other": {func(w *adsWorld) {
			for range 2 {
				d := w.deplete("CP-1")
				w.handled(d.stop)
				w.arrive(d)
				w.handled(d.resume)
			}
		}, []string{"stop", "resume", "stop", "resume"}},
		"stop of one refused": {func(w *adsWorld) {
			d := w.deplete("CP-1")
			w.end(d, "refused") // there is no stock all the same
			w.handled(d.stop)
			w.arrive(d) // late
			w.handled(d.resume)
		}, []string{"stop", "resume"}},
		"stop of one refused after another was delivered": {func(w *adsWorld) {
			first := w.deplete("CP-1")
			w.end(first, "refused")
			second := w.deplete("CP-1")
			w.arrive(second)
			require.Equal(w, "superseded: the replenishment is refused and another was delivered since", w.handled(first.stop).effect)
		}, []string{}},
		"stop after a newer one": {func(w *adsWorld) {
			first := w.deplete("CP-1")
			w.end(first, "refused")
			second := w.deplete("CP-1")
			w.handled(second.stop)
			require.Equal(w, newer, w.handled(first.stop).effect)
		}, []string{"stop"}},
		"duplicates": {func(w *adsWorld) {
			d := w.deplete("CP-1")
			w.handled(d.stop)
			w.publish(d.stop)
			w.publish(d.stop)
			w.awaitEmpty()
			w.arrive(d)
			w.handled(d.resume)
			w.publish(d.resume)
			w.awaitEmpty()
		}, []string{"stop", "resume"}},
		"replays": {func(w *adsWorld) {
			d := w.deplete("CP-1")
			w.handled(d.stop)
			for _, replay := range []uuid.UUID{uuid.New(), uuid.New()} {
				w.publish(d.stop, forced(replay))
				w.awaitEmpty()
				require.Equal(w, "already sent: "+w.aws.Mails()[0].MessageID, w.inbox(d.stop.ID, replay).effect)
			}
			w.arrive(d)
			w.handled(d.resume)
			replay := uuid.New()
			w.publish(d.resume, forced(replay))
			w.awaitEmpty()
			require.Equal(w, "already sent: "+w.aws.Mails()[1].MessageID, w.inbox(d.resume.ID, replay).effect)
		}, []string{"stop", "resume"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := adsSetup(t)
			w.product("CP-1", "Donut", "ko")
			w.startAds(w.handler())
			test.play(w)
			require.Equal(t, test.want, w.kinds())
			w.noAddress()
		})
	}
}

// Each error of SES is handled as what it is.
func TestAdsErrors(t *testing.T) {
	refuse := func(code, message string) localaws.Rule {
		return localaws.Rule{Effect: localaws.Refuse, SenderFault: true, Code: code, Message: message}
	}
	type want struct {
		burned    int  // attempts, by three failures
		dead      bool // at the first
		outcome   string
		uncertain int
		mails     int // in the end
	}
	outage := want{outcome: "failed", mails: 1}
	for name, test := range map[string]struct {
		rule localaws.Rule
		want want
	}{
		"throttled":              {localaws.Rule{Effect: localaws.Throttle}, outage},
		"quota of the day":       {localaws.Rule{Effect: localaws.Throttle, Message: "Daily message quota exceeded."}, outage},
		"sending paused":         {refuse("SendingPausedException", "paused"), outage},
		"account suspended":      {refuse("AccountSuspendedException", "suspended"), outage},
		"quota":                  {refuse("LimitExceededException", "quota"), outage},
		"domain not verified":    {refuse("MailFromDomainNotVerifiedException", "not verified"), outage},
		"recipient not verified": {refuse("MessageRejected", "Email address is not verified: ads-manager@example.com"), outage},
		"service unavailable":    {localaws.Rule{Effect: localaws.InternalError, Status: 503}, outage},
		"mail rejected":          {refuse("MessageRejected", "ads-manager@example.com and the content are rejected"), want{burned: 1, dead: true, outcome: "failed"}},
		"bad request":            {refuse("BadRequestException", "ads-manager@example.com and more are rejected"), want{burned: 1, dead: true, outcome: "failed"}},
		"cut before it is taken": {localaws.Rule{Effect: localaws.Cut}, want{burned: 3, outcome: "uncertain", uncertain: 3, mails: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := adsSetup(t)
			w.product("CP-1", "Donut", "ko")
			test.rule.Service, test.rule.Action, test.rule.Count = "ses", "SendEmail", 3
			w.aws.Faults().Add(test.rule)
			var logged syncBuffer
			w.startAds(w.handler(), func(c *consumers.Config) { c.Logger = zerolog.New(&logged).Level(zerolog.InfoLevel) })
			d := w.deplete("CP-1")
			w.publish(d.stop)
			if test.want.dead {
				row := w.settle(d.stop.ID, "dead")
				require.Equal(t, 1, row.attempt)
				require.Contains(t, row.lastError, "(mail address) and")
				w.awaitEmpty()
				require.Len(t, w.deadLetters(), 1)
				require.Equal(t, []string{"failed"}, w.calls(d.stop))
				stop, _ := w.mails(d)
				require.Equal(t, "none", stop)
			} else {
				row := w.settle(d.stop.ID, "done")
				require.Equal(t, test.want.burned+1, row.attempt)
				require.Equal(t, test.want.uncertain, row.uncertain)
				require.Equal(t, []string{test.want.outcome, test.want.outcome, test.want.outcome, "ok"}, w.calls(d.stop))
				stop, _ := w.mails(d)
				require.Equal(t, "sent", stop)
				w.awaitEmpty()
			}
			require.Len(t, w.aws.Mails(), test.want.mails)
			w.noAddress()
			require.NotContains(t, logged.String(), "@")
		})
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A sender that nobody verified loses no mail: it goes out once somebody does.
func TestAdsWaitForTheSenderToBeVerified(t *testing.T) {
	w := adsSetup(t)
	w.product("CP-1", "Donut", "ko")
	w.aws.Faults().RequireVerifiedSenders(true)
	w.startAds(w.handler())
	d := w.deplete("CP-1")
	w.publish(d.stop)
	w.eventually("it is held", func() bool { return w.inbox(d.stop.ID, uuid.Nil).state == "failed" })
	row := w.inbox(d.stop.ID, uuid.Nil)
	require.Zero(t, row.attempt)
	require.Contains(t, row.lastError, "Email address is not verified. The following identities failed the check: (mail address)")
	w.eventually("it waits hidden", func() bool {
		waiting, inFlight := w.counts(w.queue.URL)
		return waiting == 0 && inFlight == 1
	})
	_, err := w.ses.CreateEmailIdentity(t.Context(), &sesv2.CreateEmailIdentityInput{EmailIdentity: aws.String("restock.example")})
	require.NoError(t, err)
	require.Equal(t, 1, w.settle(d.stop.ID, "done").attempt)
	require.Equal(t, []string{"stop"}, w.kinds())
	w.noAddress()
}

func TestAdsSlowIsUncertain(t *testing.T) {
	w := adsSetup(t)
	w.product("CP-1", "Donut", "ko")
	slow := w.aws.Faults().Add(localaws.Rule{Effect: localaws.Delay, Delay: time.Minute, Service: "ses"})
	w.startAds(w.handler(func(c *consumers.AdsConfig) { c.Timeout = 50 * time.Millisecond }))
	d := w.deplete("CP-1")
	w.publish(d.stop)
	w.eventually("it times out", func() bool { return w.inbox(d.stop.ID, uuid.Nil).uncertain > 0 })
	w.aws.Faults().Remove(slow)
	w.settle(d.stop.ID, "done")
	require.Equal(t, "uncertain", w.calls(d.stop)[0])
}

// A worker dies between the call and its record. The stop is sent again, and
// counted; and where the delivery comes first, the resume is sent all the same.
func TestAdsCrashBetweenCallAndRecord(t *testing.T) {
	for name, test := range map[string]struct {
		arrives bool
		want    []string
	}{
		"before the delivery": {false, []string{"stop", "stop", "resume"}},
		"past the delivery":   {true, []string{"stop", "resume"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := adsSetup(t)
			w.product("CP-1", "Donut", "ko")
			dying := w.consumersPool()
			ads := w.handler()
			first := w.startAds(handlerFunc(func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
				effect, err := ads.Handle(ctx, d)
				dying.Close() // it can record nothing more
				return effect, err
			}), func(c *consumers.Config) { c.Pool, c.Grace = dying, time.Millisecond })
			d := w.deplete("CP-1")
			w.publish(d.stop)
			w.eventually("the mail is sent", func() bool { return len(w.aws.Mails()) == 1 })
			require.NoError(t, first.stop())
			stop, _ := w.mails(d)
			require.Equal(t, "sending", stop)
			require.Equal(t, "claimed", w.inbox(d.stop.ID, uuid.Nil).state)

			w.exec(`UPDATE inbox SET lease_until = now() - interval '1 second' WHERE state = 'claimed'`)
			if test.arrives {
				w.arrive(d)
			}
			w.comeBack()
			w.startAds(w.handler())
			row := w.settle(d.stop.ID, "done")
			require.Equal(t, 1, row.uncertain)
			if !test.arrives {
				w.arrive(d)
			}
			w.handled(d.resume)
			require.Equal(t, test.want, w.kinds())
		})
	}
}

// A stop that may have been sent, and that is dead in the end, is taken back.
func TestAdsResumeAfterAStopInDoubt(t *testing.T) {
	w := adsSetup(t)
	w.product("CP-1", "Donut", "ko")
	faults := w.aws.Faults()
	faults.Add(localaws.Rule{Effect: localaws.DropAnswer, Service: "ses", Action: "SendEmail"})
	w.startAds(w.handler(), func(c *consumers.Config) { c.MaxAttempts = 2 })
	d := w.deplete("CP-1")
	w.publish(d.stop)
	require.Equal(t, 2, w.settle(d.stop.ID, "dead").uncertain+1)
	stop, _ := w.mails(d)
	require.Equal(t, "sending", stop)
	faults.Clear()
	w.arrive(d)
	w.handled(d.resume)
	require.Equal(t, []string{"stop", "stop", "resume"}, w.kinds())
}

func TestAdsRecipientThatIsNoAddress(t *testing.T) {
	w := adsSetup(t)
	w.product("CP-1", "Donut", "ko")
	w.exec("UPDATE products SET ad_manager_email = E'a@b.example\r\nBcc: evil@example.com'")
	w.startAds(w.handler())
	d := w.deplete("CP-1")
	w.publish(d.stop)
	row := w.settle(d.stop.ID, "dead")
	require.Equal(t, 1, row.attempt)
	require.Contains(t, row.lastError, "correct products.ad_manager_email and redrive")
	require.Empty(t, w.calls(d.stop))
	require.Empty(t, w.aws.Mails())
	w.awaitEmpty()
	require.Len(t, w.deadLetters(), 1)
	w.noAddress()
	// No stop, no resume.
	w.arrive(d)
	require.Equal(t, "unneeded: no stop was sent for it", w.handled(d.resume).effect)
}

func TestAdsHostileNames(t *testing.T) {
	w := adsSetup(t)
	w.startAds(w.handler())
	for i, name := range []string{
		"Donut\r\nBcc: evil@example.com", strings.Repeat("도", 200), "كعكة", "\u202Etunod", "🍩👩‍🍳", `<img src=x onerror=alert(1)>`, "'; DROP TABLE products; --",
	} {
		sku := fmt.Sprintf("CP-%d\r\nTo: x@y.z", i)
		w.product(sku, name, "en")
		d := w.deplete(sku)
		w.handled(d.stop)
		m := w.aws.Mails()[i]
		require.Equal(t, []string{"ads-manager@example.com"}, m.To)
		require.NotContains(t, m.Subject, "\n")
		require.NotContains(t, m.HTML, "<img")
		require.Contains(t, m.Text, fmt.Sprintf("\nSKU: CP-%d To: x@y.z\n", i))
	}
}

// Stop and resume of one product are one group: whatever fails, they come in order.
func TestAdsKeepTheirOrder(t *testing.T) {
	w := adsSetup(t)
	const products, rounds = 4, 3
	arrived := make(map[uuid.UUID]*depletion)
	var all []*depletion
	for p := range products {
		w.product(fmt.Sprintf("CP-%d", p), "Donut", "ko")
	}
	for range rounds {
		for p := range products {
			d := w.deplete(fmt.Sprintf("CP-%d", p))
			w.arrive(d)
			arrived[d.id] = d
			all = append(all, d)
		}
	}
	// All are in the queue at once. To the handler each is undelivered until its
	// resume is at hand, as if the callback had come just then.
	w.exec(`UPDATE replenishments SET state = 'cancelled', delivered_quantity = NULL, delivered_at = NULL`)
	for _, d := range all {
		w.publish(d.stop)
		w.publish(d.resume)
	}
	for _, effect := range []localaws.Effect{localaws.Throttle, localaws.Refuse} {
		w.aws.Faults().Add(localaws.Rule{Effect: effect, SenderFault: true, Code: "ConflictException", Service: "ses", Action: "SendEmail", Count: 3})
	}
	ads := w.handler()
	worker := w.startAds(handlerFunc(func(ctx context.Context, d consumers.Delivery) (consumers.Effect, error) {
		if p, ok := d.Payload.(schema.StockReplenished); ok {
			_, err := w.owner.Exec(ctx, `UPDATE replenishments SET state = 'delivered', delivered_quantity = 10, delivered_at = closed_at WHERE id = $1`, p.ReplenishmentID)
			if err != nil {
				return consumers.Effect{}, err
			}
		}
		return ads.Handle(ctx, d)
	}), func(c *consumers.Config) { c.CircuitFailures = 1000 })
	w.awaitEmpty()
	got := make(map[string][]string)
	for _, m := range w.aws.Mails() {
		d := arrived[uuid.MustParse(m.Tags["replenishment-id"])]
		got[d.sku] = append(got[d.sku], m.Tags["event-id"])
	}
	want := make(map[string][]string)
	for _, d := range all {
		want[d.sku] = append(want[d.sku], d.stop.ID.String(), d.resume.ID.String())
	}
	require.Equal(t, want, got)
	require.NoError(t, worker.stop())
	require.InDelta(t, 0, worker.metric(w.world, "sequence_inversions_total"), 0)
}

func TestAdsUnknownReplenishmentIsDeadAfterAFewLooks(t *testing.T) {
	w := adsSetup(t)
	w.startAds(w.handler())
	e := w.event("CP-X")
	row := w.settle(e.ID, "dead")
	require.Equal(t, 5, row.attempt)
	require.Contains(t, row.lastError, "is unknown")
}

func TestAdsResumeOfWhatWasNotDeliveredIsDead(t *testing.T) {
	w := adsSetup(t)
	w.product("CP-1", "Donut", "ko")
	w.startAds(w.handler())
	d := w.deplete("CP-1")
	w.handled(d.stop)
	e := w.append(schema.StockReplenished{ReplenishmentID: d.id, SKU: "CP-1", Quantity: 10})
	w.publish(e)
	row := w.settle(e.ID, "dead")
	require.Equal(t, 5, row.attempt)
	require.Contains(t, row.lastError, "is requested, not delivered")
	require.Equal(t, []string{"stop"}, w.kinds())
}

// What is not there yet in our own database says nothing of SES, which nobody asked.
func TestAdsUnknownReplenishmentsOpenNoCircuit(t *testing.T) {
	w := adsSetup(t)
	w.product("CP-1", "Donut", "ko")
	worker := w.prepare(w.handler(), func(c *consumers.Config) {
		c.Interest, _ = schema.InterestOf(schema.ConsumerAds, schema.DefaultVIPThreshold)
		c.CircuitFailures, c.CircuitOpen = 2, time.Hour
	})
	for _, sku := range []string{"CP-X", "CP-Y"} {
		w.event(sku)
		w.publish(w.append(schema.StockReplenished{ReplenishmentID: w.deplete("CP-1").id, SKU: sku + "2", Quantity: 10}))
		w.exec(`UPDATE replenishments SET state = 'cancelled', closed_at = now()`)
	}
	require.Len(t, worker.ProcessBatch(t.Context(), w.receive()), 4)
	require.InDelta(t, 0, worker.metric(w.world, "circuit_state"), 0)
	require.Equal(t, 4, scan[int](w.world, `SELECT sum(attempt) FROM inbox`), "they are attempts all the same")
}

func TestAdsConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := consumers.NewAds(consumers.AdsConfig{From: "nobody"})
	require.ErrorContains(t, err, "want address")
	_, err = consumers.NewAds(consumers.AdsConfig{From: "a@b.example"})
	require.ErrorContains(t, err, "are both needed")
}
