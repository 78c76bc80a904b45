-- Every row passed the check that this one replaces. Inserts go on meanwhile.

-- +goose Up
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_size;
