-- What a relay must remember of its slot, so that one that was lost, made anew or
-- moved by another hand is noticed, and what it missed is published.
--
-- confirm_lsn is written before the slot is told: a slot that has confirmed more
-- was not moved by its relay. publication is the identity of the publication and
-- of its table. sweep says why rows of the outbox may have gone past the slot; it
-- is written before anything is done about it and stays until that is done.

-- +goose Up
ALTER TABLE watermarks
    ALTER COLUMN recorded_lsn SET DEFAULT '0/0',
    ADD COLUMN confirm_lsn pg_lsn,
    ADD COLUMN publication text,
    ADD COLUMN sweep text;
