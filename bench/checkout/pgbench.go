package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// What a checkout writes, as SQL alone: the same rows of the same size, with a bucket, so
// that no trigger computes one. A colon before a letter or a digit would be a variable of
// pgbench's.
const (
	rowBody  = `'{"time":"2026-01-01T00-00-00.000000Z","specversion":"1.0","id":"01983f6e-9b1a-7c3e-8d21-5a4f6b7c8d9e","source":"/restock/store","type":"order.placed","subject":"01983f6e-9b1a-7c3e-8d21-5a4f6b7c8d9e","datacontenttype":"application/json","dataschema":"urn-restock-order.placed-1","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":{"orderId":"01983f6e-9b1a-7c3e-8d21-5a4f6b7c8d9e","quantity": 1,"lines":[{"sku":"P-1234","quantity": 1}]}}'`
	rowRest  = `'{"eventId":{"type":"String","value":"01983f6e-9b1a-7c3e-8d21-5a4f6b7c8d9e"},"quantity":{"type":"Number","value":"1"},"eventType":{"type":"String","value":"order.placed"},"traceparent":{"type":"String","value":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}'`
	rowTrace = `'00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'`
)

// oneStatement is the best that one checkout in a transaction of its own can do.
func oneStatement(products int) string {
	return fmt.Sprintf(`\set n random(0, %d)
WITH p AS (UPDATE products SET stock = stock - 1 WHERE sku = 'P-' || :n::integer AND stock >= 1 AND max_order_quantity >= 1 RETURNING sku, stock),
o AS (INSERT INTO orders (id, sku, quantity, remaining_stock) SELECT gen_random_uuid(), sku, 1, stock FROM p RETURNING id)
INSERT INTO outbox (id, type, message_group, bucket, attributes, body, traceparent) SELECT gen_random_uuid(), 'order.placed', id::text, 7, %s::jsonb, %s, %s FROM o;
`, products-1, rowRest, rowBody, rowTrace)
}

// threeStatements is how most would write it.
const threeStatements = `BEGIN;
UPDATE products SET stock = stock - 1 WHERE sku = 'P-0' AND stock >= 1;
INSERT INTO orders (id, sku, quantity, remaining_stock) VALUES (gen_random_uuid(), 'P-0', 1, 1);
INSERT INTO outbox (id, type, message_group, bucket, attributes, body, traceparent) VALUES (gen_random_uuid(), 'order.placed', gen_random_uuid()::text, 7, ` + rowRest + `::jsonb, ` + rowBody + `, ` + rowTrace + `);
COMMIT;
`

var (
	perSecond   = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	meanLatency = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
)

// pgbenchProgram is pgbench where postgres is, where pg_config says, or on PATH.
func (b *bench) pgbenchProgram(ctx context.Context) (string, error) {
	dirs := []string{b.pg.Bindir()}
	if real, err := filepath.EvalSymlinks(filepath.Join(b.pg.Bindir(), "postgres")); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	if dir, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(dir)))
	}
	for _, dir := range dirs {
		if program, err := exec.LookPath(filepath.Join(dir, "pgbench")); err == nil {
			return program, nil
		}
	}
	program, err := exec.LookPath("pgbench")
	if err != nil {
		return "", fmt.Errorf("no pgbench beside postgres, nor on PATH: install Postgres's contrib programs: %w", err)
	}
	return program, nil
}

// pgbench runs a script and returns transactions a second and their mean latency.
func (s *shop) pgbench(ctx context.Context, script string, clients int) (float64, time.Duration, error) {
	file, err := os.CreateTemp("", "restock-bench-*.sql")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = os.Remove(file.Name()) }()
	if _, err = file.WriteString(script); err == nil {
		err = file.Close()
	}
	if err != nil {
		return 0, 0, err
	}
	program, err := s.b.pgbenchProgram(ctx)
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, program, "-n", "-M", "prepared", "-f", file.Name(), //nolint:gosec // G204: Postgres's own program
		"-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(max(int(s.b.Turn.Seconds()), 1)), s.b.pg.DSN(s.database))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	tps, mean := perSecond.FindSubmatch(out), meanLatency.FindSubmatch(out)
	if tps == nil || mean == nil {
		return 0, 0, fmt.Errorf("pgbench said %s", out)
	}
	rate, _ := strconv.ParseFloat(string(tps[1]), 64)
	ms, _ := strconv.ParseFloat(string(mean[1]), 64)
	return rate, time.Duration(ms * float64(time.Millisecond)), nil
}
