-- What was answered to a request with an Idempotency-Key, committed with what the
-- request did. One key is one decision, so a refusal for want of stock is kept too.
--
-- The table is not partitioned: a key that is sent again after midnight must still
-- be found. A row is honoured for as long as it is there, which is 24 hours and
-- until the next restock maintain; nothing ever changes one.

-- +goose Up
CREATE TABLE idempotency_keys (
    scope       text COLLATE "C" NOT NULL, -- the customer, '' where there is none
    key         text COLLATE "C" NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    fingerprint bytea       NOT NULL,      -- of what was asked
    status      smallint    NOT NULL,
    language    text        NOT NULL,
    answer      text        NOT NULL,      -- byte for byte
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);
-- For what is past its time.
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

GRANT SELECT, INSERT ON idempotency_keys TO restock_api;
GRANT SELECT, DELETE ON idempotency_keys TO restock_maintenance;
