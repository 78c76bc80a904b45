-- A redrive takes a dead event back to its consumer's queue: its row becomes
-- failed first, and redrive_id, committed with that, is what the message is
-- deduplicated by. So a redrive that is run again after a crash sends the same
-- message, and one after another death sends another.
--
-- The operator's role reads the tables about events already. It may change of an
-- inbox what a redrive changes, in every database with an outbox.

-- +goose Up
ALTER TABLE inbox ADD COLUMN redrive_id uuid;
GRANT UPDATE (state, attempt, redrive_id, updated_at) ON inbox TO restock_maintenance;
