-- The publication comes before the slot: a slot decodes with the catalog of its
-- own past, and a publication younger than the slot breaks it for good. Inserts
-- only, because the outbox knows nothing else; via the root, so that the relay
-- sees one table and not one for each day.
-- https://www.postgresql.org/docs/15/sql-createpublication.html

-- +goose Up
CREATE PUBLICATION restock_outbox FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true);
