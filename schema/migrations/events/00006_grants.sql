-- What each role may do with the tables about events. The outbox is insert only
-- for those that write it and read only for the relay; nobody here may update
-- or delete one of its rows.

-- +goose Up
GRANT INSERT ON outbox TO restock_api, restock_consumers;
GRANT SELECT ON outbox, ledger, parked, inbox, effects, watermarks TO restock_maintenance;
GRANT SELECT ON outbox TO restock_relay;
GRANT SELECT, INSERT ON ledger TO restock_relay;
GRANT SELECT, INSERT ON parked TO restock_relay;
GRANT SELECT, INSERT, UPDATE ON watermarks TO restock_relay;
GRANT SELECT, INSERT, UPDATE ON inbox TO restock_consumers;
GRANT SELECT, INSERT ON effects TO restock_consumers;
