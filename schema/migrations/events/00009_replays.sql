-- A replay publishes events of the outbox once more. The command that asks for it
-- writes a row here, with its items, in one transaction; the active relay carries
-- the rows out one at a time, in the order of turn. The row is also the audit: who
-- asked for what, when, and what came of it.
--
-- Items are numbered from 1 without gaps, in the order of the outbox's seq, so that
-- done, the last place up to which all are dealt with, says how many that are and
-- where to go on after a crash. An item has an error where it could not be published.
-- Items have no foreign key: there may be ten million, written along with their row.

-- +goose Up
CREATE TABLE replays (
    id           uuid        PRIMARY KEY,
    turn         bigint      GENERATED ALWAYS AS IDENTITY,
    selection    jsonb       NOT NULL,
    consumer     text        CHECK (consumer <> ''),
    force        boolean     NOT NULL DEFAULT false,
    rate         integer     NOT NULL CHECK (rate >= 0),
    events       bigint      NOT NULL CHECK (events > 0),
    state        text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'cancelled')),
    done         bigint      NOT NULL DEFAULT 0 CHECK (done BETWEEN 0 AND events),
    asked_by     text        NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    cancelled_by text,
    resumed_by   text,
    ended_at     timestamptz,
    CHECK ((state IN ('done', 'cancelled')) = (ended_at IS NOT NULL)),
    CHECK (state <> 'done' OR done = events)
);
CREATE INDEX replays_open ON replays (turn) WHERE state IN ('waiting', 'running');

CREATE TABLE replay_items (
    replay_id uuid   NOT NULL,
    place     bigint NOT NULL,
    day       date   NOT NULL,
    event_id  uuid   NOT NULL,
    error     text,
    PRIMARY KEY (replay_id, place)
);
CREATE INDEX replay_items_errors ON replay_items (replay_id, place) WHERE error IS NOT NULL;

GRANT SELECT, INSERT ON replays, replay_items TO restock_maintenance;
GRANT UPDATE (state, cancelled_by, resumed_by, ended_at) ON replays TO restock_maintenance;
GRANT SELECT ON replays, replay_items TO restock_relay;
GRANT UPDATE (state, done, started_at, ended_at) ON replays TO restock_relay;
GRANT UPDATE (error) ON replay_items TO restock_relay;
