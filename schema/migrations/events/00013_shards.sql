-- An outbox may be published by several relays, each of a shard: a range of buckets.
-- bucket is a hash of the message group, so that all events of a group are one relay's.
-- It is stored with the row, because a publication's filter may ask for a column and
-- not for a function of ours. SHA-256 is the same in every version of Postgres, on
-- every machine, and in Go (schema.Bucket); hashtext promises none of that.
--
-- The column is filled by a trigger and not generated: adding a generated column would
-- rewrite every partition while nobody may insert. This way the lock lasts as long as
-- an entry in the catalog takes, and is given up after 5 s if it cannot be had. Filled
-- by append_event alone it would cost as much, and be missing where others insert. Rows
-- from before have no bucket; no slot of a shard is old enough to bring one.
--
-- shards has a row for each slot. An empty table is one relay for all, with the slot
-- and the publication that it was given. Relays are those whose slot is named so at
-- their start: they share the serving shards among them. paused_until asks them to
-- leave their shards for so long, while the shards change; see docs/decisions/11.

-- +goose Up
SET LOCAL lock_timeout = '5s';

ALTER TABLE outbox ADD COLUMN bucket smallint;

CREATE FUNCTION bucket_of(message_group text) RETURNS smallint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
    $$ SELECT get_byte(sha256(decode(replace(message_group, '\', '\\'), 'escape')), 0)::smallint $$;

-- +goose StatementBegin
CREATE FUNCTION set_bucket() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.bucket := public.bucket_of(NEW.message_group);
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER outbox_bucket BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION set_bucket();
ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_bucket; -- also where rows come by replication

CREATE TABLE shards (
    slot         text        PRIMARY KEY,
    relay        text        NOT NULL,
    publication  text        NOT NULL,
    first_bucket smallint    NOT NULL CHECK (first_bucket >= 0),
    last_bucket  smallint    NOT NULL CHECK (last_bucket BETWEEN first_bucket AND 255),
    state        text        NOT NULL CHECK (state IN ('coming', 'serving', 'leaving')),
    paused_until timestamptz
);
GRANT SELECT ON shards TO restock_relay, restock_maintenance;

-- How far each shard's relay is with a replay. replays.done is the least of them.
CREATE TABLE replay_shards (
    replay_id uuid   NOT NULL,
    slot      text   NOT NULL,
    done      bigint NOT NULL,
    PRIMARY KEY (replay_id, slot)
);
GRANT SELECT, INSERT, UPDATE ON replay_shards TO restock_relay;
GRANT SELECT ON replay_shards TO restock_maintenance;
