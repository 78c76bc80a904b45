package consumers

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// inbox is what one consumer did with each event: the table of that name. Claims
// that are made at once share a round trip and a commit, and so do the ends of
// attempts that have no rows of their own to write.
type inbox struct {
	pool     *pgxpool.Pool
	consumer string
	claims   gather[wish, answered[claim]]
	ends     gather[end, answered[bool]]
}

func newInbox(pool *pgxpool.Pool, consumer string) *inbox {
	b := &inbox{pool: pool, consumer: consumer}
	b.claims.most, b.claims.call = maxTogether, func(wishes []wish) []answered[claim] {
		return together(pool, wishes, b.queueClaim, readClaim)
	}
	b.ends.most, b.ends.call = maxTogether, func(ends []end) []answered[bool] {
		return together(pool, ends, b.queueEnd, readEnd)
	}
	return b
}

// usable tells why no event can be claimed: the database does not answer, has no inbox, is a
// standby, or takes no rows from this role.
func (b *inbox) usable(ctx context.Context) error {
	var role string
	var may, writes bool
	err := b.pool.QueryRow(ctx, `SELECT current_user, current_setting('transaction_read_only') = 'off',
		has_table_privilege('inbox', 'SELECT') AND has_table_privilege('inbox', 'INSERT') AND has_table_privilege('inbox', 'UPDATE')`).Scan(&role, &writes, &may)
	switch {
	case err != nil:
		return err
	case !writes:
		return errors.New("it is read-only")
	case !may:
		return fmt.Errorf("%s may not write the inbox: %w", role, schema.ErrRole)
	}
	return nil
}

// key is an event in an inbox. A replay of an event has a row of its own.
type key struct {
	day      time.Time
	eventID  uuid.UUID
	replayID uuid.UUID
}

// The states of an inbox row.
const (
	stateClaimed = "claimed" // an attempt is under way, under a lease
	stateFailed  = "failed"  // the last attempt failed, another may follow
	stateDone    = "done"
	stateDead    = "dead" // no attempt will follow: for the dead-letter queue
)

// claim is the answer to an attempt's wish to handle an event.
type claim struct {
	key
	granted bool
	// Of a granted claim. The attempt's number is also what fences it: every
	// later claim has a higher one.
	attempt   int
	age       time.Duration // since the first attempt that counts
	takenOver bool          // from an attempt that never recorded its end
	doubtful  bool          // an earlier call may have been accepted
	// Of one that was not granted: the state in the way, how long its lease
	// still runs, and of a dead event the reason.
	state     string
	leaseLeft time.Duration
	reason    string
	open      bool // the event was handled under another row, and this one is not ended
}

// wish is for an event's next attempt.
type wish struct {
	key
	force bool // a replay that is handled whatever became of the event before
	lease time.Duration
}

// claim asks for the event's next attempt under a lease. It is one statement, so
// that of two deliveries at once one is granted and the other sees why not.
//
// An event that was handled under another row, the first time or by a replay, is not
// handled again, unless a replay forces it. While another row's attempt is under way
// none is granted. Deliveries of one event cannot race for two of its rows, since
// their queue gives out one message of a group after the other.
//
// The snapshot of rows may be older than the row that was in the way. Of what it
// says only done and dead are acted upon, and those never change.
//
// Whether there may have been a call before is not for attempt to say: it is given
// back where a call was cut, and counted anew by a redrive and by a replay's row.
func (b *inbox) claim(k key, force bool, lease time.Duration) (claim, error) {
	a := b.claims.ask(wish{k, force, lease})
	if a.err != nil {
		return claim{}, fmt.Errorf("claim event: %w", a.err)
	}
	a.answer.key = k
	return a.answer, nil
}

func (b *inbox) queueClaim(batch *pgx.Batch, w wish) {
	batch.Queue(`
		WITH rows AS MATERIALIZED (
			SELECT replay_id, state, lease_until, last_error FROM inbox WHERE day = $1 AND consumer = $2 AND event_id = $3
		), prior AS (
			SELECT state, lease_until, last_error FROM rows WHERE replay_id = $4
		), other AS (
			SELECT state, lease_until FROM rows
			 WHERE replay_id <> $4 AND (state = 'done' AND NOT $6::boolean OR state = 'claimed' AND lease_until > now())
			 ORDER BY state = 'done' DESC LIMIT 1
		), granted AS (
			INSERT INTO inbox AS i (day, consumer, event_id, replay_id, state, attempt, lease_until)
			SELECT $1::date, $2::text, $3::uuid, $4::uuid, 'claimed', 1, now() + $5::interval WHERE NOT EXISTS (SELECT FROM other)
			ON CONFLICT (day, consumer, event_id, replay_id) DO UPDATE
			   SET state = 'claimed', attempt = i.attempt + 1, lease_until = now() + $5::interval, updated_at = now(),
			       first_attempt_at = CASE WHEN i.attempt = 0 THEN now() ELSE i.first_attempt_at END,
			       repeated_uncertain = i.repeated_uncertain + (i.state = 'claimed')::integer
			 WHERE i.state = 'failed' OR i.state = 'claimed' AND i.lease_until <= now()
			RETURNING attempt, now() - first_attempt_at AS age, repeated_uncertain > 0 OR redrive_id IS NOT NULL AS doubtful
		)
		SELECT g.attempt IS NOT NULL, coalesce(g.attempt, 0), coalesce(g.age, interval '0'),
		       g.attempt IS NOT NULL AND coalesce(p.state, '') = 'claimed',
		       coalesce(g.doubtful, false) OR EXISTS (SELECT FROM rows WHERE replay_id <> $4),
		       coalesce(o.state, p.state, 'claimed'), greatest(coalesce(o.lease_until, p.lease_until) - now(), interval '0'), coalesce(p.last_error, ''),
		       coalesce(o.state = 'done' AND p.state IN ('failed', 'claimed'), false)
		  FROM (SELECT) AS one LEFT JOIN granted g ON true LEFT JOIN prior p ON true LEFT JOIN other o ON true`,
		w.day, b.consumer, w.eventID, w.replayID, w.lease, w.force)
}

func readClaim(results pgx.BatchResults, _ wish) (c claim, err error) {
	err = results.QueryRow().Scan(&c.granted, &c.attempt, &c.age, &c.takenOver, &c.doubtful, &c.state, &c.leaseLeft, &c.reason, &c.open)
	return c, err
}

// concede ends the row of an event that was handled under another: one that was
// redriven after a replay of it, say. Nothing else would end it.
func (b *inbox) concede(ctx context.Context, k key) error {
	_, err := b.pool.Exec(ctx, `
		UPDATE inbox SET state = 'done', lease_until = NULL, effect = 'handled before', updated_at = now()
		 WHERE day = $1 AND consumer = $2 AND event_id = $3 AND replay_id = $4
		   AND (state = 'failed' OR state = 'claimed' AND lease_until <= now())`, k.day, b.consumer, k.eventID, k.replayID)
	if err != nil {
		return fmt.Errorf("record in the inbox that the event was handled: %w", err)
	}
	return nil
}

// outcome is how an attempt ended, as its inbox row will say.
type outcome struct {
	state    string // failed, done or dead
	giveBack bool   // the attempt does not count
	doubtful bool   // the call may have been accepted, and will be repeated
	reason   string // of failed and dead
}

// errLeaseLost is an attempt that is no longer the event's: its lease ran out and
// another took over.
var errLeaseLost = errors.New("the lease was lost to another attempt")

// end is that of an attempt whose handler has no rows of its own to write.
type end struct {
	claim
	outcome
	reference string
	call      *Call
}

// settle records the end of an attempt with everything that follows from it, in
// one transaction, if the attempt still holds the event. The audit of a call that
// was made is kept even if not.
func (b *inbox) settle(ctx context.Context, c claim, o outcome, effect Effect) error {
	if effect.Record == nil {
		switch a := b.ends.ask(end{c, o, effect.Reference, effect.Call}); {
		case a.err != nil:
			return fmt.Errorf("record outcome in the inbox: %w", a.err)
		case !a.answer:
			return errLeaseLost
		}
		return nil
	}
	err := pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error {
		if err := b.close(ctx, tx, c, o, effect.Reference); err != nil {
			return err
		}
		if err := b.audit(ctx, tx, c, effect.Call); err != nil {
			return err
		}
		reference, err := runRecord(ctx, tx, effect)
		if err != nil || reference == effect.Reference {
			return err
		}
		return b.refer(ctx, tx, c, reference)
	})
	if errors.Is(err, errLeaseLost) {
		return errors.Join(err, b.audit(ctx, b.pool, c, effect.Call))
	}
	return err
}

func (b *inbox) queueEnd(batch *pgx.Batch, e end) {
	batch.Queue(closeSQL, b.closeArgs(e.claim, e.outcome, e.reference)...)
	if e.call != nil {
		batch.Queue(auditSQL, b.auditArgs(e.claim, e.call)...)
	}
}

// readEnd tells whether the attempt still held its event.
func readEnd(results pgx.BatchResults, e end) (held bool, err error) {
	tag, err := results.Exec()
	if err == nil && e.call != nil {
		_, err = results.Exec()
	}
	return tag.RowsAffected() == 1, err
}

// refer replaces the reference of an outcome that close has written.
func (b *inbox) refer(ctx context.Context, tx pgx.Tx, c claim, reference string) error {
	_, err := tx.Exec(ctx, `
		UPDATE inbox SET effect = nullif($5, '')
		 WHERE day = $1 AND consumer = $2 AND event_id = $3 AND replay_id = $4`,
		c.day, b.consumer, c.eventID, c.replayID, clean(reference))
	if err != nil {
		return fmt.Errorf("record reference in the inbox: %w", err)
	}
	return nil
}

const closeSQL = `
	UPDATE inbox
	   SET state = $6, lease_until = NULL, attempt = attempt - $7, last_error = nullif($8, ''), effect = nullif($9, ''),
	       repeated_uncertain = repeated_uncertain + $10::boolean::integer, updated_at = now()
	 WHERE day = $1 AND consumer = $2 AND event_id = $3 AND replay_id = $4 AND state = 'claimed' AND attempt = $5`

func (b *inbox) closeArgs(c claim, o outcome, reference string) []any {
	back := 0
	if o.giveBack {
		back = 1
	}
	return []any{
		c.day, b.consumer, c.eventID, c.replayID, c.attempt,
		o.state, back, clean(o.reason), clean(reference), o.doubtful,
	}
}

func (b *inbox) close(ctx context.Context, tx pgx.Tx, c claim, o outcome, reference string) error {
	tag, err := tx.Exec(ctx, closeSQL, b.closeArgs(c, o, reference)...)
	if err != nil {
		return fmt.Errorf("record outcome in the inbox: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errLeaseLost
	}
	return nil
}

// recorded tells whether the outcome is in the inbox, for a commit whose answer
// was lost.
func (b *inbox) recorded(ctx context.Context, c claim, o outcome) (bool, error) {
	want := c.attempt
	if o.giveBack {
		want--
	}
	var found bool
	err := b.pool.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM inbox
		 WHERE day = $1 AND consumer = $2 AND event_id = $3 AND replay_id = $4 AND attempt = $5 AND state = $6)`,
		c.day, b.consumer, c.eventID, c.replayID, want, o.state).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look for the outcome in the inbox: %w", err)
	}
	return found, nil
}

// auditSQL keeps a call once, however often it is recorded: a record is tried again
// where its commit's answer was lost.
const auditSQL = `
	INSERT INTO effects (day, event_id, consumer, replay_id, attempt, kind, outcome, reference, detail, started_at, ended_at)
	SELECT $1::date, $2::uuid, $3::text, $4::uuid, $5::integer, $6::text, $7::text, nullif($8, ''), nullif($9, ''), $10::timestamptz, $11::timestamptz
	 WHERE NOT EXISTS (SELECT FROM effects WHERE day = $1 AND event_id = $2 AND consumer = $3 AND replay_id = $4 AND attempt = $5
	                                         AND kind = $6 AND started_at = $10)`

func (b *inbox) auditArgs(c claim, call *Call) []any {
	return []any{
		c.day, c.eventID, b.consumer, c.replayID, c.attempt,
		call.Kind, string(call.Outcome), clean(call.Reference), clean(call.Detail), call.Started, call.Ended,
	}
}

func (b *inbox) audit(ctx context.Context, db schema.Execer, c claim, call *Call) error {
	if call == nil {
		return nil
	}
	if _, err := db.Exec(ctx, auditSQL, b.auditArgs(c, call)...); err != nil {
		return fmt.Errorf("record call in effects: %w", err)
	}
	return nil
}

// maxText bounds what is kept of an error.
const maxText = 2000

// clean makes any text one that Postgres can keep.
func clean(s string) string {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") // a rune that was cut in half goes
}

// recordError is the failure of a handler's Record on a connection that works.
type recordError struct {
	err   error
	stack []byte // of a panic
}

func (e *recordError) Error() string { return "record the effect: " + e.err.Error() }
func (e *recordError) Unwrap() error { return e.err }

// runRecord runs the handler's Record and returns the reference that the effect
// then has.
func runRecord(ctx context.Context, tx pgx.Tx, effect Effect) (reference string, err error) {
	if effect.Record == nil {
		return effect.Reference, nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &recordError{err: fmt.Errorf("panic: %v", v), stack: debug.Stack()}
		}
	}()
	err = effect.Record(ctx, tx)
	switch {
	case err != nil && tx.Conn().IsClosed():
		return "", err
	case err != nil:
		return "", &recordError{err: err}
	case effect.Found != nil:
		return effect.Found(), nil
	}
	return effect.Reference, nil
}

// unrecordable tells an outcome that the database refuses to record from a
// database that does not answer.
func unrecordable(err error) bool {
	var pg *pgconn.PgError
	switch {
	case errors.As(err, new(*pgconn.ConnectError)):
		return false // refused at the door
	case !errors.As(err, &pg):
		return errors.As(err, new(*recordError))
	}
	// Connection, resources, an operator's act, the system: not the row's doing. A
	// serialization failure or a deadlock passes by itself, and so does a lock that
	// was not had in the role's lock_timeout, or a standby after a failover.
	// https://www.postgresql.org/docs/15/errcodes-appendix.html
	switch pg.Code[:2] {
	case "08", "53", "57", "58", "40":
		return false
	}
	return pg.Code != "55P03" && pg.Code != "25006"
}
