-- The consumers of the customers database have a role of their own: who may
-- change customers has no business in the shop, and the other way round. It is
-- made as the roles of every database with an outbox are, and for the same
-- reasons: only where it is missing, with two migrations at once, and without a
-- password.

-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'restock_customers') THEN
        RETURN;
    END IF;
    CREATE ROLE restock_customers LOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL; -- another database's migration won
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'role restock_customers does not exist and % may not create it', current_user
            USING HINT = 'As an administrator run: CREATE ROLE restock_customers LOGIN; then migrate again.';
END $$;
-- +goose StatementEnd
