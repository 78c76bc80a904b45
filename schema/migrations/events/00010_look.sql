-- Who looks after the databases sees whether a migration is missing.

-- +goose Up
GRANT SELECT ON migrations_events TO restock_maintenance;
