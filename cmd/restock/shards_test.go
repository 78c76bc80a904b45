package main

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

// TestShards: what an operator does to have two relays at work, sees of it, and takes back.
func TestShards(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, ctx: t.Context()}
	s.db, s.pool = newDatabase(t, store)
	s.aws = launch(t, nil, "localaws", "--addr", "127.0.0.1:0")
	s.clients()
	s.awsEnv = []string{"AWS_ENDPOINT_URL=" + s.aws.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local"}
	relay := func() *process {
		return launch(t, append(slices.Clone(s.awsEnv), "RESTOCK_DATABASE_URL="+s.db.RoleDSN(schema.RoleRelay, password), "RESTOCK_TOPIC_ARN="+s.topic), "relay")
	}
	first := relay()
	relay()
	owner := []string{"RESTOCK_DATABASE_URL=" + s.db.DSN}
	looker := append(slices.Clone(s.awsEnv), "RESTOCK_DATABASE_URL="+s.db.RoleDSN(schema.RoleMaintenance, password))
	slot := schema.SlotName(s.db.Name)
	publishes := func() {
		t.Helper()
		require.NoError(t, pgx.BeginFunc(s.ctx, s.pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(s.ctx, `SELECT append_event(gen_random_uuid(), 'order.placed', 'c-' || n, NULL, '{"eventType":{"type":"String","value":"order.placed"}}', '{}', NULL) FROM generate_series(1, 50) n`)
			return err
		}))
		s.eventually("all is published", func() bool {
			return s.count(`outbox o WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.day = o.day AND l.event_id = o.id)`) == 0
		})
	}
	publishes()

	code, _, stderr := restock(t, owner, "shards", "3")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "2 relays run, and 3 shards need one each")
	code, stdout, stderr := restock(t, owner, "shards", "2")
	require.Equal(t, 0, code, stderr)
	require.Contains(t, stdout, slot+": shards=2")
	s.eventually("both are read", func() bool {
		return s.count(`pg_replication_slots WHERE database = current_database() AND active`) == 2
	})
	publishes()

	_, stdout, stderr = restock(t, looker, "status")
	for _, says := range []string{slot + "_1_of_2", slot + "_2_of_2", "0-127", "128-255", "2, worst: reserved", "worst: active"} {
		require.Contains(t, stdout, says, stderr)
	}
	_, stdout, _ = restock(t, looker, "doctor")
	require.Contains(t, stdout, "restock_outbox_2_of_2: inserts of public.outbox WHERE ((bucket >= 128) AND (bucket <= 255))")
	require.Contains(t, stdout, slot+"_2_of_2 is read")
	code, stdout, stderr = restock(t, owner, "migrate")
	require.Equal(t, 0, code, stderr)
	require.NotContains(t, stdout, "made anew")
	require.NotContains(t, stdout, "created")
	_, stdout, _ = restock(t, owner, "migrate", "--plan")
	require.Contains(t, stdout, "nothing to do")

	first.restart()
	publishes()
	code, _, stderr = restock(t, owner, "shards", "1")
	require.Equal(t, 0, code, stderr)
	publishes()
	require.Equal(t, 1, s.count(`pg_replication_slots WHERE slot_name = $1`, slot))
	require.Equal(t, 1, s.count(`pg_replication_slots WHERE database = current_database()`))
	require.Equal(t, 250, s.count(`ledger WHERE outcome = 'published'`)+50)
}
