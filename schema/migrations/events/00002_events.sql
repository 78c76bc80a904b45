-- The tables about events, alike in every database that has an outbox. Each is
-- partitioned by the UTC day of the event (not of its handling), so that all
-- that is known of one event is dropped together and a lookup by (day, id)
-- touches one partition. There is no default partition: rows in it would block
-- every later ATTACH.

-- +goose Up

-- Insert only. seq is taken while the row lock of the event's aggregate is
-- held, so within such a group it is commit order; between groups it says
-- nothing. The checks hold what SNS would refuse.
CREATE TABLE outbox (
    day           date        NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
    id            uuid        NOT NULL,
    seq           bigint      GENERATED ALWAYS AS IDENTITY,
    type          text        NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 100),
    message_group text        NOT NULL CHECK (message_group ~ '^[!-~]{1,128}$'),
    subject       text        CHECK (char_length(subject) BETWEEN 1 AND 100),
    attributes    jsonb       NOT NULL,
    body          text        NOT NULL,
    traceparent   text        CHECK (octet_length(traceparent) BETWEEN 1 AND 256),
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, id),
    CONSTRAINT outbox_attributes_count CHECK (
        CASE WHEN jsonb_typeof(attributes) = 'object'
             THEN jsonb_array_length(jsonb_path_query_array(attributes, '$.keyvalue()')) <= 9
             ELSE false END),
    CONSTRAINT outbox_size CHECK (octet_length(body) + octet_length(attributes::text) <= 200 * 1024)
) PARTITION BY RANGE (day);

-- What became of each outbox row: its own row here is what "published" means.
CREATE TABLE ledger (
    day             date        NOT NULL,
    event_id        uuid        NOT NULL,
    outcome         text        NOT NULL CHECK (outcome IN ('published', 'parked')),
    message_id      text,
    sequence_number text,
    published_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, event_id)
) PARTITION BY RANGE (day);

-- Events that were not published, waiting for a person: some that never can be
-- (rejected, invalid), those of a parked group (held), and those that were there
-- before the first slot and were not wanted (existing). place is the order in
-- which they were parked, within a group that of the stream. asked_by is who sent
-- or skipped the event.
CREATE TABLE parked (
    day           date        NOT NULL,
    event_id      uuid        NOT NULL,
    message_group text        NOT NULL,
    seq           bigint      NOT NULL,
    place         bigint      GENERATED ALWAYS AS IDENTITY,
    reason        text        NOT NULL CHECK (reason IN ('rejected', 'invalid', 'held', 'existing')),
    detail        text        NOT NULL,
    state         text        NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'sending', 'sent', 'skipped')),
    parked_at     timestamptz NOT NULL DEFAULT now(),
    asked_by      text,
    asked_at      timestamptz,
    note          text,
    resolved_at   timestamptz,
    PRIMARY KEY (day, event_id),
    CHECK ((state IN ('parked', 'sending')) = (resolved_at IS NULL))
) PARTITION BY RANGE (day);
CREATE INDEX parked_open ON parked (message_group, place) WHERE state IN ('parked', 'sending');

-- The groups that are parked: whatever the stream brings of one is parked behind
-- what is there of it. A row goes when nothing of its group is held any more. It
-- stands for its events, so that sending 100,000 of them updates one row, and a
-- crash amid that leaves nothing half asked for.
CREATE TABLE parked_groups (
    message_group text        PRIMARY KEY,
    event_id      uuid        NOT NULL,
    detail        text        NOT NULL,
    failing_since timestamptz NOT NULL,
    parked_at     timestamptz NOT NULL DEFAULT now(),
    state         text        NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'sending')),
    asked_by      text,
    asked_at      timestamptz
);

-- How far the ledger is complete, by slot: no row above recorded_lsn was ever
-- recorded, so a relay that starts again looks ids up only at or below it.
-- Positions compare within one timeline of one system, so both are kept.
CREATE TABLE watermarks (
    slot              text        PRIMARY KEY,
    system_identifier text        NOT NULL,
    timeline          integer     NOT NULL,
    recorded_lsn      pg_lsn      NOT NULL,
    recorded_at       timestamptz NOT NULL DEFAULT now()
);

-- What each consumer did with each event, and the lease that keeps two
-- deliveries of one event apart. replay_id is all zeros but for a replay.
CREATE TABLE inbox (
    day              date        NOT NULL,
    consumer         text        NOT NULL,
    event_id         uuid        NOT NULL,
    replay_id        uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    state            text        NOT NULL CHECK (state IN ('claimed', 'failed', 'done', 'dead')),
    attempt          integer     NOT NULL,
    lease_until      timestamptz,
    repeated_uncertain integer   NOT NULL DEFAULT 0,
    last_error       text,
    effect           text,
    first_attempt_at timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, consumer, event_id, replay_id),
    CHECK ((state = 'claimed') = (lease_until IS NOT NULL))
) PARTITION BY RANGE (day);

-- Audit of every call to the outside, failed ones too.
CREATE TABLE effects (
    day        date        NOT NULL,
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    event_id   uuid        NOT NULL,
    consumer   text        NOT NULL,
    replay_id  uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    attempt    integer     NOT NULL,
    kind       text        NOT NULL,
    outcome    text        NOT NULL CHECK (outcome IN ('ok', 'failed', 'uncertain')),
    reference  text,
    detail     text,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (day, id)
) PARTITION BY RANGE (day);
CREATE INDEX effects_event ON effects (event_id);
