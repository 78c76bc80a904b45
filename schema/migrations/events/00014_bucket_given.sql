-- Less to do for each row of the outbox.
--
-- Whoever knows the bucket of a row gives it with the row, as the checkout does, which
-- computes it in Go (schema.Bucket): the trigger is for all others. restock doctor holds
-- the newest rows' buckets against their groups.
--
-- The attributes are measured as they are kept, which is no less than their texts
-- together, and not written out as text for that. The next migration looks at the rows
-- that are there, without holding up new ones.
--
-- The lock is had at once or not at all: what waits for it would hold up checkouts.

-- +goose Up
SET LOCAL lock_timeout = '3s';
DROP TRIGGER outbox_bucket ON outbox;
CREATE TRIGGER outbox_bucket BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.bucket IS NULL) EXECUTE FUNCTION set_bucket();
ALTER TABLE outbox
    ENABLE ALWAYS TRIGGER outbox_bucket,
    ADD CONSTRAINT outbox_bucket_check CHECK (bucket BETWEEN 0 AND 255) NOT VALID,
    DROP CONSTRAINT outbox_size,
    ADD CONSTRAINT outbox_size CHECK (octet_length(body) + pg_column_size(attributes) <= 200 * 1024) NOT VALID;
