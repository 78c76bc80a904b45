-- Who looks after the databases sees whether a migration is missing.

-- +goose Up
GRANT SELECT ON migrations_customers TO restock_maintenance;
