-- A group that is being sent may be taken back. The operator asks for that, and the relay,
-- once it has let go of what it had loaded, says that the group is parked: only then is
-- nothing of it sent any more.

-- +goose Up
SET LOCAL lock_timeout = '5s';

ALTER TABLE parked_groups DROP CONSTRAINT parked_groups_state_check,
    ADD CONSTRAINT parked_groups_state_check CHECK (state IN ('parked', 'sending', 'cancelling'));
