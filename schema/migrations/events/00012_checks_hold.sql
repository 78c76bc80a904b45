-- Every row passed the checks that these replace. Inserts go on meanwhile.

-- +goose Up
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_message_group_check;
ALTER TABLE outbox VALIDATE CONSTRAINT outbox_attributes_count;
