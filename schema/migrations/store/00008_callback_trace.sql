-- A factory knows nothing of traces. Its callback belongs to the trace of the event
-- that asked for the production, so the API may read that, and nothing else of an
-- outbox row.

-- +goose Up
GRANT SELECT (day, id, traceparent) ON outbox TO restock_api;
