-- As events/00017_safe_path.sql, and for the same reason.

-- +goose Up
ALTER FUNCTION keep_ordered() SET search_path = pg_catalog, pg_temp;
