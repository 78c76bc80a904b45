-- These two run with the owner's rights for whoever calls them, so they look for nothing
-- where another role may put it. In a database that was made before Postgres 15 everybody
-- may create in the schema public, and a function of his there that fits an argument better
-- than Postgres's own, to_char(date, text) say, was called as the owner. All that the two
-- want of public they name with it.
-- https://www.postgresql.org/docs/15/sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY

-- +goose Up
ALTER FUNCTION ensure_partitions(integer) SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ensure_inbox_day(date) SET search_path = pg_catalog, pg_temp;
