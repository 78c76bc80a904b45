package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

const sqlBatch = `SELECT stocks, outcomes, faults, statuses, languages, answers, remaining, replenishments, limits
  FROM checkout_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`

const sqlKeep = `INSERT INTO idempotency_keys (scope, key, fingerprint, status, language, answer)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::smallint[], $5::text[], $6::text[])`

// In capitals, so that they are not the statements of pgx.Tx, which are not prepared.
const (
	sqlBegin  = `BEGIN`
	sqlCommit = `COMMIT`
)

// verdict is what one of several purchases that were decided together gets.
type verdict struct {
	decision
	err error
}

// decideTogether decides purchases in one transaction, each as if it had come alone
// and in this order. The error is that of all of them.
func (s *store) decideTogether(ctx context.Context, ps []*purchase) ([]verdict, error) {
	if len(ps) == 1 && ps[0].isScalar() {
		d, err := s.decide(ctx, ps[0])
		return []verdict{{decision: d}}, err
	}
	b := newBatch(ps)
	var all []verdict
	err := s.attempt(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		var err error
		all, err = s.commitBatch(ctx, conn, b)
		return err
	})
	var unsure *unsureError
	if errors.As(err, &unsure) {
		return s.findBatch(ctx, ps, unsure), nil
	}
	if err != nil {
		return nil, fmt.Errorf("check out %d together: %w", len(ps), err)
	}
	return all, nil
}

// commitBatch takes one round trip, which is a transaction by itself. Answers that
// are to be kept take a second: they tell what the first one decided.
func (s *store) commitBatch(ctx context.Context, conn *pgxpool.Conn, b *batch) ([]verdict, error) {
	args := b.args(s.cooldown)
	if !b.keyed {
		all, err := b.read(conn.Query(ctx, sqlBatch, args...))
		return all, committed(err)
	}
	first := &pgx.Batch{}
	first.Queue(sqlBegin)
	first.Queue(sqlBatch, args...)
	results := conn.SendBatch(ctx, first)
	_, err := results.Exec()
	var all []verdict
	if err == nil {
		all, err = b.read(results.Query())
	}
	if err = errors.Join(err, results.Close()); err != nil {
		return nil, abandon(ctx, conn, err)
	}
	second := &pgx.Batch{}
	if kept := b.keep(all); kept != nil {
		second.Queue(sqlKeep, kept...)
	}
	// A session that is ended while it commits says so after its COMMIT, as an error.
	done := false
	second.Queue(sqlCommit).Exec(func(tag pgconn.CommandTag) error {
		done = tag.String() == sqlCommit
		return nil
	})
	if err := conn.SendBatch(ctx, second).Close(); err != nil && !done {
		return nil, abandon(ctx, conn, committed(err))
	}
	return all, nil
}

// abandon ends a transaction that failed, where there still is one.
func abandon(ctx context.Context, conn *pgxpool.Conn, cause error) error {
	if !conn.Conn().IsClosed() && conn.Conn().PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, `ROLLBACK`) // a connection on which this fails is not used again
	}
	return cause
}

// batch is purchases as the arrays of checkout_batch.
type batch struct {
	purchases []*purchase
	keyed     bool

	skus   texts
	wanted bigints
	most   integers

	orders    uuids
	customers maybeTexts
	firsts    integers
	lines     integers
	units     integers

	products   integers
	quantities integers
	after      bigints

	events       uuids
	groups       texts
	buckets      smallints
	attributes   texts
	bodies       texts
	traceparents texts

	scopes       texts
	keys         maybeTexts
	fingerprints [][]byte
}

func newBatch(ps []*purchase) *batch {
	b := &batch{purchases: ps}
	for _, p := range ps {
		b.firsts = append(b.firsts, int32(len(b.products)+1))
		b.lines = append(b.lines, int32(len(p.lines)))
		b.units = append(b.units, int32(p.units()))
		for _, l := range p.lines {
			b.skus = append(b.skus, l.sku)
			b.products = append(b.products, 0)
			b.quantities = append(b.quantities, int32(l.quantity))
		}
		b.add(p)
	}
	slices.Sort(b.skus)
	b.skus = slices.Compact(b.skus)
	b.sum()
	return b
}

func (b *batch) add(p *purchase) {
	b.orders = append(b.orders, p.order)
	b.customers = append(b.customers, p.customer)
	b.events = append(b.events, p.placed.ID)
	b.groups = append(b.groups, p.placed.Group)
	b.buckets = append(b.buckets, p.bucket)
	b.attributes = append(b.attributes, p.attributes)
	b.bodies = append(b.bodies, p.placed.Body)
	b.traceparents = append(b.traceparents, string(p.trace))
	if p.key == nil {
		b.scopes, b.keys, b.fingerprints = append(b.scopes, ""), append(b.keys, ""), append(b.fingerprints, nil)
		return
	}
	b.keyed = true
	b.scopes = append(b.scopes, p.key.scope)
	b.keys = append(b.keys, p.key.text)
	b.fingerprints = append(b.fingerprints, p.key.fingerprint[:])
}

// sum adds up what is asked of each product, from the last line to the first.
func (b *batch) sum() {
	b.wanted, b.most = make(bigints, len(b.skus)), make(integers, len(b.skus))
	b.after = make(bigints, len(b.products))
	line := len(b.products)
	for _, p := range slices.Backward(b.purchases) {
		for _, l := range slices.Backward(p.lines) {
			line--
			at, _ := slices.BinarySearch(b.skus, l.sku)
			b.products[line] = int32(at + 1)
			b.after[line] = b.wanted[at]
			b.wanted[at] += int64(l.quantity)
			b.most[at] = max(b.most[at], int32(l.quantity))
		}
	}
}

func (b *batch) args(cooldown any) []any {
	var scopes, keys, fingerprints any
	if b.keyed {
		scopes, keys, fingerprints = b.scopes, b.keys, b.fingerprints
	}
	return []any{
		b.skus, b.wanted, b.most, b.orders, b.customers, b.firsts, b.lines, b.units, b.products, b.quantities, b.after,
		b.events, schema.TypeOrderPlaced, b.groups, b.buckets, b.attributes, b.bodies, b.traceparents, scopes, keys, fingerprints, cooldown,
	}
}

// read reads what checkout_batch returns.
func (b *batch) read(rows pgx.Rows, err error) ([]verdict, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []verdict
	if rows.Next() {
		// Most often nothing else is there, and finding out how to scan eight arrays of
		// nothing takes longer than all the rest of this.
		if stocks := rows.RawValues()[0]; stocks != nil {
			all, err = b.bought(stocks)
		} else {
			all, err = b.scan(rows)
		}
	}
	rows.Close()
	if err = errors.Join(err, rows.Err()); err == nil && all == nil {
		err = pgx.ErrNoRows
	}
	return all, err
}

func (b *batch) scan(rows pgx.Rows) ([]verdict, error) {
	var (
		outcomes           []string
		faults, statuses   []pgtype.Int4
		languages, answers []pgtype.Text
		remaining          []pgtype.Int8
		replenishments     []pgtype.UUID
		limits             []pgtype.Int4
		all                = make([]verdict, len(b.purchases))
		lines              = make([]lineDecision, len(b.products))
	)
	if err := rows.Scan(nil, &outcomes, &faults, &statuses, &languages, &answers, &remaining, &replenishments, &limits); err != nil {
		return nil, err
	}
	for i := range remaining {
		lines[i].remaining = remaining[i].Int64
		if replenishments != nil {
			lines[i].replenishment = replenishments[i].Bytes
		}
	}
	for i, p := range b.purchases {
		d := &all[i].decision
		first := b.firsts[i] - 1
		d.outcome = outcomes[i]
		d.lines = lines[first : first+b.lines[i]]
		switch d.outcome {
		case decidedUnknown, decidedOverLimit:
			d.fault = int(faults[i].Int32) - 1
			d.limit = int(limits[b.products[int(first)+d.fault]-1].Int32)
		case decidedShort, decidedDepleted:
			for j, l := range p.lines {
				d.lines[j].short = int64(l.quantity) > d.lines[j].remaining
			}
		case decidedRepeated:
			d.answer = &keptAnswer{status: int(statuses[i].Int32), locale: localeNamed(languages[i].String), body: answers[i].String}
		}
	}
	return all, nil
}

// bought says that every purchase was granted; stocks is how much is left of each product.
func (b *batch) bought(stocks []byte) ([]verdict, error) {
	left, err := readBigints(stocks)
	if err == nil && len(left) != len(b.skus) {
		err = fmt.Errorf("the stocks of %d products for %d", len(left), len(b.skus))
	}
	if err != nil {
		return nil, err
	}
	all, lines := make([]verdict, len(b.purchases)), make([]lineDecision, len(b.products))
	for i := range lines {
		lines[i].remaining = left[b.products[i]-1] + b.after[i]
	}
	for i, first := range b.firsts {
		all[i].outcome = decidedBought
		all[i].lines = lines[first-1 : first-1+b.lines[i]]
	}
	return all, nil
}

// keep notes the answers that are to be kept, and returns them as the arguments of
// sqlKeep, nil where there are none.
func (b *batch) keep(all []verdict) []any {
	var (
		scopes, keys, languages, answers texts
		fingerprints                     [][]byte
		statuses                         smallints
	)
	for i, p := range b.purchases {
		d := &all[i].decision
		if p.key == nil || d.outcome != decidedBought && d.outcome != decidedShort {
			continue
		}
		d.answer = p.answer(*d)
		scopes, keys = append(scopes, p.key.scope), append(keys, p.key.text)
		fingerprints = append(fingerprints, p.key.fingerprint[:])
		statuses = append(statuses, int16(d.answer.status))
		languages, answers = append(languages, d.answer.locale.String()), append(answers, d.answer.body)
	}
	if len(keys) == 0 {
		return nil
	}
	return []any{scopes, keys, fingerprints, statuses, languages, answers}
}

// findBatch answers for purchases whose COMMIT got no answer. They were one
// transaction, so where anything of it is there all of it is, and a purchase that
// is not there then took nothing. Where nothing is there it may be on its way.
func (s *store) findBatch(ctx context.Context, ps []*purchase, unsure *unsureError) []verdict {
	found := make([]verdict, len(ps))
	committed := false
	err := s.lookUp(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		committed, err = findPurchases(ctx, conn, ps, found)
		return err
	})
	for i, p := range ps {
		there := err == nil && found[i].outcome != ""
		s.countAmbiguous("checkout", there)
		switch {
		case there:
		case err == nil && committed:
			found[i].err = unsure // it took nothing: it may be sent again
		default:
			found[i].err = outcomeUnknown(p.order, errors.Join(unsure, err))
		}
	}
	return found
}

// findPurchases reads what is there of purchases, and tells whether anything is.
func findPurchases(ctx context.Context, conn *pgx.Conn, ps []*purchase, found []verdict) (bool, error) {
	b := newBatch(ps)
	rows, err := conn.Query(ctx, `SELECT order_id, array_agg(remaining_stock ORDER BY place) FROM all_order_lines WHERE order_id = ANY($1) GROUP BY 1`, b.orders)
	if err != nil {
		return false, err
	}
	remaining := map[uuid.UUID][]int64{}
	var order uuid.UUID
	var left []int64
	_, err = pgx.ForEachRow(rows, []any{&order, &left}, func() error {
		remaining[order] = slices.Clone(left)
		return nil
	})
	if err != nil {
		return false, err
	}
	for i, p := range ps {
		if left := remaining[p.order]; len(left) == len(p.lines) {
			found[i].outcome = decidedBought
			for _, n := range left {
				found[i].lines = append(found[i].lines, lineDecision{remaining: n})
			}
		}
	}
	if b.keyed {
		err = findKept(ctx, conn, b, found)
	}
	return len(remaining) > 0, err
}

// findKept reads the answers that are kept under the keys of a batch. One that is
// not the purchase's own is that of a later try, which is the answer all the same.
func findKept(ctx context.Context, conn *pgx.Conn, b *batch, found []verdict) error {
	rows, err := conn.Query(ctx, `
		SELECT k.place::int - 1, i.fingerprint = k.fingerprint, i.status, i.language, i.answer
		  FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS k (scope, key, fingerprint, place)
		  JOIN idempotency_keys i ON i.scope = k.scope AND i.key = k.key`, b.scopes, b.keys, b.fingerprints)
	if err != nil {
		return err
	}
	var (
		place, status    int
		same             bool
		language, answer string
	)
	_, err = pgx.ForEachRow(rows, []any{&place, &same, &status, &language, &answer}, func() error {
		d := &found[place].decision
		if !same {
			d.outcome = decidedMismatch
			return nil
		}
		if d.outcome == "" {
			d.outcome = decidedRepeated
		}
		d.answer = &keptAnswer{status: status, locale: localeNamed(language), body: strings.Clone(answer)}
		return nil
	})
	return err
}
