-- What each role may do with the tables about events. The outbox is insert only
-- for those that write it and read only for the relay; nobody here may update
-- or delete one of its rows.

-- +goose Up
GRANT INSERT ON outbox TO restock_api, restock_consumers;
GRANT SELECT ON outbox, ledger, parked, parked_groups, inbox, effects, watermarks TO restock_maintenance;
GRANT SELECT ON outbox TO restock_relay;
GRANT SELECT, INSERT ON ledger, parked TO restock_relay;
GRANT SELECT, INSERT, UPDATE, DELETE ON parked_groups TO restock_relay;
GRANT SELECT, INSERT, UPDATE ON watermarks TO restock_relay;
GRANT SELECT, INSERT, UPDATE ON inbox TO restock_consumers;
GRANT SELECT, INSERT ON effects TO restock_consumers;

-- What is parked may be sent or skipped: an operator asks, the relay carries it out.
GRANT UPDATE (outcome, message_id, sequence_number, published_at) ON ledger TO restock_relay;
GRANT UPDATE (reason, detail, state, asked_by, asked_at, resolved_at) ON parked TO restock_relay;
GRANT UPDATE (state, asked_by, asked_at, note, resolved_at) ON parked TO restock_maintenance;
GRANT UPDATE (state, asked_by, asked_at) ON parked_groups TO restock_maintenance;
