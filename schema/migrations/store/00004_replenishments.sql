-- A replenishment that hangs is retried or cancelled by a person. Who did it, when,
-- why, and what was there before is kept for as long as the replenishment.

-- +goose Up
CREATE TABLE replenishment_acts (
    id               bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    replenishment_id uuid        NOT NULL REFERENCES replenishments,
    act              text        NOT NULL CHECK (act IN ('retry', 'cancel')),
    was              text        NOT NULL,
    production_id    text,
    asked_by         text        NOT NULL,
    reason           text        NOT NULL CHECK (reason <> ''),
    asked_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX replenishment_acts_of ON replenishment_acts (replenishment_id);

GRANT SELECT, INSERT ON replenishment_acts TO restock_maintenance;
GRANT UPDATE (state, production_id, accepted_at, closed_at) ON replenishments TO restock_maintenance;

-- Who looks after the databases sees whether a migration is missing.
GRANT SELECT ON migrations_store TO restock_maintenance;
