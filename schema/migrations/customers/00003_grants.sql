-- The tables about events came with the rights of the shop's roles, because they
-- are alike in every database. Here they are this database's consumers' alone,
-- as far as each right goes there: the outbox is insert only.

-- +goose Up
REVOKE ALL ON outbox, inbox, effects FROM restock_api, restock_consumers;
REVOKE ALL ON FUNCTION ensure_partitions(integer) FROM restock_api, restock_consumers;
GRANT INSERT ON outbox TO restock_customers;
GRANT SELECT, INSERT, UPDATE ON inbox TO restock_customers;
GRANT SELECT, INSERT ON effects TO restock_customers;
GRANT EXECUTE ON FUNCTION ensure_partitions(integer) TO restock_customers;
