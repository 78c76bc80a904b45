package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// maxRetries is how often a transaction is run again after a definite rollback.
const maxRetries = 3

// connectTimeout bounds one attempt to reach the database.
const connectTimeout = 5 * time.Second

var (
	// errNoConnection is a transaction that never began.
	errNoConnection = errors.New("no database connection")
	// errNoTurn is a checkout that was not taken in time.
	errNoTurn = errors.New("not taken in time: the checkouts before it hold the database up")
	// errStopped is a checkout that came after the end.
	errStopped = errors.New("the API has stopped")
	// errUnsettled is a checkout that found other stock each time it looked.
	errUnsettled = errors.New("the stock changed with every look")
)

// unsureError is a COMMIT that got no answer: it may have happened.
type unsureError struct{ cause error }

func (e *unsureError) Error() string { return fmt.Sprintf("commit without an answer: %v", e.cause) }
func (e *unsureError) Unwrap() error { return e.cause }

// isUnsure tells an error after which what was asked may be done, whatever else it says.
func isUnsure(err error) bool {
	var unsure *unsureError
	return errors.As(err, &unsure)
}

// store runs the API's transactions. What each does stands beside its caller:
// checkout_store.go, checkout_batch.go, replenish.go and callback_store.go.
type store struct {
	pool     *pgxpool.Pool
	signer   signer
	metrics  *metrics
	cooldown time.Duration

	acquireTimeout time.Duration // wait for a connection
	callTimeout    time.Duration // one transaction; the server's own timeouts are shorter
	budget         time.Duration // no retry begins later than this after the first try
	lookupTimeout  time.Duration // a look-up after an ambiguous commit

	broken *atomic.Int64 // when a connection was last found broken, in Unix nanoseconds
}

// newPool connects lazily. Its sessions give up before we do: a statement that
// the server cancelled is a definite rollback, one that we walked away from
// is not.
//
// A connection is tested before its use if it was idle for long, or since one
// broke: where a server went away, its other connections are dead as well, and
// a transaction has few retries.
func newPool(ctx context.Context, cfg Config, conns int32, lockTimeout time.Duration, broken *atomic.Int64) (*pgxpool.Pool, error) {
	pc, err := pgxpool.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("store database: %w", err)
	}
	pc.MaxConns = conns
	cc := pc.ConnConfig
	if cc.ConnectTimeout <= 0 || cc.ConnectTimeout > connectTimeout {
		cc.ConnectTimeout = connectTimeout
	}
	set := cc.RuntimeParams
	if set["application_name"] == "" {
		set["application_name"] = "restock api"
	}
	// What is answered with 200 is durable, whatever the database's default is.
	set["synchronous_commit"] = "on"
	set["statement_timeout"] = milliseconds(cfg.StatementTimeout)
	set["lock_timeout"] = milliseconds(lockTimeout)
	// A transaction of an API that froze must not hold a product's lock.
	set["idle_in_transaction_session_timeout"] = milliseconds(2 * cfg.StatementTimeout)
	// A decision under a lock must see what was committed before it got the lock.
	set["default_transaction_isolation"] = "read committed"
	set["plan_cache_mode"] = "force_generic_plan"
	// A plan is made once. One that reads all of a table because that has ten rows would
	// do so with a million too, until it is analyzed.
	set["enable_seqscan"] = "off"
	set["jit"] = "off"
	// Prepared before a checkout comes, so that whatever fails in between
	// fails before the checkout was sent.
	pc.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		teachArrays(conn.TypeMap())
		for _, sql := range []string{sqlCheckout, sqlBatch, sqlKeep, sqlBegin, sqlCommit} {
			if _, err := conn.Prepare(ctx, sql, sql); err != nil {
				return err
			}
		}
		return nil
	}
	pc.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool {
		return p.IdleDuration > time.Second || time.Now().Add(-p.IdleDuration).UnixNano() <= broken.Load()
	}
	return pgxpool.NewWithConfig(ctx, pc)
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// attempt runs work on a connection, again where the database says that
// nothing of it was kept and that trying again may help. A work that is run
// again carries the same ids.
func (s *store) attempt(ctx context.Context, work func(context.Context, *pgxpool.Conn) error) error {
	start := time.Now()
	ensured := false
	for retries := 0; ; retries++ {
		err := s.once(ctx, work)
		reason := retryReason(err)
		if reason == "" || retries == maxRetries || time.Since(start) > s.budget {
			return err
		}
		if reason == retryPartition {
			if ensured {
				return err
			}
			ensured = true
			if err := s.ensurePartitions(ctx); err != nil {
				return err
			}
		}
		s.metrics.retries.WithLabelValues(reason).Inc()
	}
}

// once runs work on a connection. A client that goes away ends the wait for
// one, but not work that has begun.
func (s *store) once(ctx context.Context, work func(context.Context, *pgxpool.Conn) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.callTimeout)
	defer cancel()
	err = work(ctx, conn)
	if isReadOnly(err) {
		_ = conn.Conn().Close(ctx) // the next one may lead to the server that writes
	}
	if conn.Conn().IsClosed() {
		s.broken.Store(time.Now().UnixNano())
	}
	return err
}

// isReadOnly tells a server that serves and cannot write. After a failover that is where
// a name that was looked up too early leads, and a connection to it would stay for as
// long as connections live.
func isReadOnly(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "25006"
}

func (s *store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.acquireTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoConnection, err)
	}
	return conn, nil
}

func (s *store) ensurePartitions(ctx context.Context) error {
	return s.once(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return schema.EnsurePartitions(ctx, conn)
	})
}

// Reasons to run a transaction again, as labels.
const (
	retryDeadlock      = "deadlock"
	retrySerialization = "serialization"
	retryConnection    = "connection"
	retryPartition     = "partition"
)

func retryReason(err error) string {
	var pg *pgconn.PgError
	switch {
	case err == nil, isUnsure(err), errors.Is(err, errNoConnection):
		return ""
	case schema.IsMissingPartition(err):
		return retryPartition
	case errors.As(err, &pg):
		return map[string]string{
			"40P01": retryDeadlock, "40001": retrySerialization, "57P01": retryConnection,
		}[pg.Code]
	case pgconn.SafeToRetry(err):
		return retryConnection
	}
	return ""
}

// transaction runs fn between BEGIN and COMMIT. Any error of fn is a definite
// rollback, whatever became of the connection; only the COMMIT can be unsure.
func (s *store) transaction(ctx context.Context, conn *pgxpool.Conn, fn func(context.Context, pgx.Tx) error) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // after COMMIT it does nothing
	if err := fn(ctx, tx); err != nil {
		return err
	}
	// Its own time, so that slow statements do not make the COMMIT ambiguous.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.callTimeout)
	defer cancel()
	return committed(tx.Commit(ctx))
}

// committed is what the error of a COMMIT, or of a statement that is a
// transaction by itself, says: nil, a definite rollback, or unsure.
func committed(err error) error {
	if err == nil || isRollback(err) {
		return err
	}
	return &unsureError{cause: err}
}

// isRollback tells an error after which nothing is kept. An error that the
// server sent is one, unless it is a pooler's word about a connection (08), says
// itself that it does not know (40003), or is the server's death (PANIC).
//
// So is one from before anything was sent, but "conn closed" is not believed
// when it says so: where the connection breaks after a COMMIT was sent, pgx
// v5.12.0 reports the closing of the connection in place of its cause
// (MultiResultReader.NextResult), and that error claims to be safe to retry.
func isRollback(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code[:min(2, len(pg.Code))] != "08" && pg.Code != "40003" && pg.SeverityUnlocalized != "PANIC"
	}
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	return pgconn.SafeToRetry(err) && !errors.Is(err, pgconn.ErrConnClosed)
}

// lookUp runs a query on a connection of its own, because whatever broke the
// one that got no answer may have broken its neighbours.
func (s *store) lookUp(ctx context.Context, query func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.lookupTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return fmt.Errorf("look up after an ambiguous commit: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := query(ctx, conn); err != nil {
		return fmt.Errorf("look up after an ambiguous commit: %w", err)
	}
	return nil
}

// ready tells whether checkouts can be served: the database answers, takes writes, and takes
// them from this role, and today and tomorrow have their partitions.
func (s *store) ready(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return unfit(err, "the store database cannot be reached")
	}
	defer conn.Release()
	var there, writes, may bool
	var role string
	err = conn.QueryRow(ctx, `
		SELECT current_setting('transaction_read_only') = 'off', bool_and(to_regclass('public.outbox_' || to_char(d, 'YYYYMMDD')) IS NOT NULL), current_user,
		       has_table_privilege('public.products', 'SELECT') AND has_column_privilege('public.products', 'stock', 'UPDATE')
		       AND (SELECT bool_and(has_table_privilege('public.' || t, 'INSERT')) FROM unnest(ARRAY['orders', 'order_lines', 'idempotency_keys', 'replenishments', 'outbox']) t)
		  FROM generate_series((now() AT TIME ZONE 'UTC')::date, (now() AT TIME ZONE 'UTC')::date + 1, interval '1 day') d`).Scan(&writes, &there, &role, &may)
	switch {
	case err != nil:
		return unfit(err, "the store database does not answer")
	case !writes:
		_ = conn.Conn().Close(ctx) // as once does
		return errors.New("the store database is read-only")
	case !may:
		return fmt.Errorf("%s may not sell: %s", role, schema.Mend(schema.ErrRole))
	case !there:
		return errors.New("the outbox has no partition for today or tomorrow (UTC)")
	}
	return nil
}

// unfit says what mends the database, where that is known, and otherwise what is wrong: who
// asks for it need not see the error itself.
func unfit(err error, otherwise string) error {
	if mend := schema.Mend(err); mend != "" {
		return errors.New("the store database is of no use: " + mend)
	}
	return errors.New(otherwise)
}
