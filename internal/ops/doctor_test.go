package ops_test

import (
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// level is that of a check; the last one where there are several, empty where none is.
func level(checks []ops.Check, subject, name string) (found ops.Check) {
	for _, c := range checks {
		if c.Subject == subject && c.Name == name {
			found = c
		}
	}
	return found
}

// TestDoctorOfDatabases: each thing is broken, noticed, and mended by the very SQL
// that is printed.
func TestDoctorOfDatabases(t *testing.T) {
	s := newShop(t)
	s.exec(s.store, `SELECT pg_create_logical_replication_slot('slot_of_' || current_database(), 'pgoutput')`)
	var slot string
	require.NoError(t, s.store.QueryRow(t.Context(), `SELECT 'slot_of_' || current_database()`).Scan(&slot))
	t.Cleanup(func() { _, _ = s.store.Exec(t.Context(), `SELECT pg_drop_replication_slot($1)`, slot) })
	examine := func() []ops.Check {
		return ops.Examine(t.Context(), ops.DoctorConfig{
			Store: ops.DoctorDatabase{Pool: s.storeLook, Slot: slot, WALBudget: 1 << 30}, Customers: ops.DoctorDatabase{Pool: s.customersLook, Slot: "none"},
		})
	}
	well := examine()
	for _, name := range []string{"reachable", "wal_level", "slots left", "senders left", "WAL kept for slots", "clock", "schema", "roles", "rights", "partitions", "buckets", "publication"} {
		require.Equal(t, ops.LevelOK, level(well, "store", name).Level, "%s: %+v", name, level(well, "store", name))
	}
	require.Equal(t, ops.LevelWarn, level(well, "store", "slot").Level, "nobody reads it")
	require.Equal(t, ops.LevelWarn, level(well, "customers", "WAL kept for slots").Level)
	require.Equal(t, "restock migrate", level(well, "customers", "slot").Mend)
	require.Equal(t, ops.LevelFail, ops.Verdict(well))

	for name, c := range map[string]struct {
		check, sql string
		level      ops.Level
	}{
		"a right is missing":      {"rights", `REVOKE INSERT ON ledger FROM restock_relay`, ops.LevelFail},
		"a right too many":        {"rights", `GRANT DELETE ON outbox TO restock_api`, ops.LevelWarn},
		"nothing can be sent":     {"rights", `REVOKE UPDATE ON parked FROM restock_maintenance`, ops.LevelFail},
		"a column is missing":     {"rights", `REVOKE UPDATE (redrive_id) ON inbox FROM restock_maintenance`, ops.LevelFail},
		"no replay can end":       {"rights", `REVOKE UPDATE ON replays FROM restock_relay`, ops.LevelFail},
		"a column too many":       {"rights", `GRANT UPDATE (body) ON outbox TO restock_api`, ops.LevelWarn},
		"everybody creates":       {"rights", `GRANT CREATE ON SCHEMA public TO PUBLIC`, ops.LevelWarn},
		"a role creates":          {"rights", `GRANT CREATE ON SCHEMA public TO restock_relay`, ops.LevelWarn},
		"the trigger is disabled": {"buckets", `ALTER TABLE outbox DISABLE TRIGGER ALL`, ops.LevelFail},
		"another group's bucket":  {"buckets", `INSERT INTO outbox (id, type, message_group, bucket, attributes, body) VALUES (gen_random_uuid(), 'a', 'g', (bucket_of('g') + 1) % 256, '{}', '{}')`, ops.LevelFail},
		"a row of no shard": {"buckets", `INSERT INTO shards (slot, relay, publication, first_bucket, last_bucket, state) VALUES ('a', 'a', 'a', 0, 255, 'serving');
			ALTER TABLE outbox DISABLE TRIGGER outbox_bucket; INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'a', 'g', '{}', '{}');
			ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket`, ops.LevelFail},
		"published before there were buckets": {"buckets", `INSERT INTO shards (slot, relay, publication, first_bucket, last_bucket, state) VALUES ('a', 'a', 'a', 0, 255, 'serving');
			ALTER TABLE outbox DISABLE TRIGGER outbox_bucket; INSERT INTO outbox (id, type, message_group, attributes, body) VALUES (gen_random_uuid(), 'a', 'g', '{}', '{}');
			ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket; INSERT INTO ledger (day, event_id, outcome) SELECT day, id, 'published' FROM outbox`, ops.LevelOK},
		"no publication":           {"publication", `DROP PUBLICATION restock_outbox`, ops.LevelFail},
		"another publication":      {"publication", `ALTER PUBLICATION restock_outbox SET (publish = 'insert, update')`, ops.LevelFail},
		"a migration is missing":   {"schema", `DELETE FROM migrations_store WHERE version_id = 4`, ops.LevelFail},
		"no partitions to come":    {"partitions", `DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'effects'::regclass LOOP EXECUTE 'DROP TABLE ' || p; END LOOP; END $$`, ops.LevelFail},
		"a slot of no shard":       {"slots left over", `SELECT pg_create_logical_replication_slot('slot_of_' || current_database() || '_1_of_2', 'pgoutput')`, ops.LevelWarn},
		"the maintenance is blind": {"schema", `REVOKE SELECT ON migrations_store FROM restock_maintenance`, ops.LevelUnknown},
	} {
		s.exec(s.store, c.sql)
		found := level(examine(), "store", c.check)
		require.Equal(t, c.level, found.Level, "%s: %+v", name, found)
		if strings.HasSuffix(found.Mend, ";") {
			s.exec(s.store, found.Mend)
			found = level(examine(), "store", c.check)
			require.Equal(t, ops.LevelOK, found.Level, "%s, mended: %+v", name, found)
		}
		s.exec(s.store, `DROP PUBLICATION IF EXISTS restock_outbox; CREATE PUBLICATION restock_outbox FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true);
			INSERT INTO migrations_store (version_id, is_applied) SELECT 4, true WHERE NOT EXISTS (SELECT FROM migrations_store WHERE version_id = 4);
			GRANT SELECT ON migrations_store TO restock_maintenance; SELECT ensure_partitions();
			DELETE FROM shards; DELETE FROM outbox; DELETE FROM ledger; ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket`)
	}
}

// doctorWorld is topic and queues as they should be.
func doctorWorld(t *testing.T) (*world, func(change func(*ops.DoctorAWS)) []ops.Check) {
	t.Helper()
	w := setup(t)
	cfg := w.aws.AWSConfig()
	ses := sesv2.NewFromConfig(cfg)
	return w, func(change func(*ops.DoctorAWS)) []ops.Check {
		given := ops.DoctorAWS{SNS: w.topics, SQS: w.queues, SES: ses, TopicARN: w.topic, AdsFrom: "Ads <ads@example.com>", WorkerAttempts: 20}
		if change != nil {
			change(&given)
		}
		return ops.Examine(t.Context(), ops.DoctorConfig{AWS: given, VIPThreshold: schema.DefaultVIPThreshold})
	}
}

func TestDoctorOfAWS(t *testing.T) {
	w, examine := doctorWorld(t)
	ses := sesv2.NewFromConfig(w.aws.AWSConfig())
	require.Equal(t, ops.LevelFail, level(examine(nil), "ses", "sender").Level, "not verified")
	_, err := ses.CreateEmailIdentity(t.Context(), &sesv2.CreateEmailIdentityInput{EmailIdentity: aws.String("example.com")})
	require.NoError(t, err)
	well := examine(nil)
	require.Equal(t, ops.LevelOK, ops.Verdict(well), "%+v", well)
	require.Len(t, well, 3+4*5)

	require.Equal(t, ops.LevelFail, level(examine(func(a *ops.DoctorAWS) { a.TopicARN += "x" }), "topic", "reachable").Level)
	require.Equal(t, ops.LevelFail, level(examine(func(a *ops.DoctorAWS) { a.WorkerAttempts = 1000 }), "vip", "dead letters").Level)

	subscriptions, err := w.topics.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &w.topic})
	require.NoError(t, err)
	var factory string
	for _, s := range subscriptions.Subscriptions {
		if strings.HasSuffix(*s.Endpoint, schema.QueueName("factory")) {
			factory = *s.SubscriptionArn
		}
	}
	set := func(name, value string) {
		_, err := w.topics.SetSubscriptionAttributes(t.Context(), &sns.SetSubscriptionAttributesInput{SubscriptionArn: &factory, AttributeName: &name, AttributeValue: &value})
		require.NoError(t, err)
	}
	set("RawMessageDelivery", "true")
	set("FilterPolicy", `{"eventType":["order.placed"]}`)
	ill := examine(nil)
	require.Equal(t, ops.LevelWarn, level(ill, "factory", "raw delivery").Level)
	policy := level(ill, "factory", "filter policy")
	require.Equal(t, ops.LevelFail, policy.Level)
	require.Contains(t, policy.Mend, "set-subscription-attributes --subscription-arn "+factory)
	require.Contains(t, policy.Mend, `'{"eventType":["replenishment.requested"]}'`)
	require.Empty(t, level(ill, "factory", "subscription"), "it is not called well")
	_, err = w.topics.Unsubscribe(t.Context(), &sns.UnsubscribeInput{SubscriptionArn: &factory})
	require.NoError(t, err)
	require.Equal(t, ops.LevelFail, level(examine(nil), "factory", "subscription").Level)

	for policy, want := range map[string]ops.Level{
		"": ops.LevelFail,
		`{"Statement":{"Effect":"Allow","Principal":"*","Action":"SQS:SendMessage","Resource":"*"}}`:                                                                                                                     ops.LevelWarn,
		`{"Statement":[{"Effect":"Allow","Principal":{"Service":["sns.amazonaws.com"]},"Action":["sqs:SendMessage"],"Resource":"*","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:*:restock-events.fifo"}}}]}`:   ops.LevelOK,
		`{"Statement":[{"Effect":"Allow","Principal":{"Service":"sns.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"*","Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:eu-west-1:1:another.fifo"}}}]}`:    ops.LevelFail,
		`{"Statement":[{"Effect":"Allow","Principal":{"Service":"events.amazonaws.com"},"Action":"sqs:SendMessage","Resource":"*","Condition":{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:eu-west-1:1:another.fifo"}}}]}`: ops.LevelFail,
	} {
		_, err := w.queues.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: &w.queue.URL, Attributes: map[string]string{"Policy": policy}})
		require.NoError(t, err, policy)
		require.Equal(t, want, level(examine(nil), "factory", "policy").Level, policy)
	}
	_, err = w.queues.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{QueueUrl: &w.queue.URL, Attributes: map[string]string{"MessageRetentionPeriod": "60"}})
	require.NoError(t, err)
	require.Contains(t, level(examine(nil), "factory", "retention").Mend, `'{"MessageRetentionPeriod":"1209600"}'`)
	_, err = w.queues.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &w.queue.DLQURL})
	require.NoError(t, err)
	require.Contains(t, level(examine(nil), "factory", "queues").Why, "does not exist")
}

// TestDoctorReaches: the other sides are connected to, and nothing of a secret URL is
// shown but its host.
func TestDoctorReaches(t *testing.T) {
	t.Parallel()
	there := httptest.NewServer(nil)
	defer there.Close()
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	secure.Config.ErrorLog = nil
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := "http://" + closed.Addr().String()
	require.NoError(t, closed.Close())
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, c := range []struct {
		url   string
		allow []netip.Prefix
		want  ops.Level
	}{
		{there.URL + "/secret", loopback, ops.LevelOK},
		{there.URL + "/secret", nil, ops.LevelFail},
		{nobody + "/secret", loopback, ops.LevelFail},
		{secure.URL + "/secret", loopback, ops.LevelFail}, // whose certificate nobody knows
		{"secret", loopback, ops.LevelFail},
	} {
		check := func(at netip.Addr) error { return consumers.CheckAddress(at, c.allow) }
		checks := ops.Examine(t.Context(), ops.DoctorConfig{WebhookURL: c.url, WebhookAddress: check})
		require.Len(t, checks, 1)
		require.Equal(t, c.want, checks[0].Level, "%s %v: %s", c.url, c.allow, checks[0].Why)
		require.NotContains(t, checks[0].Why+checks[0].Mend, "secret")
	}
	checks := ops.Examine(t.Context(), ops.DoctorConfig{FactoryURL: there.URL})
	require.Equal(t, ops.LevelOK, ops.Verdict(checks), "the factory may be anywhere")
}
