package consumers

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// What ads_mails says of a replenishment's stop and of its resume.
const (
	mailNone       = "none"
	mailSending    = "sending" // it may have been sent
	mailSent       = "sent"
	mailSuperseded = "superseded"
	mailUnneeded   = "unneeded"
)

// adsCase is all that decides about a mail, and all that stands in it, as of one
// moment.
type adsCase struct {
	replenishment uuid.UUID
	sku, product  string
	language      string
	manager       string // mail address
	stock         int64
	at            time.Time // when that was the stock

	state                    string // of the replenishment
	asked, delivered         int64
	requestedAt, deliveredAt time.Time

	stop, stopMessageID     string
	resume, resumeMessageID string
	newerStop               bool // of the product, and in force
	deliveredSince          bool // another one, after this was refused or cancelled
}

// look reads the case of a replenishment. sequence stands for the place of its
// stop's event where no stop was handled yet.
func (a *Ads) look(ctx context.Context, replenishment uuid.UUID, sequence int64) (adsCase, error) {
	c := adsCase{replenishment: replenishment}
	err := a.pool.QueryRow(ctx, `
		SELECT p.sku, p.name, p.language, p.ad_manager_email, p.stock, now(),
		       r.state, r.quantity, coalesce(r.delivered_quantity, 0), r.requested_at, coalesce(r.delivered_at, r.requested_at),
		       coalesce(m.stop, 'none'), coalesce(m.stop_message_id, ''), coalesce(m.resume, 'none'), coalesce(m.resume_message_id, ''),
		       EXISTS (SELECT FROM ads_mails n JOIN replenishments o ON o.id = n.replenishment_id
		                WHERE n.sku = r.sku AND n.replenishment_id <> r.id AND n.stop_sequence > coalesce(m.stop_sequence, $2)
		                  AND n.stop IN ('sending', 'sent') AND o.state NOT IN ('refused', 'cancelled')),
		       r.state IN ('refused', 'cancelled')
		       AND EXISTS (SELECT FROM replenishments o WHERE o.sku = r.sku AND o.id <> r.id AND o.delivered_at > r.closed_at)
		  FROM replenishments r
		  JOIN products p ON p.sku = r.sku
		  LEFT JOIN ads_mails m ON m.replenishment_id = r.id
		 WHERE r.id = $1`, replenishment, sequence).
		Scan(&c.sku, &c.product, &c.language, &c.manager, &c.stock, &c.at,
			&c.state, &c.asked, &c.delivered, &c.requestedAt, &c.deliveredAt,
			&c.stop, &c.stopMessageID, &c.resume, &c.resumeMessageID, &c.newerStop, &c.deliveredSince)
	return c, err
}

// stopSuperseded says why a stop comes too late, empty where it does not.
func (c adsCase) stopSuperseded() string {
	switch {
	case c.state == "delivered":
		return "the replenishment is delivered"
	case c.newerStop:
		return "a newer stop is in force"
	case c.deliveredSince:
		return "the replenishment is " + c.state + " and another was delivered since"
	}
	return ""
}

// beginStop notes that a stop may be sent from now on, unless one was: another
// delivery of the event may have been faster.
func (a *Ads) beginStop(ctx context.Context, c adsCase, sequence int64) (begun bool, err error) {
	tag, err := a.pool.Exec(ctx, `
		INSERT INTO ads_mails AS m (replenishment_id, sku, stop, stop_sequence) VALUES ($1, $2, 'sending', $3)
		ON CONFLICT (replenishment_id) DO UPDATE SET stop = 'sending', stop_sequence = $3 WHERE m.stop <> 'sent'`,
		c.replenishment, c.sku, sequence)
	if err != nil {
		return false, fmt.Errorf("note that a stop is being sent: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// recording is an Effect's Record.
type recording = func(context.Context, pgx.Tx) error

// change is one statement that records.
func change(what, sql string, args ...any) recording {
	return func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sql, args...); err != nil {
			return fmt.Errorf("record %s: %w", what, err)
		}
		return nil
	}
}

func (c adsCase) recordStop(messageID string) recording {
	return change("stop", `
		UPDATE ads_mails SET stop = 'sent', stop_message_id = nullif($2, ''), stopped_at = now()
		 WHERE replenishment_id = $1 AND stop <> 'sent'`, c.replenishment, clean(messageID))
}

// recordStopFailed takes sending back where no earlier call is in doubt.
func (c adsCase) recordStopFailed() recording {
	if c.stop == mailSending {
		return nil
	}
	return change("stop", `
		UPDATE ads_mails SET stop = $2 WHERE replenishment_id = $1 AND stop = 'sending'`, c.replenishment, c.stop)
}

// recordStopSuperseded leaves alone a stop that may have been sent.
func (c adsCase) recordStopSuperseded(sequence int64) recording {
	return change("stop", `
		INSERT INTO ads_mails AS m (replenishment_id, sku, stop, stop_sequence) VALUES ($1, $2, 'superseded', $3)
		ON CONFLICT (replenishment_id) DO UPDATE SET stop = 'superseded', stop_sequence = $3 WHERE m.stop = 'none'`,
		c.replenishment, c.sku, sequence)
}

func (c adsCase) recordResume(messageID string) recording {
	return change("resume", `
		UPDATE ads_mails SET resume = 'sent', resume_message_id = nullif($2, ''), resumed_at = now()
		 WHERE replenishment_id = $1 AND resume <> 'sent'`, c.replenishment, clean(messageID))
}

// recordNoResume records that none is sent, superseded or unneeded.
func (c adsCase) recordNoResume(resume string) recording {
	return change("resume", `
		INSERT INTO ads_mails AS m (replenishment_id, sku, resume) VALUES ($1, $2, $3)
		ON CONFLICT (replenishment_id) DO UPDATE SET resume = $3 WHERE m.resume <> 'sent'`, c.replenishment, c.sku, resume)
}
