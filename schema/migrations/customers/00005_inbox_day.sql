-- As ensure_partitions, it is this database's consumers' alone here.

-- +goose Up
REVOKE ALL ON FUNCTION ensure_inbox_day(date) FROM restock_consumers;
GRANT EXECUTE ON FUNCTION ensure_inbox_day(date) TO restock_customers;
