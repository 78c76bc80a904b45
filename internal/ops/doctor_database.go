package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// Bounds of the checks of a database.
const (
	skewNoticed = time.Second
	skewTooMuch = time.Minute
	aheadWanted = 7 // days of partitions: half of what is made
	bucketsSeen = 1000
)

// database checks one database. Where it cannot be reached nothing else is asked.
func (e *examination) database(ctx context.Context, name string, d DoctorDatabase, rights []right) {
	s := databaseSubject{subject{e, name}, d}
	if !s.reached(ctx) {
		return
	}
	for _, check := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"settings", s.settings}, {"clock", s.clock}, {"schema", s.schema}, {"roles", s.roles},
		{"rights", func(ctx context.Context) error { return s.rights(ctx, rights) }},
		{"partitions", s.partitions}, {"buckets", s.buckets}, {"publication", s.publication}, {"slot", s.slot}, {"slots left over", s.leftOver},
	} {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		if err := check.run(ctx); err != nil {
			s.unknown(check.name, err)
		}
		cancel()
	}
}

type databaseSubject struct {
	subject

	db DoctorDatabase
}

// reached connects, and says which server is there.
func (s databaseSubject) reached(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var version, user string
	var number int
	err := s.db.Pool.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_user`).Scan(&version, &number, &user)
	old := schema.CheckPostgres(version, number)
	switch {
	case err != nil:
		s.fail("reachable", "check the URL, that Postgres runs and that its pg_hba.conf lets "+schema.RoleMaintenance+" in", "%s", err)
		return false
	case old != nil:
		s.fail("reachable", "upgrade it", "%s", old)
	default:
		s.ok("reachable", "Postgres %s as %s", version, user)
	}
	return true
}

// settings checks what the server must have for logical replication.
func (s databaseSubject) settings(ctx context.Context) error {
	var level, standbys string
	var keep int64
	var most, used, senders, sendersUsed int
	var recovering, hasSlots bool
	shards, err := s.shards(ctx)
	if err != nil {
		return err
	}
	slots := slotsOf(shards)
	err = s.db.Pool.QueryRow(ctx, `SELECT current_setting('wal_level'), current_setting('synchronous_standby_names'), pg_is_in_recovery(),
			(SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
			current_setting('max_replication_slots')::int, (SELECT count(*) FROM pg_replication_slots),
			(SELECT count(*) FROM pg_replication_slots WHERE slot_name = ANY($1)) = cardinality($1::text[]),
			current_setting('max_wal_senders')::int, (SELECT count(*) FROM pg_stat_replication)`, slots).
		Scan(&level, &standbys, &recovering, &keep, &most, &used, &hasSlots, &senders, &sendersUsed)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	if recovering {
		s.fail("primary", "give the address of the primary", "this server is a standby")
	}
	if level == "logical" {
		s.ok("wal_level", "logical")
	} else {
		s.fail("wal_level", "ALTER SYSTEM SET wal_level = 'logical'; then restart Postgres (RDS: rds.logical_replication = 1 in the parameter group)", "%s: nothing can be read from the WAL", level)
	}
	left := most - used
	switch {
	case left > 0:
		s.ok("slots left", "%d of %d", left, most)
	case hasSlots:
		s.warn("slots left", fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d; then restart Postgres", most+4), "none of %d: a lost slot could not be made anew beside others", most)
	default:
		s.fail("slots left", fmt.Sprintf("drop one that is unused, or ALTER SYSTEM SET max_replication_slots = %d; then restart Postgres", most+4), "none of %d, and not all of %s are there yet", most, strings.Join(slots, ", "))
	}
	if left = senders - sendersUsed; left > 1 {
		s.ok("senders left", "%d of %d", left, senders)
	} else {
		s.warn("senders left", fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d; then restart Postgres", senders+4), "%d of %d: a relay and one that takes over need one each", left, senders)
	}
	switch {
	case keep >= 0:
		s.ok("WAL kept for slots", "at most %d MB, then a slot is lost and healed by a sweep", keep)
	case s.db.WALBudget > 0:
		s.ok("WAL kept for slots", "unbounded, and watched against a budget of %d bytes", s.db.WALBudget)
	default:
		s.warn("WAL kept for slots", "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf(); or give the relay --wal-budget",
			"unbounded: while no relay runs the WAL grows until the disk is full, and nothing tells when")
	}
	s.standbys(standbys, slots)
	return nil
}

// standbys checks that commits wait for no relay.
func (s databaseSubject) standbys(names string, slots []string) {
	for _, name := range strings.FieldsFunc(names, func(r rune) bool { return strings.ContainsRune(`,() "`, r) }) {
		if name == "*" || slices.ContainsFunc(slots, func(slot string) bool { return strings.EqualFold(name, slot) }) {
			s.fail("synchronous_standby_names", "ALTER SYSTEM SET synchronous_standby_names = '…only real standbys…'; SELECT pg_reload_conf();",
				"'%s' names the relay: every commit would wait for SNS", names)
			return
		}
	}
}

// clock compares the database's clock with this machine's.
func (s databaseSubject) clock(ctx context.Context) error {
	var theirs time.Time
	before := time.Now()
	if err := s.db.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&theirs); err != nil {
		return fmt.Errorf("read the server's clock: %w", err)
	}
	trip := time.Since(before)
	skew := theirs.Sub(before.Add(trip / 2))
	beyond := max(skew.Abs()-trip/2, 0) // what the journey cannot explain
	const mend = "set both clocks by NTP: chronyc tracking, or timedatectl"
	switch {
	case beyond > skewTooMuch:
		s.fail("clock", mend, "%s from this machine's: signatures of calls to AWS and of webhooks are refused", skew.Round(time.Millisecond))
	case beyond > skewNoticed:
		s.warn("clock", mend, "%s from this machine's: times of one event do not fit each other", skew.Round(time.Millisecond))
	default:
		s.ok("clock", "%s from this machine's", skew.Round(time.Millisecond))
	}
	return nil
}

// schema checks that no migration is missing.
func (s databaseSubject) schema(ctx context.Context) error {
	if mistaken := schema.CheckDatabase(ctx, s.db.Pool, s.name); mistaken != nil {
		s.fail("schema", "give each of the two its own address", "%s", mistaken)
		return nil
	}
	pending, err := schema.Pending(ctx, s.db.Pool, s.name)
	switch {
	case err != nil:
		return err
	case len(pending) > 0:
		s.fail("schema", "restock migrate", "%d migrations are not applied: %s", len(pending), strings.Join(pending, ", "))
	default:
		s.ok("schema", "every migration is applied")
	}
	return nil
}

// partitions checks that there are some for the days to come.
func (s databaseSubject) partitions(ctx context.Context) error {
	rows, err := s.db.Pool.Query(ctx, `SELECT p.name, coalesce(max(to_date(substring(c.relname FROM '\d{8}$'), 'YYYYMMDD')) - (now() AT TIME ZONE 'UTC')::date, -1)
		FROM unnest(ARRAY['outbox', 'ledger', 'parked', 'inbox', 'effects']) AS p (name)
		LEFT JOIN pg_inherits i ON i.inhparent = to_regclass('public.' || p.name) LEFT JOIN pg_class c ON c.oid = i.inhrelid AND c.relname ~ '_\d{8}$'
		GROUP BY p.name ORDER BY 2, 1 LIMIT 1`)
	if err != nil {
		return fmt.Errorf("list partitions: %w", err)
	}
	var table string
	var ahead int
	if _, err := pgx.ForEachRow(rows, []any{&table, &ahead}, func() error { return nil }); err != nil {
		return fmt.Errorf("list partitions: %w", err)
	}
	const mend = "SELECT ensure_partitions();"
	switch {
	case ahead < 1:
		s.fail("partitions", mend, "%s has none for tomorrow: inserts will fail", table)
	case ahead < aheadWanted:
		s.warn("partitions", mend+" and see why no part does it: each does at its start and hourly", "%s has some for %d days only", table, ahead)
	default:
		s.ok("partitions", "for %d days to come", ahead)
	}
	return nil
}

// buckets checks that each row of the outbox gets the bucket of its group, by which shards
// divide the events: a row without one is no shard's, and with two of them a group has
// two relays. Rows from before there were buckets have none, and were published.
func (s databaseSubject) buckets(ctx context.Context) error {
	var split bool
	if err := s.db.Pool.QueryRow(ctx, `SELECT to_regclass('shards') IS NOT NULL`).Scan(&split); err != nil || !split {
		return err
	}
	filled, err := schema.FillsBuckets(ctx, s.db.Pool)
	if err != nil {
		return err
	}
	var newest, others, none int
	// Not EXISTS: that might be answered by a hash of the whole ledger.
	err = s.db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM shards), count(bucket), count(*) FILTER (WHERE bucket <> bucket_of(message_group)),
			count(*) FILTER (WHERE bucket IS NULL AND (SELECT event_id FROM ledger l WHERE l.day = n.day AND l.event_id = n.id) IS NULL)
		FROM (SELECT day, id, bucket, message_group FROM outbox ORDER BY day DESC, id DESC LIMIT $1) n`, bucketsSeen).Scan(&split, &newest, &others, &none)
	if err != nil {
		return fmt.Errorf("look at the newest rows' buckets: %w", err)
	}
	switch {
	case others > 0:
		s.fail("buckets", "have whoever writes the outbox leave the bucket to its trigger, or take schema.Bucket; then restock reconcile",
			"%d of the newest rows have another bucket than their group", others)
	case !filled:
		s.fail("buckets", "ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket;", "the trigger outbox_bucket is missing or disabled, on the outbox or a partition of it")
	case split && none > 0:
		s.fail("buckets", "restock reconcile, which tells those that were not published", "%d of the newest rows have none, and so no shard", none)
	default:
		s.ok("buckets", "the newest %d rows have their group's", newest)
	}
	return nil
}

// doctorShard is a slot of the outbox, and what its publication must be.
type doctorShard struct{ Slot, Place, Publication, Filter string }

func slotsOf(shards []doctorShard) []string {
	slots := make([]string, len(shards))
	for i, shard := range shards {
		slots[i] = shard.Slot
	}
	return slots
}

// shards lists those that are served or were not cleared away. Without any the outbox is
// one; before the migration that it is missing for, too.
func (s databaseSubject) shards(ctx context.Context) ([]doctorShard, error) {
	whole := []doctorShard{{Slot: s.db.Slot, Place: ShardServing, Publication: schema.Publication}}
	var split bool
	if err := s.db.Pool.QueryRow(ctx, `SELECT to_regclass('shards') IS NOT NULL`).Scan(&split); err != nil || !split {
		return whole, err
	}
	rows, err := s.db.Pool.Query(ctx, `SELECT slot, state, publication, CASE WHEN (first_bucket, last_bucket) = (0, $2) THEN ''
			ELSE format('((bucket >= %s) AND (bucket <= %s))', first_bucket, last_bucket) END
		FROM shards WHERE relay = $1 ORDER BY state = 'serving' DESC, first_bucket`, s.db.Slot, schema.Buckets-1)
	if err != nil {
		return nil, fmt.Errorf("list the shards: %w", err)
	}
	shards, err := pgx.CollectRows(rows, pgx.RowToStructByPos[doctorShard])
	if err != nil {
		return nil, fmt.Errorf("list the shards: %w", err)
	}
	if len(shards) == 0 {
		return whole, nil
	}
	return shards, nil
}

// eachShard checks every one.
func (s databaseSubject) eachShard(ctx context.Context, check func(context.Context, doctorShard) error) error {
	shards, err := s.shards(ctx)
	for _, shard := range shards {
		if err == nil {
			err = check(ctx, shard)
		}
	}
	return err
}

// publication checks that exactly the outbox is published, as the relay reads it.
func (s databaseSubject) publication(ctx context.Context) error {
	return s.eachShard(ctx, s.publicationOf)
}

func (s databaseSubject) publicationOf(ctx context.Context, shard doctorShard) error {
	if shard.Place != ShardServing {
		return nil
	}
	var fits bool
	var tables []string
	err := s.db.Pool.QueryRow(ctx, `SELECT NOT puballtables AND pubinsert AND NOT pubupdate AND NOT pubdelete AND NOT pubtruncate AND pubviaroot,
			ARRAY(SELECT concat_ws(' WHERE ', schemaname || '.' || tablename, rowfilter) FROM pg_publication_tables t WHERE t.pubname = p.pubname)
		FROM pg_publication p WHERE pubname = $1`, shard.Publication).Scan(&fits, &tables)
	wanted := "public.outbox"
	if shard.Filter != "" {
		wanted += " WHERE " + shard.Filter
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		s.fail("publication", "restock migrate", "%s does not exist", shard.Publication)
	case err != nil:
		return fmt.Errorf("read the publication: %w", err)
	case !fits || len(tables) != 1 || tables[0] != wanted:
		s.fail("publication", "restock migrate", "%s publishes %s, and must have %s alone, publish = 'insert' and publish_via_partition_root",
			shard.Publication, strings.Join(tables, ", "), wanted)
	default:
		s.ok("publication", "%s: inserts of %s", shard.Publication, tables[0])
	}
	return nil
}

// slot checks that each slot is there, sound, and read.
func (s databaseSubject) slot(ctx context.Context) error { return s.eachShard(ctx, s.slotOf) }

func (s databaseSubject) slotOf(ctx context.Context, shard doctorShard) error {
	var plugin, database, here, status string
	var active bool
	var retained int64
	err := s.db.Pool.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), current_database(), coalesce(wal_status, ''), active,
			coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
		FROM pg_replication_slots WHERE slot_name = $1`, shard.Slot).Scan(&plugin, &database, &here, &status, &active, &retained)
	switch {
	case err != nil && !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("read the slot: %w", err)
	case shard.Place != ShardServing:
		s.warn("slot", "run restock shards again, until it ends", "the shards are being changed: %s is %s, and %d MB of WAL are kept for it", shard.Slot, shard.Place, retained>>20)
	case err != nil:
		s.fail("slot", "restock migrate", "%s does not exist", shard.Slot)
	case plugin != "pgoutput" || database != here:
		s.fail("slot", "choose another name for restock migrate --slot and restock relay --slot", "%s is for plugin %q and database %q", shard.Slot, plugin, database)
	case status == "lost":
		s.fail("slot", "start restock relay: it makes the slot anew and publishes what went past it", "%s is lost: Postgres has removed WAL that it needed", shard.Slot)
	case !active:
		s.warn("slot", "start restock relay", "nobody reads %s, and %d MB of WAL are kept for it", shard.Slot, retained>>20)
	default:
		s.ok("slot", "%s is read, %d MB of WAL are kept for it", shard.Slot, retained>>20)
	}
	return nil
}

// leftOver looks for slots that are named like the outbox's own and are none of them:
// nobody reads those, and WAL is kept for them until the disk is full.
func (s databaseSubject) leftOver(ctx context.Context) error {
	shards, err := s.shards(ctx)
	if err != nil {
		return err
	}
	rows, err := s.db.Pool.Query(ctx, `SELECT slot_name, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint
		FROM pg_replication_slots WHERE database = current_database() AND NOT active AND slot_name <> ALL ($1)
		AND starts_with(slot_name, $2) AND substr(slot_name, length($2) + 1) ~ '^(_[0-9]+_of_[0-9]+)?$' ORDER BY slot_name`, slotsOf(shards), s.db.Slot)
	if err != nil {
		return fmt.Errorf("list the slots: %w", err)
	}
	var slot string
	var retained int64
	left, err := pgx.ForEachRow(rows, []any{&slot, &retained}, func() error {
		s.warn("slots left over", fmt.Sprintf("SELECT pg_drop_replication_slot('%s');", slot), "%s is no shard's, and %d MB of WAL are kept for it", slot, retained>>20)
		return nil
	})
	switch {
	case err != nil:
		return fmt.Errorf("list the slots: %w", err)
	case left.RowsAffected() == 0:
		s.ok("slots left over", "none")
	}
	return nil
}
